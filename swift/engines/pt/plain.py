"""A forward of our own for the commonest decoder (Llama, Mistral, Qwen 2 and 3 and all that is built like them), with little between products.

The model's weights are used where they lie. q, k and v are one product, and so are gate and up: these weights are laid side by side once,
and the model's own parameters become parts of that, so nothing is held twice and the model goes on as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from swift.engines.pt.attention import Layout, read
from swift.engines.pt.lora import Bank

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class Joined:
    """Linear layers of the same input as one product."""

    def __init__(self, layers: Sequence[nn.Linear], bank: Bank | None):
        self.layers = list(layers)
        self.weight, self.bias = layers[0].weight.detach(), layers[0].bias.detach() if layers[0].bias is not None else None
        if len(layers) > 1:
            self.join()
        self.use(bank)

    def join(self) -> None:
        """Lay the weights side by side, and let the layers' own parameters be parts of that: plain tensors, that can be trained on."""
        with torch.inference_mode(False), torch.no_grad():
            self.weight = torch.cat([layer.weight for layer in self.layers])
            self.bias = torch.cat([layer.bias for layer in self.layers]) if self.bias is not None else None
            first = 0
            for layer in self.layers:
                part = slice(first, first + layer.out_features)
                layer.weight.data = self.weight[part]
                if self.bias is not None:
                    layer.bias.data = self.bias[part]
                first += layer.out_features

    def moved(self) -> bool:
        """Whether somebody gave the layers other memory since."""
        return self.layers[0].weight.data_ptr() != self.weight.data_ptr()

    def again(self) -> None:
        if not self.moved():
            return
        if len(self.layers) > 1:
            self.join()
        else:
            self.weight = self.layers[0].weight.detach()
            self.bias = self.layers[0].bias.detach() if self.bias is not None else None

    def use(self, bank: Bank | None) -> None:
        """The layers' A side by side (k R, in), and their B as blocks (out, k R) so that each takes its own."""
        self.down = self.up = None
        products = [bank.products.get(layer) if bank is not None else None for layer in self.layers]
        some = next((product for product in products if product is not None), None)
        if some is None:
            return
        rank = some[0].shape[0]
        downs = [product[0] if product is not None else torch.zeros_like(some[0]) for product in products]
        none = [self.weight.new_zeros(layer.out_features, rank) for layer in self.layers]
        ups = [product[1] if product is not None else zeros for product, zeros in zip(products, none, strict=True)]
        self.down, self.up = torch.cat(downs), torch.block_diag(*ups)

    def __call__(self, x: Tensor, columns: Tensor | None) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        if columns is None or self.down is None or self.up is None:
            return y
        kept = columns if len(self.layers) == 1 else columns.repeat(1, len(self.layers))
        return torch.addmm(y, F.linear(x, self.down) * kept, self.up.T)


@dataclass
class Layer:
    before_attention: nn.Module
    before_mlp: nn.Module
    qkv: Joined
    o: Joined
    gate_up: Joined
    down: Joined
    q_norm: nn.Module | None
    k_norm: nn.Module | None


class Plain:
    def __init__(self, model: PreTrainedModel, bank: Bank | None):
        inner: Any = model.base_model
        config = model.config
        self.embed, self.norm, self.rotary = inner.embed_tokens, _norm(inner.norm), inner.rotary_emb
        self.layers = [_layer(layer, bank) for layer in inner.layers]
        self.head = Joined([_linear(model.get_output_embeddings())], bank)
        self.head_dim = inner.layers[0].self_attn.head_dim
        self.scale = inner.layers[0].self_attn.scaling
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.ops: Any = _kernels(self.embed.weight)

    @classmethod
    def of(cls, model: PreTrainedModel, bank: Bank | None) -> Plain | None:
        """Where the modules are those of such a model; whether they are put together the same way, the trial says (forward.py)."""
        if getattr(model.config, "hidden_act", None) != "silu" or len({weight.device for weight in model.parameters()}) > 1:
            return None
        try:
            return cls(model, bank)
        except (TypeError, AttributeError, IndexError, ImportError):
            return None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The model itself is not touched. Weights that were given other memory meanwhile are laid side by side again."""
        for joined in self._products():
            joined.again()
        yield

    def use(self, bank: Bank | None) -> None:
        for joined in self._products():
            joined.use(bank)

    def _products(self) -> list[Joined]:
        return [self.head, *(one for layer in self.layers for one in (layer.qkv, layer.o, layer.gate_up, layer.down))]

    def logits(self, ids: Tensor, positions: Tensor, at: Layout, last: Tensor | None = None) -> Tensor:
        ops, columns = self.ops, at.adapters
        h = F.embedding(ids, self.embed.weight)
        cos, sin = (x[0] for x in self.rotary(h[None], positions[None]))
        turn = ops.turning(cos, sin)
        delta = None
        for number, layer in enumerate(self.layers):
            h, x = ops.add_norm(h, delta, layer.before_attention.weight, layer.before_attention.variance_epsilon)
            qkv = layer.qkv(x, columns).view(len(ids), self.heads + 2 * self.key_heads, self.head_dim)
            if layer.q_norm is not None and layer.k_norm is not None:
                qkv = self._normed(qkv, layer.q_norm, layer.k_norm)
            q = ops.turn_and_keep(number, qkv, self.heads, self.key_heads, turn, at)
            if last is not None and number == len(self.layers) - 1 and not h.is_cuda:  # of the others only keys and values are wanted
                q, h, at, columns, last = q[last], h[last], at.of_last(), columns[last] if columns is not None else None, None
            a = read(number, q, at, scale=self.scale)
            h, x = ops.add_norm(h, layer.o(a.flatten(1), columns), layer.before_mlp.weight, layer.before_mlp.variance_epsilon)
            delta = layer.down(ops.silu_mul(layer.gate_up(x, columns)), columns)
        if last is not None:
            h, delta, columns = h[last], delta[last], columns[last] if columns is not None else None  # type: ignore[index]
        _, x = ops.add_norm(h, delta, self.norm.weight, self.norm.variance_epsilon)
        return self.head(x, columns)

    def _normed(self, qkv: Tensor, q_norm: Any, k_norm: Any) -> Tensor:
        q, k, v = qkv.split([self.heads, self.key_heads, self.key_heads], 1)
        normed = [
            self.ops.add_norm(x.reshape(-1, self.head_dim), None, norm.weight, norm.variance_epsilon)[1]
            for x, norm in ((q, q_norm), (k, k_norm))
        ]
        return torch.cat([normed[0].view_as(q), normed[1].view_as(k), v], 1)


class Torch:
    """Between the products, in torch's own words. kernels.py has the same for a GPU, fused."""

    @staticmethod
    def add_norm(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """(h + delta, its RMS norm)."""
        if delta is not None:
            h = h + delta
        if h.dtype == torch.float32:
            return h, F.rms_norm(h, h.shape[-1:], weight, eps)
        return h, weight * F.rms_norm(h.float(), h.shape[-1:], None, eps).to(h.dtype)

    @staticmethod
    def turning(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """(T, 1, D) each; the sign that the first half of a turned vector gets is in the sine."""
        half = cos.shape[-1] // 2
        return cos[:, None], torch.cat([-sin[:, :half], sin[:, half:]], -1)[:, None]

    @staticmethod
    def turn_and_keep(number: int, qkv: Tensor, heads: int, key_heads: int, turn: tuple[Tensor, Tensor], at: Layout) -> Tensor:
        """Rotary embedding of q and k; k and v go to the cache. Returns q (T, H, D)."""
        cos, sin = turn
        qk = qkv[:, : heads + key_heads]
        turned = torch.addcmul(qk * cos, qk.roll(qk.shape[-1] // 2, -1), sin)
        at.cache.write(number, at.where, turned[:, heads:], qkv[:, heads + key_heads :])
        return turned[:, :heads]

    @staticmethod
    def silu_mul(gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)


def _kernels(weight: Tensor) -> Any:
    if not weight.is_cuda:
        return Torch
    from swift.engines.pt import kernels  # Triton is there where CUDA is

    return kernels


def _linear(module: Any) -> nn.Linear:
    if isinstance(module, BaseTunerLayer):
        module = module.get_base_layer()
    if type(module) is not nn.Linear:
        raise TypeError(f"{type(module).__name__} is no plain linear layer")
    return module


def _layer(layer: Any, bank: Bank | None) -> Layer:
    """Raises TypeError or AttributeError where the layer is of another kind."""
    attention, mlp = layer.self_attn, layer.mlp
    names = [{name for name, _ in module.named_children()} for module in (layer, attention, mlp)]
    if names[0] != LAYER or names[1] not in (ATTENTION, ATTENTION | {"q_norm", "k_norm"}) or names[2] != MLP:
        raise TypeError(f"{type(layer).__name__} has other parts")
    qkv = [_linear(module) for module in (attention.q_proj, attention.k_proj, attention.v_proj)]
    gate_up = [_linear(module) for module in (mlp.gate_proj, mlp.up_proj)]
    if any(len({module.bias is None for module in group}) > 1 for group in (qkv, gate_up)):
        raise TypeError(f"{type(layer).__name__} has a bias on some layers only")
    return Layer(
        _norm(layer.input_layernorm),
        _norm(layer.post_attention_layernorm),
        Joined(qkv, bank),
        Joined([_linear(attention.o_proj)], bank),
        Joined(gate_up, bank),
        Joined([_linear(mlp.down_proj)], bank),
        _norm(attention.q_norm) if "q_norm" in names[1] else None,
        _norm(attention.k_norm) if "q_norm" in names[1] else None,
    )


def _norm(module: Any) -> Any:
    if [name for name, _ in module.named_parameters()] != ["weight"] or not hasattr(module, "variance_epsilon"):
        raise TypeError(f"{type(module).__name__} is no RMS norm")
    return module

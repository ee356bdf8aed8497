"""Several LoRAs in one batch: the small matrices of all adapters stand side by side as one product, and each token keeps its own columns.

With A (R, in) and B (out, R) of all adapters together, R the sum of their ranks, a layer's answer gains `((x Aᵀ) * columns) Bᵀ`, where
`columns` (T, R) is 1 in the columns of the token's own adapters. The base's rows have zeros. So rows of a batch may mix adapters freely,
at the cost of one product as wide as all ranks together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class Bank:
    """The adapters of a model as such products. PEFT has loaded them, and its own layers are off while a batch runs."""

    def __init__(self, model: PeftModel, names: Sequence[str]):
        self.model, self.names = model, list(names)
        self.columns: Tensor | None = None  # (T, R) of the running forward, for the hooks
        layers = [layer for layer in model.modules() if isinstance(layer, LoraLinear)]
        self._ranks = [max((layer.r.get(name, 0) for layer in layers), default=0) for name in self.names]
        self.products = {layer.get_base_layer(): self._product(layer) for layer in layers}

    def _product(self, layer: LoraLinear) -> tuple[Tensor, Tensor]:
        """(A (R, in), B (out, R)) in the base weight's dtype; the scale is in B. An adapter of less rank in this layer has zero columns."""
        weight = layer.get_base_layer().weight
        assert isinstance(weight, Tensor)
        down = weight.new_zeros(sum(self._ranks), weight.shape[1])
        up = weight.new_zeros(weight.shape[0], sum(self._ranks))
        first = 0
        for name, rank in zip(self.names, self._ranks, strict=True):
            if name in layer.lora_A:
                own = layer.r[name]
                down[first : first + own] = layer.get_parameter(f"lora_A.{name}.weight").detach()
                up[:, first : first + own] = layer.get_parameter(f"lora_B.{name}.weight").detach() * layer.scaling[name]
            first += rank
        return down, up

    def row(self, wanted: Sequence[str]) -> list[float]:
        """(R,) the columns of a token that these adapters answer."""
        return [float(name in wanted) for name, rank in zip(self.names, self._ranks, strict=True) for _ in range(rank)]

    def more(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What the adapters add to `layer(x)`, x (T, in) or (1, T, in); None where no token or no adapter has a part in it."""
        product = self.products.get(layer)
        if product is None or self.columns is None:
            return None
        down, up = product
        return ((x @ down.T) * self.columns) @ up.T

    @contextmanager
    def off(self) -> Iterator[None]:
        """PEFT's own layers pass on what the base says."""
        with self.model.disable_adapter():
            yield

    @contextmanager
    def on_layers(self) -> Iterator[None]:
        """PEFT's layers are off, and each adapted one gains `more`."""
        with self.off(), ExitStack() as hooks:
            for layer in self.products:
                handle = layer.register_forward_hook(self._hook)
                hooks.callback(handle.remove)
            yield

    def _hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        more = self.more(layer, inputs[0])
        return output if more is None else output + more


def bankable(model: PeftModel, name: str) -> bool:
    """Whether an adapter is plain LoRA on linear layers: no DoRA, no biases, no layers of its own, no new rows of an embedding."""
    config = model.peft_config[name]
    if not isinstance(config, LoraConfig) or config.use_dora or config.bias != "none" or getattr(config, "lora_bias", False):
        return False
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and name in (*layer.lora_A, *layer.lora_embedding_A):
            base = layer.get_base_layer() if isinstance(layer, LoraLinear) else None
            if type(base) is not nn.Linear or getattr(layer, "lora_variant", {}).get(name) is not None or layer.merged_adapters:
                return False
    return not (config.modules_to_save or getattr(config, "trainable_token_indices", None) or getattr(config, "target_parameters", None))

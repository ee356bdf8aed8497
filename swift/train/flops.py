"""How many floating-point operations a micro-batch asks for, and how many the GPU can do: the share of the matrix peak in a log line.

What the mathematics asks for is counted, not what is executed: what is computed again in backward (recomputed layers, the output layer's
logits) does not count. Everything comes from numbers that the host has, so that the device need not be waited for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from swift.models.layout import inner_model
from swift.objectives.head import LogProbHead
from swift.objectives.objective import Batch
from swift.train.compiled import EXPERTS, layers

LOCAL = ("sliding_attention", "chunked_attention")  # transformers' names of layers that look back a window only
SIZES = (8192, 4096, 2048, 1024)  # rows of the square matrices that the peak is measured with: the largest that there is memory for
REPEATS = 10


class StepFlops:
    """FLOP of forward and backward of a micro-batch.

    A weight of a linear layer costs 2 a token forward, 2 for the gradient of its input where something before it is trained, 2 for its
    own where it is trained itself; so do LoRA's matrices. Two tokens that see each other cost 2 for each number of a query, and of a value,
    and twice that in backward. The output layer costs only where something is learned. Embeddings, norms and what is added or
    activated are left out. Inputs that are known to need no gradient only because they stand in the first trained layer are counted with one.
    """

    def __init__(self, model: nn.Module):
        self.token, self.learned = _linear_layers(model)
        self.pairs, self.causal = _attention(model)  # window (None: all) -> FLOP of a pair of tokens, over all layers

    def __call__(self, batch: Batch) -> float:
        """0 for a batch that stands in for missing rows."""
        if batch["empty"]:
            return 0.0
        lengths = batch["segment_lengths"]
        seen = sum(flops * sum(self._seen(length, window) for length in lengths) for window, flops in self.pairs.items())
        return self.token * sum(lengths) + self.learned * len(batch["learned"]) + seen

    def _seen(self, length: int, window: int | None) -> int:
        """Pairs of tokens of one sample of which one sees the other."""
        if not self.causal:
            return length * length
        reach = min(length, window or length)
        return reach * (reach + 1) // 2 + (length - reach) * reach


def _linear_layers(model: nn.Module) -> tuple[float, float]:
    """(FLOP a token, FLOP a learned token of the output layer)."""
    token = learned = 0.0
    trained = False  # whether something that was met so far is: gradients go back no further
    experts = _share_of_experts(model)
    for name, module in model.named_modules():
        own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if "original_module" not in name:  # PEFT keeps it beside the copy that is trained
            flops = 2.0 * (1 + trained + own) * _weights(module)
            if isinstance(module, LogProbHead):
                learned += flops
            else:
                token += flops * (experts if ".experts" in name and "shared" not in name else 1.0)
        trained = trained or own
    return token, learned


def _weights(module: nn.Module) -> int:
    """Numbers of the matrices that a token is multiplied with in `module` itself; quantised layers store theirs in other shapes."""
    if hasattr(module, "base_layer") or isinstance(module, nn.Embedding):
        return 0
    ins, outs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(ins, int) and isinstance(outs, int):
        return ins * outs
    # GPT-2's linear layers, routers, all experts of a layer in one tensor
    return sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() in (2, 3))


def _config(model: nn.Module) -> Any:
    inner = inner_model(model)
    return None if inner is None else inner.config.get_text_config(decoder=True)


def _share_of_experts(model: nn.Module) -> float:
    """Which part of a layer's experts one token goes through."""
    config = _config(model)
    experts = next((number for name in EXPERTS if (number := getattr(config, name, None))), None)
    return (getattr(config, "num_experts_per_tok", None) or experts) / experts if experts else 1.0


def _attention(model: nn.Module) -> tuple[dict[int | None, float], bool]:
    config, pairs = _config(model), Counter()
    heads = getattr(config, "num_attention_heads", None)
    if not heads:
        return {}, True
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    query = getattr(config, "qk_head_dim", None) or width
    value = getattr(config, "v_head_dim", None) or width
    kinds = getattr(config, "layer_types", None) or ["attention"] * config.num_hidden_layers
    first = _first_trained(model)
    for number, kind in enumerate(kinds):
        if "attention" not in kind or kind == "linear_attention":
            continue
        local = kind in LOCAL or (kind == "attention" and getattr(config, "use_sliding_window", True))
        window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None) if local else None
        pairs[window] += 2.0 * heads * (query + value) * (3 if number >= first else 1)
    return dict(pairs), all(getattr(module, "is_causal", True) for module in model.modules())


def _first_trained(model: nn.Module) -> int:
    """The first layer through which gradients go."""
    inner = inner_model(model)
    embeddings = inner.get_input_embeddings() if inner is not None else None
    if embeddings is not None and any(parameter.requires_grad for parameter in embeddings.parameters()):
        return 0
    found = layers(model)
    trained = (number for number, layer in enumerate(found) if any(parameter.requires_grad for parameter in layer.parameters()))
    return next(trained, len(found))


def measured_peak(dtype: torch.dtype, device: torch.device) -> float | None:
    """FLOP a second of one large matrix product in `dtype` on this GPU; None elsewhere. Takes some tens of milliseconds."""
    if device.type != "cuda":
        return None
    free = torch.cuda.mem_get_info(device)[0] // 2
    size = next((size for size in SIZES if 3 * size * size * dtype.itemsize <= free), None)
    if size is None:
        return None
    random = torch.Generator(device).manual_seed(0)  # its own: the run's random numbers are as they would be without this
    left, right = (torch.randn(size, size, dtype=dtype, device=device, generator=random) for _ in range(2))
    out = torch.empty_like(left)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(3):  # the first ones find out how to do it
        torch.mm(left, right, out=out)
    begin.record()
    for _ in range(REPEATS):
        torch.mm(left, right, out=out)
    end.record()
    end.synchronize()
    del left, right, out
    torch.cuda.empty_cache()
    return REPEATS * 2.0 * size**3 / (begin.elapsed_time(end) / 1000)


def gpus(model: nn.Module) -> int:
    """On how many GPUs the weights of this process lie."""
    return len({parameter.device for parameter in model.parameters() if parameter.is_cuda})

"""How much GPU memory a training step takes, from the model's shapes: what --activation_checkpointing auto chooses by.

The figures are those of layers that are compiled or not, compared with what an H100 measured (docs/speed.md).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from swift.objectives.head import LogProbHead
from swift.train.compiled import SELECTIVE, layers

Recompute = Literal["none", "selective", "full"]

GIB = 2**30
EAGER = 1.35  # what layers keep that are not compiled, against those that are
SPARE = 0.92  # share of the free memory that may be planned with: the rest goes to fragments and to libraries


class Need(NamedTuple):
    """Bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / GIB:.1f}" for name, value in self._asdict().items())
        return f"{self.total / GIB:.1f} GiB ({parts})"


def need(model: nn.Module, tokens: int, *, recompute: Recompute, compiled: bool) -> Need:
    """What a step over `tokens` tokens takes."""
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    gradients = sum(p.numel() * p.element_size() for p in trained)
    per_token, inputs, count = layer_bytes(model)
    kept = per_token * (1.0 if compiled else EAGER)
    match recompute:
        case "none":
            activations = count * kept
        case "selective":
            activations = count * kept * SELECTIVE
        case _:
            activations = count * inputs + kept  # each layer's input, and one layer computed again
    vocabulary, hidden = output_shape(model)
    return Need(
        weights,
        gradients,
        2 * gradients,
        int(tokens * activations),
        LogProbHead.chunk * vocabulary * 8 + 2 * tokens * hidden * 2,  # a chunk's logits and their gradient; hidden states and theirs
    )


def layer_bytes(model: nn.Module) -> tuple[float, float, int]:
    """(bytes a token that one layer keeps for backward, bytes of its input, number of layers) in the model's dtype.

    A layer keeps what goes into its linear modules and what comes out of them.
    """
    found = layers(model)
    if not found:
        return 0.0, 0.0, 0
    size = next(found[0].parameters()).element_size()
    outs, ins = 0, set()
    for name, module in found[0].named_modules():
        if isinstance(module, nn.Linear) and "lora_" not in name:
            outs += module.out_features
            ins.add((name.removesuffix(".base_layer").rpartition(".")[0], module.in_features))
    hidden = min((width for _, width in ins), default=0)
    return float(size * (outs + sum(width for _, width in ins) + 2 * hidden)), float(size * hidden), len(found)


def output_shape(model: nn.Module) -> tuple[int, int]:
    """(vocabulary, hidden size) of the output layer."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return (head.weight.shape[0], head.weight.shape[1]) if head is not None else (0, 0)


def choose(model: nn.Module, tokens: int, *, compiled: bool, free: int) -> tuple[Recompute, Need]:
    """The cheapest of none, selective (compiled layers only) and full that fits into `free` bytes, weights included; full where none does."""
    kinds: tuple[Recompute, ...] = ("none", "selective", "full") if compiled else ("none", "full")
    for kind in kinds:
        needed = need(model, tokens, recompute=kind, compiled=compiled)
        if needed.total <= SPARE * free:
            return kind, needed
    return "full", needed


def free_memory() -> int:
    """Bytes that this process's GPU has for a run: what is free now and what its own weights take already."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved()

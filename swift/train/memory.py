"""How much GPU memory a training step takes, from the model's shapes: what --activation_checkpointing auto chooses by.

The figures are those of layers that are compiled or not, compared with what an H100 measured (docs/speed.md).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from swift import logs
from swift.models.quantized import scale_bytes, written_out_bytes
from swift.objectives.head import LogProbHead
from swift.train.compiled import SELECTIVE, layers
from swift.train.offload import ON_GPU, host_bytes

Recompute = Literal["none", "selective", "full", "offload"]

GIB = 2**30
EAGER = 1.35  # what layers keep that are not compiled, against those that are
BACKWARD = 3  # gradients as wide as a layer's widest product that live at once: those of gate, up and their product
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
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) + scale_bytes(model) + written_out_bytes(model)
    gradients = sum(p.numel() * p.element_size() for p in trained)
    per_token, inputs, widest, count = layer_bytes(model)
    kept = per_token * (1.0 if compiled else EAGER)
    match recompute:
        case "none":
            activations = count * kept
        case "selective":
            activations = count * kept * SELECTIVE
        case "full":
            activations = count * inputs + kept  # each layer's input, and one layer computed again
        case "offload":
            activations = min(count, ON_GPU) * inputs + kept
    activations += BACKWARD * widest
    return Need(
        weights,
        gradients,
        2 * gradients,
        int(tokens * activations),
        head_bytes(model, tokens),
    )


def layer_bytes(model: nn.Module) -> tuple[float, float, float, int]:
    """(bytes a token that one layer keeps for backward, of its input, of its widest product, number of layers) in the dtype computed in.

    A layer keeps what goes into its linear modules and what comes out of them. Stored weights may be narrower than what they
    compute in (4 and 8 bits), but are no floating point numbers then: those that are say the dtype.
    """
    found = layers(model)
    if not found:
        return 0.0, 0.0, 0.0, 0
    own = (p for name, p in found[0].named_parameters() if "lora_" not in name)
    size = min((p.element_size() for p in own if p.is_floating_point() and p.element_size() > 1), default=2)
    outs, ins = [], set()
    for name, module in found[0].named_modules():
        if isinstance(module, nn.Linear) and "lora_" not in name:
            outs.append(module.out_features)
            ins.add((name.removesuffix(".base_layer").rpartition(".")[0], module.in_features))
    hidden = min((width for _, width in ins), default=0)
    kept = sum(outs) + sum(width for _, width in ins) + 2 * hidden
    return float(size * kept), float(size * hidden), float(size * max(outs, default=0)), len(found)


def head_bytes(model: nn.Module, tokens: int) -> int:
    """What the output layer takes: a chunk's logits and their gradient, the weight's gradient in float32 and as it is stored where it is
    trained; and hidden states, those in float32 within the last norm, and the gradients of both."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    if head is None:
        return 0
    vocabulary, hidden = head.weight.shape
    weight = vocabulary * hidden * (4 + head.weight.element_size()) if head.weight.requires_grad else 0
    return LogProbHead.chunk * vocabulary * 8 + weight + tokens * hidden * 12


def choose(model: nn.Module, tokens: int, *, compiled: bool, free: int, host: int | None = None) -> tuple[Recompute, Need]:
    """The cheapest of none, selective (compiled layers only), full and offload that fits into `free` bytes, weights included, and, for
    offload, into `host` bytes of the computer's memory (None: as many as it takes). Where none does, what needs least."""
    kinds: list[Recompute] = ["none", "selective", "full"] if compiled else ["none", "full"]
    if host is None or offloaded_bytes(model, tokens) <= host:
        kinds.append("offload")
    for kind in kinds:
        needed = need(model, tokens, recompute=kind, compiled=compiled)
        if needed.total <= SPARE * free:
            break
    return kind, needed


def offloaded_bytes(model: nn.Module, tokens: int) -> int:
    """What offload takes in the computer's memory for a micro-batch of `tokens` tokens."""
    _, inputs, _, count = layer_bytes(model)
    return host_bytes(count, tokens * inputs)


def free_memory() -> int:
    """Bytes that this process's GPU has for a run: what is free now and what its own weights take already."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved()


class PlannedAgainstPeak(TrainerCallback):
    """One line at the end of a run on a GPU: what the memory model took it to need, and what it took."""

    def __init__(self, planned: Need, tokens: int):
        self.planned, self.tokens = planned, tokens

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        peak = max((entry.get("memory(GiB)", 0.0) for entry in state.log_history), default=0.0)
        if peak and state.is_world_process_zero:
            logs.info(f"memory: planned {self.planned.total / GIB:.1f} GiB for {self.tokens:,} tokens a micro-batch, peak {peak:.1f} GiB")

"""How a run's steps are computed: whether layers are compiled, and what of their activations is computed again in backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from swift import logs
from swift.train.compiled import compile_layers, why_not
from swift.train.memory import Recompute, choose, free_memory

if TYPE_CHECKING:
    from swift.args.commands import SftCommand


class Plan(NamedTuple):
    compiled: bool
    recompute: Recompute

    def apply(self, model: nn.Module) -> None:
        """Compile the layers where that is planned; full recomputation is the Trainer's business."""
        if self.compiled:
            compile_layers(model, selective=self.recompute == "selective")


def plan_steps(args: SftCommand, model: nn.Module, rows: Any, *, max_length: int | None, computes_in: torch.dtype) -> Plan:
    """From --torch_compile, --activation_checkpointing and --gradient_checkpointing, or what fits, to a plan; what was chosen is said."""
    reason = why_not(model, computes_in)
    if reason and args.training.torch_compile:
        logs.warning(f"--torch_compile true has no effect: {reason}")
    elif reason and torch.cuda.is_available():
        logs.info(f"layers are not compiled: {reason}")
    compiled = reason is None and args.training.torch_compile is not False
    asked = asked_recompute(args)
    if asked == "selective" and not compiled:
        logs.warning("--activation_checkpointing selective needs compiled layers; full is used")
        return Plan(compiled, "full")
    if asked != "auto":
        return Plan(compiled, asked)
    if not torch.cuda.is_available():
        return Plan(compiled, "none")
    tokens = largest_step(rows, args.trainer.per_device_train_batch_size, max_length)
    free = free_memory()
    chosen, needed = choose(model, tokens, compiled=compiled, free=free)
    logs.info(
        f"activation checkpointing: {chosen}; {tokens:,} tokens a micro-batch are taken to need {needed}, {free / 2**30:.1f} are there"
    )
    return Plan(compiled, chosen)


def asked_recompute(args: SftCommand) -> Recompute | Literal["auto"]:
    """--activation_checkpointing, else --gradient_checkpointing true (full) or false (none), else auto."""
    if args.training.activation_checkpointing is not None:
        return args.training.activation_checkpointing
    whole = args.trainer.gradient_checkpointing
    return "auto" if whole is None else "full" if whole else "none"


def largest_step(rows: Any, batch_size: int, max_length: int | None) -> int:
    """Tokens of the largest micro-batch there can be: the longest rows together; where lengths are not known, rows of max_length."""
    lengths = getattr(rows, "lengths", None)
    if lengths is None:
        return batch_size * (max_length or 2048)
    return int(np.sort(lengths)[-batch_size:].sum())

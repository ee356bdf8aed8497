"""How a run's steps are computed: whether layers are compiled, and what of their activations is computed again in backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from swift import dist, logs
from swift.errors import UsageError
from swift.train.compiled import compile_layers, layers, why_not
from swift.train.memory import GIB, SPARE, Need, Recompute, choose, free_memory, need, offloaded_bytes
from swift.train.micro_batches import plan_split, say_split
from swift.train.offload import host_memory, offload_inputs

if TYPE_CHECKING:
    from swift.args.commands import SftCommand

HOST_SHARE = 0.8  # of the computer's memory that is there for offloading: data and other programs grow as well


class Plan(NamedTuple):
    compiled: bool
    recompute: Recompute
    tokens: int = 0  # of the largest micro-batch
    needed: Need | None = None  # on a GPU
    micro_batch_tokens: int = 0  # most tokens of one, where the rows of a step are regrouped; 0: as they are given

    @property
    def whole_layers(self) -> bool:
        """Whether whole layers are computed again, which the Trainer switches on."""
        return self.recompute in ("full", "offload")

    def apply(self, model: nn.Module) -> None:
        """Compile the layers where that is planned, and keep their inputs elsewhere."""
        if self.compiled:
            compile_layers(model, selective=self.recompute == "selective")
        if self.recompute == "offload":
            offload_inputs(model, self.tokens)


def plan_steps(args: SftCommand, model: nn.Module, rows: Any, *, max_length: int | None, computes_in: torch.dtype) -> Plan:
    """From --torch_compile, --activation_checkpointing, --gradient_checkpointing and --micro_batch_tokens, or what fits, to a plan.

    What is computed again is chosen for the longest row, and for so many tokens as keep a GPU busy; then as many tokens are put into a
    micro-batch as fit. What was chosen is said.
    Raises UsageError where --activation_checkpointing offload asks for more of the computer's memory than there is.
    """
    reason = why_not(model, computes_in)
    if reason and args.training.torch_compile:
        logs.warning(f"--torch_compile true has no effect: {reason}")
    elif reason and torch.cuda.is_available():
        logs.info(f"layers are not compiled: {reason}")
    compiled = reason is None and args.training.torch_compile is not False
    asked = asked_recompute(args)
    split = plan_split(args, lambda number: largest_step(rows, number, max_length))
    if asked == "selective" and not compiled:
        logs.warning("--activation_checkpointing selective needs compiled layers; full is used")
        asked = "full"
    if not torch.cuda.is_available():
        return Plan(compiled, without_gpu(asked), micro_batch_tokens=split.asked or 0)
    if asked == "offload" and len(layers(model)) < 2:
        logs.warning("--activation_checkpointing offload needs a model that says what its layers are; full is used")
        asked = "full"
    tokens = split.planned()
    free, host = free_memory(), int(HOST_SHARE * host_memory() / dist.local_world_size())
    if asked == "auto":
        chosen, _ = choose(model, tokens, compiled=compiled, free=free, host=host)
    else:
        chosen = asked

    def fits(more: int) -> bool:
        held = need(model, more, recompute=chosen, compiled=compiled).total
        return held <= SPARE * free and (chosen != "offload" or offloaded_bytes(model, more) <= host)

    limit = split.limit(fits)
    tokens = split.largest(limit)
    needed = need(model, tokens, recompute=chosen, compiled=compiled)
    say_split(limit, split)
    logs.info(f"activation checkpointing: {chosen}; {tokens:,} tokens a micro-batch are taken to need {needed}, {free / GIB:.1f} are there")
    if chosen == "offload":
        say_offloaded(offloaded_bytes(model, tokens), host)
    return Plan(compiled, chosen, tokens, needed, limit)


def without_gpu(asked: Recompute | Literal["auto"]) -> Recompute:
    if asked == "offload":
        logs.warning(
            "--activation_checkpointing offload: without a GPU the layers' inputs are in the computer's memory anyway; full is used"
        )
    return "none" if asked in ("auto", "none") else "full"


def say_offloaded(wanted: int, host: int) -> None:
    """One line on the computer's memory; UsageError where it is too little, before the machine begins to swap or ends the process."""
    if wanted > host:
        raise UsageError(
            f"--activation_checkpointing offload: each process would keep {wanted / GIB:.1f} GiB in the computer's memory, and may take "
            f"{host / GIB:.1f} GiB of it. Use smaller micro-batches or shorter rows, or --activation_checkpointing full"
        )
    logs.info(f"offload: up to {wanted / GIB:.1f} GiB of the computer's memory are pinned by each process, at the first step")


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

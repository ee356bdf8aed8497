"""What a run was computed of and where its time went: numbers that the host has, so that no step waits for the device.

At its end one line says what took the time, and another what to do about it where one thing stands out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from swift.objectives.objective import Batch

Kind = Literal["waiting", "saving", "evaluation"]

MUCH = 0.1  # share of the time, or of the places computed, from which on something is said about it
FEW_TOKENS, LOW_SHARE = 4096, 0.4  # a GPU that does less than this share with micro-batches smaller than that has too little to do


class Work(NamedTuple):
    """What was computed: tokens of rows, places (more where something stood in for missing rows), FLOP, micro-batches."""

    tokens: float = 0
    places: float = 0
    flops: float = 0
    micro_batches: float = 0

    def plus(self, batch: Batch, flops: float) -> Work:
        places = batch["input_ids"].numel()
        tokens = 0 if batch["empty"] else places
        return Work(self.tokens + tokens, self.places + places, self.flops + flops, self.micro_batches + 1)

    def since(self, before: Work) -> Work:
        return Work(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def padding_share(self) -> float:
        return 1 - self.tokens / self.places if self.places else 0.0


@dataclass
class Account:
    """Of one rank, from the first step on. What is neither waiting nor saving nor evaluation is computing."""

    device: torch.device
    peak: float | None = None  # FLOP a second of the matrix products of all GPUs
    work: Work = field(default_factory=Work)
    spent: dict[Kind, float] = field(default_factory=lambda: {"waiting": 0.0, "saving": 0.0, "evaluation": 0.0})
    steps: int = 0  # that were begun
    began: float = 0.0  # `training` when the first step began
    first_step: float = 0.0  # seconds, its rows and what is compiled in it included
    first_work: Work = field(default_factory=Work)
    first_wait: float = 0.0

    @property
    def training(self) -> float:
        """Seconds on a clock that stands still during evaluation and saving."""
        return time.perf_counter() - self.spent["saving"] - self.spent["evaluation"]

    def begin_step(self) -> None:
        if self.steps == 0:
            self.began = self.training
        if self.steps == 1:
            self.first_step, self.first_work, self.first_wait = self.training - self.began, self.work, self.spent["waiting"]
        self.steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time until rows are there. It does not count where the GPU still had something to do at its end."""
        began, queued = time.perf_counter(), None
        if self.device.type == "cuda":
            queued = torch.cuda.Event()
            queued.record()  # after all that the step before asked for
        yield
        if queued is None or queued.query():
            self.spent["waiting"] += time.perf_counter() - began

    @contextmanager
    def pause(self, kind: Kind) -> Iterator[None]:
        """Time that is no training. A GPU's steps are waited for first, so that they do not count as part of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent[kind] += time.perf_counter() - began

    def took(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Seconds and shares of the whole run, the mean over ranks; speed and shares of computed things after the first step."""
        if self.steps < 2:
            self.first_step, self.first_work, self.first_wait = self.training - self.began, self.work, self.spent["waiting"]
        rest = self.training - self.began - self.first_step
        waiting = self.spent["waiting"] - self.first_wait
        mine = [
            1.0,
            self.first_step,
            rest - waiting,
            waiting,
            self.spent["saving"],
            self.spent["evaluation"],
            *self.work.since(self.first_work),
        ]
        ranks, *sums = over_ranks(torch.tensor([*mine, *self.work], dtype=torch.float64, device=self.device)).tolist()
        first, computing, waiting, saving, evaluation = (value / ranks for value in sums[:5])
        steady, whole = Work(*sums[5:9]), Work(*sums[9:])
        total = first + computing + waiting + saving + evaluation
        found: dict[str, Any] = {"seconds": round(total, 2), "first_step_seconds": round(first, 2)}
        parts = {"computing": computing, "data_wait": waiting, "saving": saving, "evaluation": evaluation, "first_step": first}
        found |= {f"{name}_share": round(value / max(total, 1e-9), 4) for name, value in parts.items()}
        if steady.tokens:
            found["tokens/s"] = round(steady.tokens / max(computing + waiting, 1e-9), 1)
            if self.peak:
                found["matrix_peak_share"] = round(steady.flops / max(computing, 1e-9) / self.peak, 4)
        tokens = round(whole.tokens / max(whole.micro_batches, 1))
        return found | {"padding_share": round(whole.padding_share, 4), "tokens_per_micro_batch": tokens}


class Circumstances(NamedTuple):
    """What is known of how a run was made, for what its end says."""

    workers: int = 0
    compiled: bool = False
    short_of_memory: bool = False  # whole layers are computed again because nothing less fits


def in_words(took: dict[str, Any], how: Circumstances) -> str:
    """One line: what `Account.took` found."""
    used = f" ({_percent(took['matrix_peak_share'])} of the GPU's matrix peak)" if "matrix_peak_share" in took else ""
    parts = [f"{_percent(took['computing_share'])} computing{used}"]
    parts += [
        f"{_percent(took[f'{name}_share'])} {words}"
        for name, words in (("data_wait", "waiting for rows"), ("saving", "saving"), ("evaluation", "evaluation"))
        if took[f"{name}_share"] >= 0.005
    ]
    first = f"{took['first_step_seconds']:.3g} s{', compiling' if how.compiled else ''}"
    parts.append(f"{_percent(took['first_step_share'])} the first step ({first})")
    speed = f"; {took['tokens/s']:,.0f} tokens/s after the first step" if "tokens/s" in took else ""
    return f"what took the time ({took['seconds']:,.3g} s): {', '.join(parts)}{speed}"


def hints(took: dict[str, Any], how: Circumstances) -> list[str]:
    """What a user can do, of what stands out; numbers first."""
    found = []
    if took["data_wait_share"] > MUCH:
        found.append(
            f"{_percent(took['data_wait_share'])} waiting for rows: raise --dataloader_num_workers (now {how.workers}), "
            "or encode them before training (no --lazy_tokenize, no --streaming)"
        )
    if took["padding_share"] > MUCH:
        found.append(f"{_percent(took['padding_share'])} of what was computed stood in for missing rows: fewer GPUs or smaller steps")
    if took.get("matrix_peak_share", 1.0) < LOW_SHARE and took["tokens_per_micro_batch"] < FEW_TOKENS:
        found.append(
            f"{took['tokens_per_micro_batch']:,} tokens a micro-batch are too few to fill the GPU: raise --per_device_train_batch_size "
            "(lower --gradient_accumulation_steps as much and nothing else changes), or --micro_batch_tokens where it was set"
        )
    if how.short_of_memory:
        found.append(
            "about a quarter of the computing was whole layers computed again, because nothing less fits: a smaller --micro_batch_tokens "
            "or --max_length, or a quantised model (--quant_bits 4) makes room"
        )
    if how.compiled and took["first_step_share"] > 0.3:
        found.append(f"{_percent(took['first_step_share'])} the first step: runs this short may be faster with --torch_compile false")
    return found[:2]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"

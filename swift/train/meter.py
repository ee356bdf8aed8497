"""What is counted between two log lines: metrics as (sum, count) tensors, tokens and time as plain numbers."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from swift.objectives.objective import Batch


class Meter:
    """Adds up on the device without waiting for it."""

    def __init__(self) -> None:
        self.pairs: dict[str, Tensor] = {}  # name -> (sum, count)
        self.tokens = self.places = 0
        self.started = time.perf_counter()

    def add(self, metrics: dict[str, tuple[Tensor, Tensor]]) -> None:
        for name, (total, count) in metrics.items():
            pair = torch.stack([total.detach().double(), count.detach().double()])
            self.pairs[name] = self.pairs[name] + pair if name in self.pairs else pair

    def count(self, batch: Batch) -> None:
        """Tokens of rows, and places computed for them: they differ by what stands in for missing rows."""
        self.places += batch["input_ids"].numel()
        self.tokens += 0 if batch["empty"] else batch["input_ids"].numel()

    def ratios(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Each metric's sum over its count, over all ranks; one whose count is 0 is left out. `over_ranks` adds a tensor up."""
        names = sorted(self.pairs)
        if not names:
            return {}
        totals = over_ranks(torch.stack([self.pairs[name] for name in names])).tolist()
        return {name: total / count for name, (total, count) in zip(names, totals, strict=True) if count}

    def speed(self, over_ranks: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, float]:
        """Tokens a second over all ranks since the last log line, and the share of computed places that held no row."""
        tokens, places = over_ranks(torch.tensor([self.tokens, self.places], dtype=torch.float64, device=device)).tolist()
        if not places:
            return {}
        seconds = max(time.perf_counter() - self.started, 1e-9)
        return {"tokens/s": round(tokens / seconds, 1), "padding_share": round(1 - tokens / places, 4)}

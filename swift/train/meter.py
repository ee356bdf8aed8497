"""What is counted between two log lines: metrics as (sum, count) tensors on the device, tokens, operations and time on the host."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from swift.train.account import Account, Work


class Meter:
    """Adds up on the device without waiting for it. What it says of speed is what `account` gained since the meter was made."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.pairs: dict[str, Tensor] = {}  # name -> (sum, count)
        self.work, self.started, self.waited = account.work, account.training, account.spent["waiting"]

    def add(self, metrics: dict[str, tuple[Tensor, Tensor]]) -> None:
        for name, (total, count) in metrics.items():
            pair = torch.stack([total.detach().double(), count.detach().double()])
            self.pairs[name] = self.pairs[name] + pair if name in self.pairs else pair

    def ratios(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Each metric's sum over its count, over all ranks; one whose count is 0 is left out. `over_ranks` adds a tensor up."""
        names = sorted(self.pairs)
        if not names:
            return {}
        totals = over_ranks(torch.stack([self.pairs[name] for name in names])).tolist()
        return {name: total / count for name, (total, count) in zip(names, totals, strict=True) if count}

    def speed(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Tokens a second over all ranks, evaluation and saving left out, and shares: of the GPUs' matrix peak, of computed places that
        held no row, of the time in which a rank waited for rows."""
        seconds = max(self.account.training - self.started, 1e-9)
        waited = (self.account.spent["waiting"] - self.waited) / seconds
        mine = [1.0, waited, *self.account.work.since(self.work)]
        ranks, waited, *sums = over_ranks(torch.tensor(mine, dtype=torch.float64, device=self.account.device)).tolist()
        work = Work(*sums)
        if not work.places:
            return {}
        peak = self.account.peak
        used = {"matrix_peak_share": round(work.flops / seconds / peak, 4)} if peak else {}
        shares = used | {"padding_share": round(work.padding_share, 4), "data_wait_share": round(waited / ranks, 4)}
        return {"tokens/s": round(work.tokens / seconds, 1)} | shares

"""Weighted next-token loss: fine-tuning on demonstrations, and pre-training, which is the same with every token learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from swift.objectives.objective import Batch, Example, Loss, lay_end_to_end

if TYPE_CHECKING:
    from swift.data.sample import Sample
    from swift.objectives.policy import Policy
    from swift.template.encoded import Encoded, RowSkipped
    from swift.template.template import Template


@dataclass(frozen=True)
class SFT:
    """Σ w·(−log p) over learned tokens, divided by their number (not by Σ w)."""

    acc_strategy: Literal["token", "seq"] = "token"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `loss` measures beside the loss."""
        return (f"{self.acc_strategy}_acc",)

    def encode(self, sample: Sample, template: Template) -> Encoded:
        return template.encode_sample(sample)

    def encode_many(self, samples: Sequence[Sample], template: Template) -> list[Encoded | RowSkipped]:
        """As `encode` for each, in fewer calls of the tokenizer; a row that is skipped gives its RowSkipped."""
        return template.encode_many(samples)

    def collate(self, items: Sequence[Sequence[Example]]) -> Batch:
        return lay_end_to_end(items)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"tokens": (batch["shift_labels"] >= 0).sum()}

    def loss(self, policy: Policy, batch: Batch, *, metrics: bool) -> Loss:
        logps, correct = policy.logps(batch, want_correct=metrics, slopes=batch["weights"])
        total = -(batch["weights"] * logps).sum()
        if correct is None:
            return Loss({"tokens": total})
        return Loss({"tokens": total}, {self.metrics[0]: self._accuracy(correct, batch)})

    def _accuracy(self, correct: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(right, of how many): tokens, or samples all of whose learned tokens are right."""
        learned = (batch["shift_labels"] >= 0)[0]
        if self.acc_strategy == "token":
            return correct.sum(), learned.sum()
        lengths = torch.tensor(batch["segment_lengths"], device=learned.device)
        sample = torch.repeat_interleave(torch.arange(len(lengths), device=learned.device), lengths)
        right = torch.zeros(len(lengths), dtype=torch.long, device=learned.device).index_add_(0, sample, correct[0].long())
        asked = torch.zeros_like(right).index_add_(0, sample, learned.long())
        return ((right == asked) & (asked > 0)).sum(), (asked > 0).sum()

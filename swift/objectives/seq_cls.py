"""A text's class, several classes, or a number: transformers' losses for sequence classification, as sums over rows.

S rows, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swift.data.encoded import one_by_one
from swift.data.labels import Problem, read_target
from swift.models.classifier import Scorer
from swift.objectives.objective import Batch, Example, Loss, lay_end_to_end
from swift.template.encoded import IGNORE, Encoded, RowSkipped

if TYPE_CHECKING:
    from swift.data.sample import Sample
    from swift.objectives.policy import Policy
    from swift.template.template import Template

METRICS: dict[Problem, tuple[str, ...]] = {
    "single_label_classification": ("acc",),
    "multi_label_classification": ("acc", "label_acc"),
    "regression": ("mse", "mae"),
}


@dataclass(frozen=True)
class SequenceClassification:
    """Cross-entropy of one class, binary cross-entropy of several, or the squared error of numbers; each row weighs the same."""

    num_labels: int
    problem: Problem

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `loss` measures beside the loss."""
        return METRICS[self.problem]

    def encode(self, sample: Sample, template: Template) -> Encoded:
        """The whole conversation, its answer too where it has one; what is learned is `target` alone."""
        target = read_target(sample.label, self.num_labels, self.problem)
        ids = template.encode_text(sample)
        if not ids:
            raise RowSkipped("empty text", "nothing is left to classify")
        return Encoded(ids, [IGNORE] * len(ids), [0.0] * len(ids), target)

    def encode_many(self, samples: Sequence[Sample], template: Template) -> list[Encoded | RowSkipped]:
        return list(one_by_one(lambda sample: self.encode(sample, template))(samples))

    def collate(self, items: Sequence[Sequence[Example]]) -> Batch:
        """As `lay_end_to_end`, with `targets` (S, 1) for one class, else (S, L)."""
        batch = lay_end_to_end(items)
        width = 1 if self.problem == "single_label_classification" else self.num_labels
        targets = [example["target"] for item in items for example in item] or [np.zeros(width, np.float32)]
        return batch | {"targets": torch.from_numpy(np.stack(targets))}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"rows": torch.tensor(0 if batch["empty"] else len(batch["targets"]))}

    def loss(self, policy: Policy, batch: Batch, *, metrics: bool) -> Loss:
        """Metrics cost nothing here and are always given: a log line tells of all rows since the last one."""
        scores = Scorer(policy.model)(batch)
        targets = batch["targets"].to(scores.device)
        here = 0 if batch["empty"] else 1  # ranks without a row take part in every sum: the others wait for them
        total = row_losses(scores, targets, self.problem).sum() * here
        found = measure(scores.detach(), targets, self.problem)
        return Loss({"rows": total}, {name: (value * here, count * here) for name, (value, count) in found.items()})


def row_losses(scores: Tensor, targets: Tensor, problem: Problem) -> Tensor:
    """(S, L) float32, and (S, 1) or (S, L) -> (S,)."""
    if problem == "single_label_classification":
        return F.cross_entropy(scores, targets[:, 0].long(), reduction="none")
    if problem == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1)
    return F.mse_loss(scores, targets, reduction="none").mean(1)


def measure(scores: Tensor, targets: Tensor, problem: Problem) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> (sum, count): `acc` of rows that are wholly right, `label_acc` of single labels, mean squared and absolute errors."""
    rows = torch.tensor(len(scores), device=scores.device)
    if problem == "single_label_classification":
        return {"acc": ((scores.argmax(1) == targets[:, 0].long()).sum(), rows)}
    if problem == "multi_label_classification":
        right = (scores > 0) == (targets > 0.5)
        return {"acc": (right.all(1).sum(), rows), "label_acc": (right.sum(), rows * right.shape[1])}
    error = scores - targets
    return {"mse": (error.pow(2).mean(1).sum(), rows), "mae": (error.abs().mean(1).sum(), rows)}

"""What a run minimises, from a row to named sums. An objective knows no optimizer, no loop and no rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from swift.template.encoded import IGNORE

if TYPE_CHECKING:
    from swift.data.sample import Sample
    from swift.objectives.policy import Policy
    from swift.template.encoded import Encoded, RowSkipped
    from swift.template.template import Template

Example = dict[str, np.ndarray]  # input_ids, labels (T,) int64; weights (T,) float32
Batch = dict[str, Any]


@dataclass
class Loss:
    """`sums`: unit -> summed loss; the trainer divides each by the unit's global count. `metrics`: name -> (sum, count)."""

    sums: dict[str, Tensor]
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(Protocol):
    def encode(self, sample: Sample, template: Template) -> Encoded: ...

    def encode_many(self, samples: Sequence[Sample], template: Template) -> list[Encoded | RowSkipped]: ...

    def collate(self, items: Sequence[Sequence[Example]]) -> Batch: ...

    def counts(self, batch: Batch) -> dict[str, Tensor]: ...

    def loss(self, policy: Policy, batch: Batch, *, metrics: bool) -> Loss: ...


def lay_end_to_end(items: Sequence[Sequence[Example]]) -> Batch:
    """Any number of items (each a pack of samples, empty where a rank has no row left) -> one row of N tokens without padding.

    input_ids, position_ids, shift_labels (1, N) int64, weights (1, N) float32, learned (L,) the places with a label, cu_seq_lens
    (S + 1,) int32 and
    segment_lengths for S samples; `empty` where there was no sample at all.
    Labels and weights are shifted here and nowhere else: position t holds what it should predict, the last one of a sample nothing.
    """
    rows = [sample for item in items for sample in item]
    samples = rows or [_nothing()]
    lengths = [len(sample["input_ids"]) for sample in samples]
    shift_labels = np.concatenate([np.append(sample["labels"][1:], IGNORE) for sample in samples])
    weights = np.concatenate([np.append(sample["weights"][1:], 0) for sample in samples]).astype(np.float32)
    return {
        "input_ids": torch.from_numpy(np.concatenate([sample["input_ids"] for sample in samples]).astype(np.int64))[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "shift_labels": torch.from_numpy(shift_labels.astype(np.int64))[None],
        "weights": torch.from_numpy(weights)[None],
        "learned": torch.from_numpy(np.flatnonzero(shift_labels != IGNORE)),
        "cu_seq_lens": torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        "segment_lengths": tuple(lengths),
        "empty": not rows,
    }


def _nothing() -> Example:
    """Two tokens that teach nothing, for a rank whose share of a step is empty: it must still take part in the gradient's reduction."""
    return {"input_ids": np.zeros(2, np.int64), "labels": np.full(2, IGNORE), "weights": np.zeros(2, np.float32)}

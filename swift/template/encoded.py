"""What a conversation becomes: runs of equal loss weight, then token ids with labels and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

IGNORE = -100  # the label of a position that is not learned


class Run(NamedTuple):
    """A stretch of text with one loss weight."""

    text: str
    weight: float = 0.0
    literal: bool = False  # a person wrote it: it cannot spell special tokens (rulings 2)
    label: str | None = None  # what is learned here where it differs from `text` (a separator that stands for the stop text)


@dataclass(slots=True)
class Encoded:
    """T tokens. `labels[t]` is what position t should have been, IGNORE where nothing is learned; weights are 0 there.

    `target` is what the whole row should be answered with where no token is learned (classification).
    """

    input_ids: list[int]
    labels: list[int]
    weights: list[float]
    target: list[float] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def learned(self) -> int:
        """How many positions are learned when shifted: the first token of a row has nothing before it to predict it from."""
        if self.target is not None:
            return 1
        labels = self.labels[1:]
        return len(labels) - labels.count(IGNORE)


class RowSkipped(Exception):
    """A row that cannot be used, with a short reason that counts can be kept by; `detail` says more for the log."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail

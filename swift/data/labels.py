"""What a classifier learns from a row's `label`: a class, several classes, or numbers. Each kind has transformers' name for it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any, Literal

from swift.data.sample import Sample
from swift.template.encoded import RowSkipped

Problem = Literal["regression", "single_label_classification", "multi_label_classification"]

LOOKED_AT = 1000  # rows whose labels say what kind they are


def find_problem(samples: Iterable[Sample], num_labels: int) -> Problem:
    """One label is a score; otherwise lists are several classes at once, if most of the first rows have them, and numbers one class."""
    if num_labels == 1:
        return "regression"
    labels = [sample.label for sample in islice(samples, LOOKED_AT) if sample.label is not None]
    lists = sum(isinstance(label, list) for label in labels)
    return "multi_label_classification" if lists > len(labels) / 2 else "single_label_classification"


def read_target(label: Any, num_labels: int, problem: Problem) -> list[float]:
    """What the model should answer: [class], a 0 or 1 for each of several classes, or the numbers of a regression.

    Several classes are a 0 or 1 for each, or else the numbers of those that hold. Raises RowSkipped where a label is missing or wrong.
    """
    if label is None:
        raise RowSkipped("no label")
    if problem == "regression":
        numbers = label if isinstance(label, list) else [label]
        if len(numbers) != num_labels:
            raise RowSkipped(
                "label of the wrong kind", f"label {label!r} is not {'a number' if num_labels == 1 else f'{num_labels} numbers'}"
            )
        if not all(math.isfinite(number) for number in numbers):
            raise RowSkipped("label out of range", f"label {label!r} is not finite")
        return [float(number) for number in numbers]
    if problem == "single_label_classification":
        if isinstance(label, list):
            raise RowSkipped("label of the wrong kind", f"label {label!r} is a list, and most rows have one class")
        return [float(_class(label, num_labels, label))]
    if not isinstance(label, list):
        raise RowSkipped("label of the wrong kind", f"label {label!r} is one number, and most rows have a list of classes")
    if len(label) == num_labels and all(item in (0, 1) for item in label):
        return [float(item) for item in label]
    chosen = {_class(item, num_labels, label) for item in label}
    return [float(number in chosen) for number in range(num_labels)]


def _class(number: bool | int | float, num_labels: int, label: Any) -> int:
    if isinstance(number, float) and not number.is_integer():
        raise RowSkipped("label of the wrong kind", f"label {label!r} is no whole number; a class has one (--num_labels 1 learns numbers)")
    if not 0 <= number < num_labels:
        raise RowSkipped("label out of range", f"label {label!r}, and classes go from 0 to {num_labels - 1} (--num_labels {num_labels})")
    return int(number)


def label_text(target: list[float], problem: Problem) -> str:
    """A target as answers are written: the class, the list of classes that hold, or the number (a list where there are several)."""
    if problem == "single_label_classification":
        return str(int(target[0]))
    if problem == "multi_label_classification":
        return str([number for number, holds in enumerate(target) if holds > 0.5])
    return str(target[0]) if len(target) == 1 else str(target)

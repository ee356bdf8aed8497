"""How much each part of an answer counts: --loss_scale. Weights are numbers, so a plugin may write any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from swift.registry import Registry


class Answer(NamedTuple):
    """One message of the assistant's, as a loss scale sees it."""

    text: str
    query: str  # the question before it
    last: bool  # whether it belongs to the conversation's last answer


@dataclass(frozen=True)
class LossScale:
    """`split` cuts an answer into (text, weight); the texts joined are the answer. `rest` is the weight of everything else."""

    split: Callable[[Answer], list[tuple[str, float]]]
    rest: float = 0.0


def every_answer(answer: Answer) -> list[tuple[str, float]]:
    return [(answer.text, 1.0)]


def last_answer(answer: Answer) -> list[tuple[str, float]]:
    return [(answer.text, 1.0 if answer.last else 0.0)]


loss_scales: Registry[LossScale] = Registry("loss_scale")
loss_scales["default"] = LossScale(every_answer)
loss_scales["last_round"] = LossScale(last_answer)
loss_scales["all"] = LossScale(every_answer, rest=1.0)

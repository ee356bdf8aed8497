"""How much each part of an answer counts: --loss_scale. Weights are numbers, so a plugin may write any."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swift.args.weights import is_weights_file, read_weights
from swift.errors import UsageError
from swift.registry import Registry


class Answer(NamedTuple):
    """One message of the assistant's, as a loss scale sees it."""

    text: str
    query: str  # the question before it
    last: bool  # whether it belongs to the conversation's last answer


Parts = list[tuple[str, float]]  # (text, weight)


@dataclass(frozen=True)
class LossScale:
    """`split` cuts an answer into (text, weight); the texts joined are the answer. `rest` is the weight of everything else."""

    split: Callable[[Answer], Parts]
    rest: float = 0.0


def every_answer(answer: Answer) -> Parts:
    return [(answer.text, 1.0)]


def last_answer(answer: Answer) -> Parts:
    return [(answer.text, 1.0 if answer.last else 0.0)]


@dataclass(frozen=True)
class Keywords:
    """Weights by keywords: each keyword has its weight, and the text behind it, up to the next one, another; 1 before the first.

    Keywords are found anywhere, also within words, in the case they are written in; the earliest counts, then the one that is listed first.
    An entry with one number is a regular expression: its matches get that weight, whatever stands around them. Where the question holds
    a key of `query`, the whole answer has that weight.
    """

    response: Mapping[str, Sequence[float]]
    query: Mapping[str, Sequence[float]] | None = None

    def __call__(self, answer: Answer) -> Parts:
        for part, (weight, *_) in (self.query or {}).items():
            if part in answer.query:
                return [(answer.text, float(weight))]
        patterns = [(re.compile(text), float(weights[0])) for text, weights in self.response.items() if len(weights) == 1]
        return _overlaid(self._by_keyword(answer.text), patterns) if patterns else self._by_keyword(answer.text)

    def _by_keyword(self, text: str) -> Parts:
        words = [word for word, weights in self.response.items() if len(weights) == 2]
        parts: Parts = []
        position, weight = 0, 1.0
        for found in re.finditer("|".join(map(re.escape, words)), text) if words else ():
            own, after = self.response[found.group()]
            parts += [(text[position : found.start()], weight), (found.group(), float(own))]
            position, weight = found.end(), float(after)
        parts.append((text[position:], weight))
        return [(text, weight) for text, weight in parts if text] or [("", 1.0)]


def _overlaid(parts: Parts, patterns: list[tuple[re.Pattern[str], float]]) -> Parts:
    """The parts, with the matches of `patterns` cut out at their own weights; where two match, the one that is listed last."""
    text = "".join(text for text, _ in parts)
    weights = [weight for part, weight in parts for _ in part]
    for pattern, weight in patterns:
        for found in pattern.finditer(text):
            weights[found.start() : found.end()] = [weight] * (found.end() - found.start())
    cuts = [i for i in range(1, len(text)) if weights[i] != weights[i - 1]]
    return [(text[a:b], weights[a]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)] if text else parts


REACT = {"Action:": (2, 2), "Action Input:": (2, 2), "Thought:": (1, 1), "Final Answer:": (1, 1), "Observation:": (2, 0)}
QWEN = {"✿FUNCTION✿:": (2, 2), "✿ARGS✿:": (2, 2), "✿RETURN✿:": (1, 1), "✿RESULT✿:": (2, 0)}
# Agent-FLAN: the tool's name and its arguments count three times
AGENTFLAN = {
    **dict.fromkeys(
        (
            "Name:",
            "Action:",
            "ACTION:",
            "Tool:",
            "Command",
            "Arguments:",
            "action input",
            "ACTION_INPUT:",
            "Action Input:",
        ),
        (1, 3),
    ),
    "Thought:": (1, 1),
    "Final Answer:": (1, 1),
    "Observation:": (2, 0),
}
AGENTFLAN_QUERIES: dict[str, tuple[float]] = dict.fromkeys(
    (
        "What is the tool you want to use",
        "What are the required parameter names",
        "What is the value of",
        "What are the required parameter names for this tool",
    ),
    (3,),
)

loss_scales: Registry[LossScale] = Registry("loss_scale")
loss_scales["default"] = LossScale(every_answer)
loss_scales["last_round"] = LossScale(last_answer)
loss_scales["all"] = LossScale(every_answer, rest=1.0)
loss_scales["react"] = LossScale(Keywords(REACT))
loss_scales["alpha_umi"] = LossScale(Keywords({**REACT, "Next:": (2, 2)}))
loss_scales["qwen"] = LossScale(Keywords(QWEN))
loss_scales["agentflan"] = LossScale(Keywords(AGENTFLAN, AGENTFLAN_QUERIES))


def loss_scale(name: str) -> LossScale:
    """A registered one, or the weights of a JSON file."""
    if not is_weights_file(name) or name in loss_scales:
        return loss_scales[name]
    try:
        return LossScale(Keywords(*read_weights(name)))
    except ValueError as wrong:
        raise UsageError(f"--loss_scale: {wrong}") from None

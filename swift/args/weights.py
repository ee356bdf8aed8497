"""A JSON file of loss weights (--loss_scale my_weights.json): read and checked, without anything heavy."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

ENDING = ".json"


class Weights(NamedTuple):
    """`response`: keyword → (its weight, that of the text behind it), or regular expression → (the weight of its matches,).

    `query`: part of a question → (the weight of the whole answer to it,).
    """

    response: dict[str, tuple[float, ...]]
    query: dict[str, tuple[float, ...]]


def is_weights_file(name: str) -> bool:
    return name.lower().endswith(ENDING)


def read_weights(name: str) -> Weights:
    """ValueError with what is wrong."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"the file {name} is not there")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise ValueError(f"the file {name} is no JSON ({wrong})") from None
    if not isinstance(table, dict) or not table:
        raise ValueError(f"the file {name}: expected an object of keywords and weights, such as " + '{"Action:": [2, 2]}')
    nested = set(table) <= {"response", "query"} and all(isinstance(part, dict) for part in table.values())
    response, query = (table.get("response", {}), table.get("query", {})) if nested else (table, {})
    return Weights(
        {keyword: _weights(name, keyword, weights, (1, 2)) for keyword, weights in response.items()},
        {part: _weights(name, part, weights, (1,)) for part, weights in query.items()},
    )


def _weights(name: str, keyword: str, weights: Any, counts: tuple[int, ...]) -> tuple[float, ...]:
    expected = " or ".join({1: "[weight]", 2: "[weight, weight of the text behind it]"}[count] for count in counts)
    given = isinstance(weights, list) and len(weights) in counts
    if not given or not all(isinstance(w, int | float) and not isinstance(w, bool) and math.isfinite(w) and w >= 0 for w in weights):
        raise ValueError(f"the file {name}: {keyword!r}: expected {expected} of numbers of at least 0, got {json.dumps(weights)}")
    if not keyword:
        raise ValueError(f"the file {name}: an empty keyword")
    if len(weights) == 1 and 2 in counts:
        try:
            re.compile(keyword)
        except re.error as wrong:
            raise ValueError(f"the file {name}: {keyword!r} is no regular expression: {wrong}") from None
    return tuple(map(float, weights))

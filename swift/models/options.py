"""Parameters of single model types (`--model_kwargs`, or an environment variable of the same name in capitals).

A type names its own in `ModelSpec.options`; what they are for a run is `ModelInfo.options`. This is the one place of models/ that reads
the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swift import logs
from swift.errors import UsageError
from swift.registry import did_you_mean

if TYPE_CHECKING:
    from swift.models.spec import ModelSpec


@dataclass(frozen=True)
class Option:
    """`read` makes the value from the text of an environment variable, or from what the JSON object holds: int, float, str, a function."""

    name: str  # in small letters
    read: Callable[[Any], Any]
    default: Any = None
    meaning: str = ""


def read_options(spec: ModelSpec, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The value of every option of a type: --model_kwargs', the environment's, or its default. What was chosen is logged once.

    Raises UsageError for a key that the type does not know, and for a value that it cannot read.
    """
    known = {option.name: option for option in spec.options}
    asked = {name.lower(): value for name, value in (given or {}).items()}
    for name in asked:
        if name not in known:
            names = f"It knows {', '.join(known)}" if known else "It has no parameters of its own"
            hint = did_you_mean(name, list(known)) or "."
            raise UsageError(f"--model_kwargs: model type {spec.type} does not know {name!r}{hint} {names}.")
    values, chosen = {}, []
    for name, option in known.items():
        values[name] = option.default
        for source, found in (("--model_kwargs", asked.get(name)), (name.upper(), os.environ.get(name.upper()))):
            if found is None:
                continue
            try:
                values[name] = option.read(found)
            except (TypeError, ValueError) as wrong:
                raise UsageError(f"{source}: {name} of model type {spec.type} cannot be {found!r}: {wrong}") from None
            chosen.append(f"{name}={values[name]!r} ({source})")
            break
    if chosen:
        logs.info_once(f"parameters of model type {spec.type}: {', '.join(chosen)}")
    return values

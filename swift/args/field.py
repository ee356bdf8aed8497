"""One argument is one dataclass field: `arg(default, help, …)` keeps beside the default all that help, forms, docs and checks need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What a field knows about itself beyond its name, type and default."""

    help: str
    choices: tuple[str, ...] = ()  # empty: taken from the field's Literal, or free
    waiting: tuple[str, ...] = ()  # choices of the parameter document that are not built yet
    hot: bool = False  # important: shown first
    secret: bool = False  # masked wherever it is written
    low: float | None = None
    high: float | None = None
    above: float | None = None  # like low, but the border itself is refused
    shown: str | None = None  # how the default reads in help where it depends on other things
    aliases: tuple[str, ...] = ()
    read: Callable[[str], Any] | None = None  # own reader for one word; raises ValueError("expected …")
    registry: str | None = None  # the registry of swift.plugin whose names are values too
    empty: bool = False  # an empty text is a value; of other flags it is a variable of a script that was not set
    bare: str | None = None  # the word that a flag without a value stands for


def arg(default: Any, help: str, **facts: Any) -> Any:
    """A dataclass field that can explain itself; lists and dicts are copied for every object."""
    metadata = {"facts": Facts(help, **facts)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)

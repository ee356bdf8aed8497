"""Names to things of one kind: built-ins are import paths resolved on first use, plugins add their own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from swift.errors import UsageError

T = TypeVar("T")


class UnknownName(UsageError, KeyError):
    """A name that no built-in and no plugin registered."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


def did_you_mean(name: str, names: Iterator[str] | list[str]) -> str:
    """`; did you mean X?`, or an empty string where nothing is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


class Registry(dict[str, Any], Generic[T]):
    """A dict from name to object. A built-in's value starts as the string "module:attribute" and becomes the object on first use.

    Names are therefore known to help, forms and error messages without importing anything heavy.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str] | None = None):
        super().__init__(builtin or {})
        self.kind = kind
        self._unresolved = set(builtin or {})

    def register(self, name: str, *, exist_ok: bool = False) -> Callable[[T], T]:
        """Decorator: `@rewards.register("brief")`. A taken name is refused unless `exist_ok`."""

        def keep(thing: T) -> T:
            if name in self and not exist_ok:
                raise UsageError(f"the {self.kind} {name!r} is already registered; choose another name, or pass exist_ok=True")
            self[name] = thing
            return thing

        return keep

    def __setitem__(self, name: str, thing: Any) -> None:
        self._unresolved.discard(name)
        super().__setitem__(name, thing)

    def __getitem__(self, name: str) -> T:
        if name not in self:
            known = ", ".join(sorted(self))
            raise UnknownName(f"unknown {self.kind} {name!r}{did_you_mean(name, list(self))} Known: {known}")
        if name in self._unresolved:
            module, _, attribute = super().__getitem__(name).partition(":")
            self[name] = getattr(importlib.import_module(module), attribute)
        return super().__getitem__(name)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]

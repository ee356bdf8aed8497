"""From groups of fields to flat flags and back: ArgSpec says all about one flag; from_flat and to_flat move the values."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin

from swift.args.field import Facts

Kind = Literal["text", "int", "float", "number", "bool", "list", "dict", "dict_or_text", "words"]


@dataclass(frozen=True)
class ArgSpec:
    """One flag of one command."""

    name: str
    group: str  # the command's attribute that holds it: "lora"
    kind: Kind
    optional: bool  # None is a value
    default: Any
    facts: Facts

    @property
    def choices(self) -> tuple[str, ...]:
        return self.facts.choices

    def fresh_default(self) -> Any:
        return type(self.default)(self.default) if isinstance(self.default, list | dict) else self.default


def kind_of(hint: Any) -> tuple[Kind, bool, tuple[str, ...]]:
    """(kind, may be None, choices of a Literal) of a field's type."""
    parts = list(get_args(hint)) if get_origin(hint) in (types.UnionType, typing.Union) else [hint]
    optional = type(None) in parts
    parts = [part for part in parts if part is not type(None)]
    literals = tuple(str(value) for part in parts if get_origin(part) is Literal for value in get_args(part))
    names = {"str" if get_origin(part) is Literal else (get_origin(part) or part).__name__ for part in parts}
    kinds: dict[frozenset[str], Kind] = {
        frozenset({"str"}): "text",
        frozenset({"int"}): "int",
        frozenset({"float"}): "float",
        frozenset({"int", "float"}): "number",
        frozenset({"bool"}): "bool",
        frozenset({"list"}): "list",
        frozenset({"dict"}): "dict",
        frozenset({"str", "dict"}): "dict_or_text",
        frozenset({"str", "list"}): "words",
    }
    return kinds[frozenset(names)], optional, literals


def group_specs(group_class: type, group: str) -> list[ArgSpec]:
    """The flags of one group; fields made without `arg` (passthrough) are not flags."""
    hints = typing.get_type_hints(group_class)
    found = []
    for f in fields(group_class):
        if "facts" not in f.metadata:
            continue
        facts: Facts = f.metadata["facts"]
        kind, optional, literals = kind_of(hints[f.name])
        if literals and not facts.choices:
            facts = replace(facts, choices=literals)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        found.append(ArgSpec(f.name, group, kind, optional, default, facts))
    return found


def groups(command_class: type) -> dict[str, type]:
    """The groups of a command: attribute → group class, in the order of declaration."""
    hints = typing.get_type_hints(command_class)
    return {f.name: hints[f.name] for f in fields(command_class) if f.metadata.get("group")}


@cache
def specs(command_class: type) -> Mapping[str, ArgSpec]:
    """Every flag of a command, in order. A name in two groups is a bug; DEFAULTS of the command change defaults."""
    found: dict[str, ArgSpec] = {}
    changed: dict[str, Any] = command_class.DEFAULTS  # type: ignore[attr-defined]
    for group, group_class in groups(command_class).items():
        for spec in group_specs(group_class, group):
            assert spec.name not in found, f"{spec.name} stands in two groups of {command_class.__name__}"
            if spec.name in changed:
                spec = replace(spec, default=changed[spec.name])
            found[spec.name] = spec
    assert not set(changed) - set(found), f"DEFAULTS of unknown flags: {set(changed) - set(found)}"
    return types.MappingProxyType(found)


def aliases(command_class: type) -> dict[str, str]:
    """Other spellings of a command's flags → their name."""
    return {alias: spec.name for spec in specs(command_class).values() for alias in spec.facts.aliases}


def from_flat(command_class: type, values: Mapping[str, Any], passthrough: Mapping[str, Any], **more: Any) -> Any:
    """A command from flat values; flags that are absent keep their default."""
    own = specs(command_class)
    made = {}
    for group, group_class in groups(command_class).items():
        flags = {name: values.get(name, spec.fresh_default()) for name, spec in own.items() if spec.group == group}
        if any(f.name == "passthrough" for f in fields(group_class)):
            flags["passthrough"] = dict(passthrough)
        made[group] = group_class(**flags)
    return command_class(**made, **more)


def to_flat(command: Any) -> dict[str, Any]:
    """The flat values of a command: its flags in order, then what passes through to the Trainer."""
    flat = {name: getattr(getattr(command, spec.group), name) for name, spec in specs(type(command)).items()}
    for group in groups(type(command)):
        flat |= getattr(getattr(command, group), "passthrough", {})
    return flat

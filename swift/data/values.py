"""Single values of a row: text, labels, tools, objects. Each reader raises RowSkipped with a short reason and the detail."""

from __future__ import annotations

import ast
import json
from typing import Any

from swift.template.encoded import RowSkipped


def text(value: Any, name: str) -> str:
    """A value as text; numbers of a table or of JSON become their digits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise RowSkipped("not text", f"{name} is {kind(value)}, not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise RowSkipped("broken Unicode", f"{name} holds half of a surrogate pair") from None
    return value


def read_label(value: Any) -> bool | int | float | list | None:
    """A label as JSON has it, or a table's text of one: a number, true or false, or a list of numbers."""
    if isinstance(value, str):
        word = value.strip()
        if not word:
            return None
        if word.lower() in ("true", "false"):
            return word.lower() == "true"
        if word.startswith("["):
            return read_label(literal(word, "label"))
        try:
            number = float(word)
        except ValueError:
            raise RowSkipped("label cannot be read", f"label {value!r} is neither a number nor true or false; number the classes") from None
        return int(word) if word.lstrip("+-").isdecimal() else number
    if isinstance(value, list):
        if not all(isinstance(item, bool | int | float) for item in value):
            raise RowSkipped("label cannot be read", f"label {value!r} is not a list of numbers")
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise RowSkipped("label cannot be read", f"label is {kind(value)}")


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """A list of tools or its JSON text. Objects lose the null keys that arrow adds; what was text is kept to the letter."""
    if isinstance(value, str):
        if not value.strip():
            return None
        value = _tool_json(value)
    elif value is not None:
        value = _without_nulls(value)
    if value is None:
        return None
    tools = [_tool_json(tool) if isinstance(tool, str) else tool for tool in (value if isinstance(value, list) else [value])]
    if not all(isinstance(tool, dict) for tool in tools):
        raise RowSkipped("tools cannot be read", "tools is not a list of objects")
    return tools


def _tool_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowSkipped("tools cannot be read", f"tools is not JSON: {error}") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def literal(value: str, name: str) -> Any:
    """JSON, or Python's spelling of a list (specification 2.4)."""
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise RowSkipped(f"{name} cannot be read", f"{name} is text, but neither JSON nor a Python list") from None


def kind(value: Any) -> str:
    words = {type(None): "null", dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return words.get(type(value), type(value).__name__)

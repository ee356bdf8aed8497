"""Words and values → a flag's type. Every function raises ValueError with what was expected; parse.py adds the flag's name."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

from swift.args.base import NO, YES
from swift.args.paths import is_file
from swift.args.spec import ArgSpec
from swift.registry import did_you_mean

LARGEST = 2**31 - 1  # of whole numbers: beyond it C code overflows, each library in its own way


class UnknownChoice(ValueError):
    """A word that is no choice, of a flag whose choices plug-ins add to."""


class NotBuilt(ValueError):
    """A choice of the parameter document that does not work yet."""


def from_words(spec: ArgSpec, words: list[str]) -> Any:
    """The value that words of a command line stand for."""
    if spec.kind == "list" or (spec.kind == "words" and len(words) > 1):
        if not words:
            raise ValueError("expected at least one value")
        if spec.optional and words == ["None"]:
            return None
        return [_checked_choice(spec, word) for word in words]
    if len(words) > 1:
        raise ValueError(f"expected one value, got {len(words)}: {' '.join(words)}")
    if not words:
        if spec.kind == "bool":
            return True
        if spec.facts.bare is not None:
            return from_word(spec, spec.facts.bare)
        raise ValueError("expected a value")
    return from_word(spec, words[0])


def from_word(spec: ArgSpec, word: str) -> Any:
    if spec.facts.read is not None:
        return _read(spec, word)
    if spec.optional and word == "None":
        return None
    if spec.kind == "bool":
        return _bool(word)
    if spec.kind in ("int", "float", "number"):
        return _number(spec, word)
    if spec.kind in ("dict", "dict_or_text"):
        return _mapping(word, text_allowed=spec.kind == "dict_or_text")
    return _checked_choice(spec, word)


def from_value(spec: ArgSpec, value: Any) -> Any:
    """The value that a configuration file, args.json or a Python call gives; strings are read as words of a command line."""
    if isinstance(value, Path):
        value = str(value)
    if value is None:
        if spec.optional:
            return None
        raise ValueError("expected a value, got null")
    if isinstance(value, list | tuple):
        if spec.kind not in ("list", "words"):
            raise ValueError(f"expected one value, got a list: {value}")
        return from_words(spec, [_as_word(spec, item) for item in value]) if value or spec.kind == "words" else []
    if isinstance(value, dict):
        if spec.kind not in ("dict", "dict_or_text"):
            raise ValueError(f"expected {_KINDS[spec.kind]}, got an object: {value}")
        return value
    return from_words(spec, [_as_word(spec, value)])


def _as_word(spec: ArgSpec, value: Any) -> str:
    """A scalar as it would be typed. YAML reads the bare words no, yes, on and off as booleans."""
    if isinstance(value, bool):
        word = str(value).lower()
        bare = "yes" if value else "no"
        return bare if bare in spec.choices else word
    if isinstance(value, float) and spec.kind == "int" and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"expected {_KINDS[spec.kind]}, got {type(value).__name__}: {value!r}")


_KINDS = {
    "text": "text", "int": "a whole number", "float": "a number", "number": "a number", "bool": "true or false", "list": "values",
    "dict": "a JSON object", "dict_or_text": "text or a JSON object", "words": "text",
}  # fmt: skip


def _bool(word: str) -> bool:
    if word.lower() in YES:
        return True
    if word.lower() in NO:
        return False
    raise ValueError(f"expected true or false, got {word!r}")


def _number(spec: ArgSpec, word: str) -> int | float:
    facts = spec.facts
    shown = word if len(word) <= 30 else f"{word[:20]}… ({len(word)} digits)"
    try:
        value: int | float = int(word) if spec.kind != "float" and len(word) <= 30 else float(word)
    except ValueError:
        if spec.kind == "int":
            raise ValueError(f"expected a whole number, got {shown!r}") from None
        try:
            value = float(word)
        except ValueError:
            raise ValueError(f"expected a number, got {shown!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {shown!r}")
    if facts.low is not None and value < facts.low:
        raise ValueError(f"expected a number of at least {facts.low:g}, got {word}")
    if facts.above is not None and value <= facts.above:
        raise ValueError(f"expected a number above {facts.above:g}, got {word}")
    high = LARGEST if facts.high is None and spec.kind == "int" else facts.high
    if high is not None and value > high:
        raise ValueError(f"expected a number of at most {high if spec.kind == 'int' else f'{high:g}'}, got {shown}")
    return value


def _checked_choice(spec: ArgSpec, word: str) -> str:
    choices = spec.choices
    if not word.strip() and not spec.facts.empty:
        raise ValueError("expected a value, got an empty word")
    if not choices or word in choices:
        return word
    if word in spec.facts.waiting:
        raise NotBuilt(word)
    if word.lower() in choices:
        return word.lower()
    problem = f"{word!r} is not one of {', '.join(choices)}{did_you_mean(word, list(choices + spec.facts.waiting))}"
    raise UnknownChoice(problem) if spec.facts.registry else ValueError(problem)


def _read(spec: ArgSpec, word: str) -> Any:
    assert spec.facts.read is not None
    if word in spec.facts.waiting:
        raise NotBuilt(word)
    try:
        return spec.facts.read(word)
    except ValueError as wrong:
        raise ValueError(f"{wrong}, got {word!r}{did_you_mean(word, list(spec.choices))}") from None


def _mapping(word: str, *, text_allowed: bool) -> Any:
    """JSON, the path of a JSON file, or a Python literal ({0: "20GB"} has keys that JSON lacks)."""
    text = word
    if not word.lstrip().startswith("{"):
        if is_file(word):
            text = Path(word).expanduser().read_text(encoding="utf-8")
        elif text_allowed:
            return word
        elif word.endswith(".json"):
            raise ValueError(f"the file {word} is not there")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as wrong:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            where = f"the file {word}" if text is not word else repr(word)
            raise ValueError(f"{where} is no JSON object ({wrong})") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {word!r}")
    return value

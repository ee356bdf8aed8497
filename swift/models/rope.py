"""Positions stretched so that a model takes longer rows than it was made for (`--rope_scaling` with `--max_length`).

The factor is max_length / the length that the model was made for, rounded up. config.json carries it afterwards, so that training and
inference agree and the same flags change nothing a second time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from swift import logs
from swift.errors import ModelError, UsageError

OURS = ("linear", "dynamic", "yarn")
LENGTH_KEYS = (
    "seq_length",
    "max_position_embeddings",
    "n_positions",
    "model_max_length",
    "seq_len",
    "max_seq_len",
    "max_sequence_length",
    "max_seq_length",
)
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config")
# The published max_position_embeddings of these is that of the stretched model already
COUNTED_ALREADY = ("gemma3", "gemma3_text")


@dataclass(frozen=True)
class Rope:
    """`original`: tokens of a row that the model was made for; `factor` times as many are the longest now."""

    kind: str
    factor: float
    original: int

    @property
    def max_length(self) -> int:
        return int(self.original * self.factor)


def longest(config: dict[str, Any]) -> int | None:
    """The most tokens of a row that a config.json allows, its stretched positions counted."""
    lengths = [part[key] for part in parts(config) for key in LENGTH_KEYS if isinstance(part.get(key), int)]
    own = min(lengths, default=None)
    rope = _rope_of(config)
    if own is None or _kind(rope) not in OURS or config.get("model_type") in COUNTED_ALREADY:
        return own
    return max(own, int(_original(rope, own) * (rope.get("factor") or 1)))


def stretch(config: dict[str, Any], asked: str | None, max_length: int | None) -> Rope | None:
    """How the positions of a model are stretched for rows of `max_length`; None where they are not, or are already.

    Raises UsageError without a max_length, and ModelError for a model whose positions cannot be stretched so.
    """
    if asked is None:
        return None
    if max_length is None:
        raise UsageError("--rope_scaling needs --max_length: by how much positions are stretched is max_length / the model's own length")
    own = longest(config)
    if own is None:
        raise ModelError("--rope_scaling: config.json does not say how long the rows of this model may be, so they cannot be stretched")
    rope = _rope_of(config)
    kind = _kind(rope)
    if kind not in (*OURS, "default"):
        raise ModelError(
            f"--rope_scaling {asked}: the positions of this model are stretched in a way of its own already ({kind}), to {own} tokens. "
            f"Another on top would break it: leave --rope_scaling out, with a --max_length of at most {own}"
        )
    if max_length <= own:
        if kind == asked:
            logs.info_once(f"the positions of this model are stretched by --rope_scaling {asked} already, to {own} tokens")
        else:
            logs.warn_once(f"--rope_scaling {asked} has no effect: --max_length {max_length} is not above the model's own length, {own}")
        return None
    original = _original(rope, own if kind == "default" else _positions(config) or own)
    return Rope(asked, float(math.ceil(max_length / original)), original)


def apply(rope: Rope, config: Any) -> None:
    """Write the stretch into a transformers config. Raises ModelError where its model has no rotary positions."""
    text = config.get_text_config(decoder=True)
    old = getattr(text, "rope_parameters", None) or {}
    if any(isinstance(value, dict) for value in old.values()):
        raise ModelError(
            f"--rope_scaling: {type(config).__name__} has other positions in each kind of layer, which cannot be stretched together"
        )
    if not hasattr(text, "rope_parameters") and not hasattr(text, "rope_scaling"):
        raise ModelError(f"--rope_scaling: {type(config).__name__} has no rotary positions, so there is nothing to stretch")
    own = set(old) - {"type"} if _kind(old) == rope.kind else {"rope_theta", "partial_rotary_factor"}  # beta_fast, mscale … stay
    new = {**{name: old[name] for name in own & set(old)}, "rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "yarn":
        new["original_max_position_embeddings"] = rope.original
    if not hasattr(text, "rope_parameters"):  # code that comes with a model reads the older names
        text.rope_scaling = {"type": rope.kind, **new}
        return
    text.rope_parameters = new
    if getattr(text, "max_position_embeddings", None):
        text.max_position_embeddings = rope.original  # where another stretch was taken off
    logs.info_once(
        f"--rope_scaling {rope.kind}: positions are stretched by {rope.factor:g}, from {rope.original} to {rope.max_length} tokens"
    )


def parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """config.json, and the part of it that describes a language model inside a larger one."""
    return [config, *(config[key] for key in LANGUAGE_PARTS if isinstance(config.get(key), dict))]


def _rope_of(config: dict[str, Any]) -> dict[str, Any]:
    found = next(
        (part[key] for part in parts(config) for key in ("rope_parameters", "rope_scaling") if isinstance(part.get(key), dict)), {}
    )
    return {} if any(isinstance(value, dict) for value in found.values()) else found  # of each kind of layer: see `apply`


def _kind(rope: dict[str, Any]) -> str:
    return rope.get("rope_type") or rope.get("type") or "default"


def _positions(config: dict[str, Any]) -> int | None:
    return next((part["max_position_embeddings"] for part in parts(config) if part.get("max_position_embeddings")), None)


def _original(rope: dict[str, Any], own: int) -> int:
    return int(rope.get("original_max_position_embeddings") or own)

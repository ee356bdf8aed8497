"""What is known about a model type before anything is loaded, as data; the types themselves are in families/."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from swift.registry import Registry


@dataclass(frozen=True)
class ModelSpec:
    """`ids` are the last parts of hub ids, `{a,b}` expanded by `names`; `chat_format` None: the checkpoint's own chat template."""

    type: str
    ids: tuple[str, ...] = ()
    chat_format: str | None = None
    architectures: tuple[str, ...] = ()
    candidates: tuple[tuple[str, str], ...] = ()  # (model type, chat format) that a shared architecture may mean; of `auto` only

    @property
    def names(self) -> list[str]:
        return [name for text in self.ids for name in expand(text)]


def expand(text: str) -> list[str]:
    """`a{b,c}d` → abd, acd; several braces multiply."""
    parts = [part.split(",") if i % 2 else [part] for i, part in enumerate(re.split(r"\{([^}]*)\}", text))]
    return ["".join(choice) for choice in itertools.product(*parts)]


model_specs: Registry[ModelSpec] = Registry("model_type")


def register_model(spec: ModelSpec, *, exist_ok: bool = False) -> ModelSpec:
    """Make a model type known (`--model_type`, and its ids)."""
    return model_specs.register(spec.type, exist_ok=exist_ok)(spec)

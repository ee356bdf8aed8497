"""What is known about a model type before anything is loaded, as data; the types themselves are in families/."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from swift.models.options import Option
from swift.registry import Registry


class HubIds(NamedTuple):
    """One model's id on ModelScope and on Hugging Face; None where it is not. Without `owner/` the owner is not known."""

    modelscope: str | None
    hugging_face: str | None


@dataclass(frozen=True)
class Group:
    """Ids of a type that need something of their own: packages (instead of the type's), files that are not fetched."""

    ids: tuple[str, ...]
    requires: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A model type.

    `ids` are hub ids, `{a,b}` expanded by `expand`; their last part is what a model is known by. `left -> right` is the id on ModelScope
    and that on Hugging Face: `a/x -> b/y`, `a/x -> b/` where only the owner differs, `a/x ->` where it is on ModelScope alone.
    `chat_format` None: the checkpoint's own chat template.
    """

    type: str
    ids: tuple[str | Group, ...] = ()
    chat_format: str | None = None
    architectures: tuple[str, ...] = ()  # of config.json
    candidates: tuple[tuple[str, str], ...] = ()  # (model type, chat format) that a shared architecture may mean; of `auto` only
    config_types: tuple[str, ...] = ()  # config.json's model_type, for types that are known by no architecture
    requires: tuple[str, ...] = ()  # pip requirements beside SWIFT's own
    ignore: tuple[str, ...] = ()  # file patterns that are not fetched from a hub
    tags: tuple[str, ...] = ()
    remote_code: bool = False  # published with Python code of its own, which transformers has no class for
    task_type: Literal["causal_lm", "seq_cls", "embedding"] = "causal_lm"  # what --task_type is where it is not given
    num_labels: int | None = None  # of models that come with a head: 1 for reward models
    repo: str | None = None  # the code repository that it needs beside its weights (--local_repo_path)
    options: tuple[Option, ...] = ()  # what --model_kwargs may say
    # Of plug-ins: (folder, info, args: ModelArgs) -> model, and -> tokenizer, instead of transformers' Auto classes
    loader: Callable[..., Any] | None = None
    tokenizer_loader: Callable[..., Any] | None = None

    @property
    def groups(self) -> list[Group]:
        """All ids; those without a Group of their own are one with what the type says."""
        plain = tuple(text for text in self.ids if isinstance(text, str))
        own = [group for group in self.ids if isinstance(group, Group)]
        return [Group(plain, self.requires, self.ignore), *own] if plain else own

    @property
    def hub_ids(self) -> list[HubIds]:
        return [pair for group in self.groups for text in group.ids for pair in pairs(text)]

    @property
    def names(self) -> list[str]:
        """The last parts of all ids, without doubles."""
        return list(dict.fromkeys(last_part(name) for pair in self.hub_ids for name in pair if name))

    def group_of(self, name: str) -> Group:
        """What the model of this name needs; the type's own for a name that is none of its ids."""
        for group in self.groups:
            if any(last_part(known).lower() == name.lower() for text in group.ids for pair in pairs(text) for known in pair if known):
                return group
        return Group((), self.requires, self.ignore)


def pairs(text: str) -> list[HubIds]:
    """The ids that one entry of `ModelSpec.ids` stands for."""
    left, arrow, right = (part.strip() for part in text.partition("->"))
    here = expand(left)
    if not arrow:
        return [HubIds(name, name) for name in here]
    if not right:
        return [HubIds(name, None) for name in here]
    there = [right + last_part(name) for name in here] if right.endswith("/") else expand(right)
    return [HubIds(*both) for both in zip(here, there, strict=True)]


def expand(text: str) -> list[str]:
    """`a{b,c}d` → abd, acd; several braces multiply."""
    parts = [part.split(",") if i % 2 else [part] for i, part in enumerate(re.split(r"\{([^}]*)\}", text))]
    return ["".join(choice) for choice in itertools.product(*parts)]


def last_part(name: str) -> str:
    return name.rpartition("/")[2]


model_specs: Registry[ModelSpec] = Registry("model_type")


def register_model(spec: ModelSpec, *, exist_ok: bool = False) -> ModelSpec:
    """Make a model type known (`--model_type`, and its ids)."""
    return model_specs.register(spec.type, exist_ok=exist_ok)(spec)

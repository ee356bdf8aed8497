"""Data sets with a conversion of their own, found by the basename of an id or folder: self-cognition now, plug-ins add theirs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swift import logs
from swift.registry import Registry

if TYPE_CHECKING:
    from swift.args.base import DataArgs

Values = dict[str, Any]
Convert = Callable[[Values, "DataArgs"], "Values | None"]  # None drops the row

datasets: Registry[Convert] = Registry(
    "data set",
    {
        "swift/self-cognition": "swift.data.known:self_cognition",
        "modelscope/self-cognition": "swift.data.known:self_cognition",
    },
)


def find_known(name: str) -> Convert | None:
    """The conversion registered under an id, or under one with the same last part (`anyorg/self-cognition`, a clone's folder)."""
    for known in datasets:
        if known.lower() == name.lower():
            return datasets[known]
    wanted = basename(name)
    return next((datasets[known] for known in datasets if basename(known) == wanted), None)


def basename(name: str) -> str:
    """The last part of an id or path, in lower case; a folder of the HF cache gives the repository's name."""
    cached = re.search(r"(?:datasets|models)--(?:[^/]+--)?([^/]+)/snapshots/", name + "/")
    return (cached.group(1) if cached else name.rstrip("/").rpartition("/")[2]).lower()


def self_cognition(values: Values, data: DataArgs) -> Values:
    """Put names in place of {{NAME}} and {{AUTHOR}}: of two names the first in rows tagged zh, else the second."""
    values = dict(values)
    tag = values.pop("tag", None)
    for mark, names, flag in (("{{NAME}}", data.model_name, "--model_name"), ("{{AUTHOR}}", data.model_author, "--model_author")):
        if not names:
            if any(mark in value for value in values.values() if isinstance(value, str)):
                logs.warn_once(f"{flag} is not set: {mark} stays in the text of self-cognition, and will be learned as it stands")
            continue
        name = names[0] if tag == "zh" else names[-1]
        values = {key: value.replace(mark, name) if isinstance(value, str) else value for key, value in values.items()}
    return values

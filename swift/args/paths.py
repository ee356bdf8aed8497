"""What can be told from a name without looking anything up: path or id, data set items, the last part of a model's name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from swift.registry import did_you_mean

MOST_ROWS = 10**9  # behind '#'; every row that is drawn takes memory
DATA_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")  # each also with .gz behind


def is_path_like(name: str) -> bool:
    """A name that can only be a path, whether it is there or not; everything else may be an id."""
    return name.startswith((".", "/", "~")) or name.lower().removesuffix(".gz").endswith(DATA_ENDINGS)


def exists(name: str) -> bool:
    """Whether a word names something on disk; words that cannot be a path do not."""
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, a NUL, ~nobody
        return False


def is_file(name: str) -> bool:
    return exists(name) and Path(name).expanduser().is_file()


def is_folder(name: str) -> bool:
    return exists(name) and Path(name).expanduser().is_dir()


def near_file(name: str) -> str:
    """`; did you mean …?` with a neighbour of a path that is not there."""
    try:
        names = sorted(entry.name for entry in Path(name).expanduser().parent.iterdir())
    except (OSError, RuntimeError, ValueError):
        return ""
    return did_you_mean(Path(name).name, names)


class DatasetItem(NamedTuple):
    """`id or path:subset/subset#count` taken apart."""

    name: str
    subsets: tuple[str, ...] = ()
    count: int | None = None


def dataset_item(item: str) -> DatasetItem:
    """Take one --dataset word apart. ValueError where the count is no positive number.

    What exists on disk as a whole is the data set, so names with ':' or '#' can be used.
    """
    if exists(item):
        return DatasetItem(item)
    name, mark, number = item.rpartition("#")
    count = None
    if mark:
        if not number.strip().isdecimal() or not 1 <= int(number[:20]) <= MOST_ROWS:
            raise ValueError(f"{item!r}: the count behind '#' must be a whole number from 1 to {MOST_ROWS:,}")
        count = int(number)
    else:
        name = item
    if not name:
        raise ValueError(f"{item!r}: expected an id or a path before '#'")
    if exists(name):
        return DatasetItem(name, (), count)
    name, mark, subsets = name.partition(":")
    return DatasetItem(name, tuple(part.strip() for part in subsets.split("/") if part.strip()) if mark else (), count)


def model_suffix(model: str) -> str:
    """The last part of a model's id or path; `org/name:folder` is `name`.

    A folder in the Hugging Face cache is named after its repository (models--org--name/snapshots/…), ModelScope's `___` is a dot.
    """
    parts = [part for part in model.replace("\\", "/").split("/") if part not in ("", ".")]
    for part, following in itertools.pairwise(parts):
        if part.startswith("models--") and following == "snapshots":
            return part.rsplit("--", 1)[-1].replace("___", ".")
    name = parts[-1] if parts else model
    return (name if is_path_like(model) or is_folder(model) else name.partition(":")[0]).replace("___", ".")


def adapter_path(name: str) -> str:
    """The path or id of an --adapters word, which may be written name=path."""
    return name.partition("=")[2] if "=" in name and not exists(name) else name


def looks_like_adapter(name: str) -> bool:
    """Whether a local folder holds an adapter, of PEFT or of an older layout."""
    if not is_folder(name):
        return False
    folder = Path(name).expanduser()
    marks = (folder / "adapter_config.json", folder / "default" / "adapter_config.json", folder / "reft")
    return any(mark.exists() for mark in marks)

"""What is known about a data set before a row is read, as data; read from JSON for --custom_dataset_info and for the table public.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift.args.paths import is_file, near_file
from swift.errors import UsageError
from swift.registry import did_you_mean

if TYPE_CHECKING:
    from swift.args.base import DataArgs

Values = dict[str, Any]
Convert = Callable[[Values, "DataArgs"], "Values | list[Values] | None"]  # None drops the row, a list makes several of it


@dataclass(frozen=True)
class Subset:
    """A part of a data set. What is None here is as the data set says."""

    name: str = "default"  # what --dataset calls it
    subset: str | None = None  # what the hub calls it, where that is another name
    split: tuple[str, ...] | None = None
    columns: Mapping[str, str] | None = None
    messages: Mapping[str, str] | None = None
    convert: Convert | str | None = None
    convert_all: Callable[..., Any] | None = None
    is_weak_subset: bool = False  # left out of `:all`


@dataclass(frozen=True)
class DatasetSpec:
    """A registered data set.

    `convert` turns the columns of one row into columns that `columns.py` knows (a function, or the name of one in conversions.py);
    `messages` are options of `preprocess.MessagesPreprocessor`; `columns` renames. All three leave the rest to the automatic conversion.
    """

    ms_dataset_id: str | None = None
    hf_dataset_id: str | None = None
    dataset_path: str | None = None
    dataset_name: str | None = None  # another name for --dataset
    ms_revision: str | None = None
    hf_revision: str | None = None
    subsets: tuple[Subset, ...] = ()
    split: tuple[str, ...] = ("train",)
    columns: Mapping[str, str] | None = None
    messages: Mapping[str, str] | None = None
    convert: Convert | str | None = None
    convert_all: Callable[..., Any] | None = None  # of plug-ins: all rows (preprocess.Table) -> rows
    load_function: Callable[..., Any] | None = None  # of plug-ins: instead of files
    tags: tuple[str, ...] = ()
    help: str = ""
    huge_dataset: bool = False

    @property
    def ids(self) -> list[str]:
        """Everything it is found by: ids on both hubs, its path, its name."""
        return [name for name in (self.ms_dataset_id, self.hf_dataset_id, self.dataset_path, self.dataset_name) if name]

    @property
    def title(self) -> str:
        return self.ids[0]

    def chosen(self, wanted: tuple[str, ...], name: str) -> list[Subset]:
        """The subsets that `--dataset name:wanted` means, each with what the data set says where it says nothing (specification 2.1).

        A name that is not registered is looked for as it is. Raises UsageError where a choice must be made.
        """
        registered = self.subsets or (Subset(),)
        known = {subset.name.lower(): subset for subset in registered}
        if wanted == ("all",) and "all" not in known:
            found = [subset for subset in registered if not subset.is_weak_subset]
        elif wanted:
            found = [known.get(word.lower()) or Subset(word) for word in wanted]
        elif len(registered) == 1:
            found = [registered[0]]
        elif "default" in known:
            found = [known["default"]]
        else:
            names = ", ".join(subset.name for subset in registered)
            raise UsageError(f"--dataset {name} has several subsets: {names}. Choose with {name}:{registered[0].name}, or {name}:all")
        return [self._filled(subset) for subset in found]

    def _filled(self, subset: Subset) -> Subset:
        converts = subset.convert or subset.convert_all or subset.messages or subset.columns is not None
        own = subset if converts else replace(subset, convert=self.convert, convert_all=self.convert_all, messages=self.messages)
        columns = self.columns if subset.columns is None else subset.columns
        return replace(own, subset=subset.subset or subset.name, split=subset.split or self.split, columns=columns)


# From JSON

MESSAGES_OPTIONS = ("role_key", "content_key", "user_role", "assistant_role", "system_role", "tool_role", "inner_key")
IDS = ("ms_dataset_id", "hf_dataset_id", "dataset_path")
KEYS = (
    *IDS, "dataset_name", "ms_revision", "hf_revision", "subsets", "split", "columns", "messages", "tags", "help", "huge_dataset",
)  # fmt: skip
SUBSET_KEYS = ("subset", "name", "split", "columns", "messages", "is_weak_subset")


def read_infos(words: Iterable[str]) -> list[DatasetSpec]:
    """The data sets that --custom_dataset_info registers: JSON files, or JSON lists written out. Raises UsageError with file, entry and key."""
    found: list[tuple[str, DatasetSpec]] = []
    for word in words:
        inline = _inline(word)
        shown = "--custom_dataset_info" if inline else f"--custom_dataset_info {word}"
        folder = Path() if inline else Path(word).expanduser().absolute().parent
        for number, entry in enumerate(_entries(word, shown, inline=inline), 1):
            where = f"{shown}, entry {number}"
            spec = read_entry(entry, where, folder)
            for before, other in found:
                refuse_twice(spec, other, where, f"in {before.removeprefix('--custom_dataset_info ')}")
            found.append((where, spec))
    return [spec for _, spec in found]


def check_infos(words: Iterable[str]) -> None:
    """Raise UsageError for what is wrong with those of the files that are there; a file that is not is part of a dry run's plan."""
    read_infos(word for word in words if _inline(word) or is_file(word))


def _inline(word: str) -> bool:
    return word.lstrip().startswith(("[", "{"))


def refuse_twice(spec: DatasetSpec, other: DatasetSpec, where: str, place: str) -> None:
    """Raise UsageError where two data sets have an id, a path or a name in common."""
    twice = {name.lower() for name in spec.ids} & {name.lower() for name in other.ids}
    if twice:
        names = [name for name in spec.ids if name.lower() in twice]
        raise UsageError(f"{where}: the data set {names[0]!r} is already registered {place}; take one of the two away")


def _entries(word: str, shown: str, *, inline: bool) -> list[Any]:
    if not inline and not is_file(word):
        raise UsageError(f"{shown}: the file is not there{near_file(word)}")
    try:
        value = json.loads(word if inline else Path(word).expanduser().read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{shown}: not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown}: cannot be read: {error}") from None
    if not isinstance(value, list):
        raise UsageError(f"{shown}: expected a list of objects, one for each data set; put [ and ] around it")
    return value


def read_entry(entry: Any, where: str, folder: Path, *, more: tuple[str, ...] = ()) -> DatasetSpec:
    """One object of the list. `folder`: what a relative dataset_path is relative to. `more`: keys that only our own table may have."""
    _check_keys(entry, (*KEYS, *more), where)
    if not any(entry.get(key) for key in IDS):
        raise UsageError(f"{where}: one of {', '.join(IDS)} must say which data set it is")
    values: dict[str, Any] = dict(entry)
    for key in (*IDS, "dataset_name", "ms_revision", "hf_revision", "help"):
        if key in entry and not (isinstance(entry[key], str) or entry[key] is None):
            raise UsageError(f"{where}: {key} must be text, not {json.dumps(entry[key], ensure_ascii=False)}")
    if entry.get("dataset_path"):
        values["dataset_path"] = str(folder / Path(entry["dataset_path"]).expanduser())
    values |= _shared_values(entry, where)
    if not isinstance(entry.get("huge_dataset", False), bool):
        raise UsageError(f"{where}: huge_dataset must be true or false")
    values["tags"] = _texts(entry.get("tags", []), "tags", where)
    values["subsets"] = _subsets(entry.get("subsets", []), where, more)
    return DatasetSpec(**{key: value for key, value in values.items() if value is not None})


def _subsets(value: Any, where: str, more: tuple[str, ...]) -> tuple[Subset, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: subsets must be a list of names or objects")
    found: dict[str, Subset] = {}
    for number, item in enumerate(value, 1):
        here = f"{where}, subset {number}"
        if isinstance(item, str):
            subset = Subset(item)
        else:
            _check_keys(item, (*SUBSET_KEYS, *more), here, "a name or an object")
            name = item.get("name") or item.get("subset")
            if not isinstance(name, str) or not isinstance(item.get("subset", ""), str):
                raise UsageError(f"{here}: subset (its name on the hub) must be there, as text")
            if not isinstance(item.get("is_weak_subset", False), bool):
                raise UsageError(f"{here}: is_weak_subset must be true or false")
            subset = Subset(**{**item, "name": name, **_shared_values(item, here)})
        if subset.name.lower() in found:
            raise UsageError(f"{here}: there are two subsets called {subset.name!r}; give one another name")
        found[subset.name.lower()] = subset
    return tuple(found.values())


def _shared_values(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a data set and a subset can both say."""
    values: dict[str, Any] = {}
    if entry.get("split") is not None:
        split = entry["split"]
        values["split"] = _texts([split] if isinstance(split, str) else split, "split", where)
        if not values["split"]:
            raise UsageError(f"{where}: split names no split")
    for key in ("columns", "messages"):
        value = entry.get(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{where}: {key} must be an object, not {json.dumps(value, ensure_ascii=False)}")
        for name, target in value.items():
            if not isinstance(target, str):
                raise UsageError(f"{where}: {key}: {name!r} must have a name behind it, not {json.dumps(target, ensure_ascii=False)}")
        if key == "messages":
            _check_keys(value, MESSAGES_OPTIONS, f"{where}: messages")
        values[key] = value
    return values


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where}: {key} must be a list of texts, not {json.dumps(value, ensure_ascii=False)}")
    return tuple(value)


def _check_keys(value: Any, keys: tuple[str, ...], where: str, expected: str = "an object") -> None:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected {expected}, not {json.dumps(value, ensure_ascii=False)}")
    for key in value:
        if key not in keys:
            hint = did_you_mean(key, list(keys)) or f"; known are {', '.join(keys)}"
            raise UsageError(f"{where}: unknown key {key!r}{hint}")

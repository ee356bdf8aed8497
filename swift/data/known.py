"""Which registered data set a word of --dataset means: those of --custom_dataset_info, of plug-ins, and the table of public ones."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from swift import logs
from swift.args.paths import exists
from swift.data.registered import Convert, DatasetSpec, read_entry, read_infos, refuse_twice
from swift.errors import UsageError
from swift.registry import Registry


class Datasets(Registry[Any]):
    """What plug-ins register, by the name that it is known by: a DatasetSpec, or only the conversion of a row. Lists those alone.

    SWIFT's own are in it too: they are found, and their names are taken.
    """

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and name.lower() in _public_names())

    def __getitem__(self, name: str) -> Any:
        return _public_names()[name.lower()] if name in self and not super().__contains__(name) else super().__getitem__(name)


datasets = Datasets("data set")


class Known(NamedTuple):
    """A registered data set, and the name that its rows are fetched under: an id of the hub in use, or a path."""

    spec: DatasetSpec
    name: str


def register_dataset(spec: DatasetSpec, *, exist_ok: bool = False) -> DatasetSpec:
    """Make a data set known by its ids, path and name. One that is registered is refused unless `exist_ok`."""
    if not spec.ids:
        raise UsageError("a data set needs an id (ms_dataset_id, hf_dataset_id), a dataset_path or a dataset_name")
    if not exist_ok:
        for other in [*_of_plugins(), *public()]:
            refuse_twice(spec, other, "register_dataset", "(exist_ok=True replaces it)")
    datasets.register(spec.title, exist_ok=exist_ok)(spec)
    return spec


@cache
def public() -> tuple[DatasetSpec, ...]:
    """The well-known public data sets (specification, appendix D): public.json, an entry a line."""
    table = Path(__file__).with_name("public.json")
    entries = json.loads(table.read_text(encoding="utf-8"))
    return tuple(read_entry(entry, f"{table.name} entry {n}", table.parent, more=("convert",)) for n, entry in enumerate(entries, 1))


@cache
def _public_names() -> dict[str, DatasetSpec]:
    return {name.lower(): spec for spec in public() for name in spec.ids}


def find_known(name: str, *, hf: bool = False, infos: Iterable[str] = ()) -> Known | None:
    """By id of the hub in use or by path, by the other hub's id, then by the last part of a name (`anyorg/self-cognition`, a clone's folder).

    `hf`: Hugging Face is in use. `infos`: the words of --custom_dataset_info.
    """
    custom = read_infos(infos)
    others = [*_of_plugins(), *public()]
    for spec in custom:
        for other in others:
            refuse_twice(spec, other, "--custom_dataset_info", "by SWIFT or a plug-in")
    specs = [*custom, *others]
    low = name.lower()
    for spec in specs:
        if low in (_here(spec, hf).lower(), (spec.dataset_name or "").lower()) or _same_path(spec.dataset_path, name):
            return Known(spec, name if exists(name) else _here(spec, hf) or spec.dataset_path or name)
    for spec in specs:
        there = spec.ms_dataset_id if hf else spec.hf_dataset_id
        if there and low == there.lower():
            return Known(spec, name if exists(name) else _translated(spec, name, hf))
    wanted = basename(name)
    for spec in specs:
        if any(basename(known) == wanted for known in spec.ids):
            short = "/" not in name and not exists(name)
            return Known(spec, (_here(spec, hf) or spec.dataset_path or name) if short else name)
    return None


def _translated(spec: DatasetSpec, name: str, hf: bool) -> str:
    here, hub = _here(spec, hf), "Hugging Face" if hf else "ModelScope"
    if not here:
        other = "without --use_hf" if hf else "with --use_hf true"
        logs.warn_once(f"--dataset {name}: SWIFT knows this data set only on the other hub ({other}); it is looked for on {hub} as it is")
    elif here.lower() != name.lower():
        logs.info_once(f"--dataset {name} is called {here} on {hub}, and is taken from there")
    return here or name


def refuse_misspelt(name: str, more: Iterable[str] = ()) -> None:
    """Raise UsageError for an id that is nearly one of ours: it would only be looked for on the hub in vain."""
    low = name.lower()
    if not low.startswith("swift/"):
        return
    ours = [known for spec in [*_of_plugins(), *public()] for known in spec.ids if known.lower().startswith("swift/")] + list(more)
    near = difflib.get_close_matches(low, [known.lower() for known in ours], n=1, cutoff=0.85)
    if near and near[0] != low:
        close = next(known for known in ours if known.lower() == near[0])
        raise UsageError(
            f"--dataset {name} is not known; did you mean {close}? To read a data set of that very name, download it and give its folder"
        )


def basename(name: str) -> str:
    """The last part of an id or path, in lower case; a folder of the HF cache gives the repository's name."""
    cached = re.search(r"(?:datasets|models)--(?:[^/]+--)?([^/]+)/snapshots/", name + "/")
    return (cached.group(1) if cached else name.rstrip("/").rpartition("/")[2]).lower()


def _of_plugins() -> list[DatasetSpec]:
    return [_spec(name, datasets[name]) for name in datasets]


def _spec(name: str, value: DatasetSpec | Convert) -> DatasetSpec:
    return value if isinstance(value, DatasetSpec) else DatasetSpec(ms_dataset_id=name, hf_dataset_id=name, convert=value)


def _here(spec: DatasetSpec, hf: bool) -> str:
    return (spec.hf_dataset_id if hf else spec.ms_dataset_id) or ""


def _same_path(path: str | None, name: str) -> bool:
    return bool(path) and (path == name or (exists(name) and Path(path).expanduser().resolve() == Path(name).expanduser().resolve()))

"""Which files of a data set's folder are a subset and a split: as its README says, as a ModelScope description says, or by their names."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swift import logs
from swift.errors import DataError, UsageError

KINDS = ("jsonl", "json", "csv", "tsv", "txt", "parquet")
OTHER_SPLITS = {"test", "validation", "valid", "val", "dev", "eval"}
SAME_SPLIT = {name: {"validation", "valid", "val", "dev"} for name in ("validation", "valid", "val", "dev")}
NOT_ROWS = re.compile(r"(dataset_info|.*_infos|config|dataset_dict|state)\.json|(requirements|licen[cs]e|readme).*\.txt", re.IGNORECASE)
TRAIN = ("train",)


@dataclass(frozen=True)
class Layout:
    """What a folder says of itself: subset → split → patterns of files, and the subset that is meant where none is named."""

    subsets: dict[str, dict[str, list[str]]]
    default: str | None = None


def kind_of(name: str) -> str | None:
    """The kind of a data file by its name's end, None for other files."""
    ending = name.lower().removesuffix(".gz").rpartition(".")[2]
    return ending if ending in KINDS and "." in name else None


def files_of_item(folder: Path, name: str, subsets: Sequence[str]) -> list[Path]:
    """The training files of a folder that nothing is registered about; `subsets` as they stand behind --dataset."""
    layout = read_layout(folder)
    if layout is None:
        return _files_by_name(folder, name, subsets)
    if not subsets:
        subsets = (_default(layout, name),)
    elif tuple(subsets) == ("all",) and "all" not in layout.subsets:
        subsets = tuple(layout.subsets)
    found: list[Path] = []
    for subset in subsets:
        if subset in layout.subsets:
            found += _files_by_layout(folder, layout, subset, TRAIN, name)
        else:
            found += _files_by_name(folder, name, (subset,), known=list(layout.subsets))
    return list(dict.fromkeys(found))


def files_of_subset(folder: Path, name: str, subset: str, splits: Sequence[str]) -> list[Path]:
    """The files of one registered subset, split by split. Splits that are not there are said, as long as one is."""
    layout = read_layout(folder)
    if layout is not None:
        if subset == "default" and subset not in layout.subsets:
            subset = _default(layout, name)
        if subset in layout.subsets:
            return _files_by_layout(folder, layout, subset, splits, name)
    files = _data_files(folder, name)
    of_subset = [path for path in files if subset in _names(path, folder)]
    if not of_subset and subset != "default":
        raise _no_subset(name, subset, files, folder, list(layout.subsets) if layout else [])
    files = _one_kind(of_subset or files, name)
    by_split = {split: _of_split(files, split, name) for split in splits}
    return _joined(by_split, name)


# As the folder says


def read_layout(folder: Path) -> Layout | None:
    """The `configs` in the head of README.md (Hugging Face), or a description in JSON (ModelScope); None where there is neither."""
    return _from_readme(folder / "README.md") or _from_description(folder)


def _from_readme(readme: Path) -> Layout | None:
    try:
        text = readme.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    head = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    if head is None or "configs" not in head.group(1):
        return None
    import yaml  # only for folders that need it

    try:
        value = yaml.safe_load(head.group(1))
    except yaml.YAMLError as error:
        logs.warn_once(f"{readme}: its head is no YAML ({' '.join(str(error).split())}); files are found by their names")
        return None
    configs = value.get("configs") if isinstance(value, dict) else None
    subsets: dict[str, dict[str, list[str]]] = {}
    default = None
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict) or ("data_files" not in config and "data_dir" not in config):
            continue
        name = str(config.get("config_name", "default"))
        subsets[name] = _patterns(config.get("data_files"), str(config.get("data_dir") or ""))
        if config.get("default") is True:
            default = name
    return Layout(subsets, default) if subsets else None


def _patterns(value: Any, folder: str) -> dict[str, list[str]]:
    """split → patterns of `data_files`: one pattern, several, or objects with split and path."""
    if value is None:
        return {"train": ["**/*"]} if not folder else {"train": [f"{folder}/**/*"]}
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        entries = value if isinstance(value, list) else [value]
        pairs = [(one.get("split", "train"), one.get("path")) if isinstance(one, dict) else ("train", one) for one in entries]
    found: dict[str, list[str]] = {}
    for split, paths in pairs:
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                found.setdefault(str(split), []).append(f"{folder}/{path}" if folder else path)
    return found


def _from_description(folder: Path) -> Layout | None:
    """ModelScope's `NAME.json`: subset → split → {"meta": a file of rows}."""
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size > 1_000_000:
            continue
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(value, dict) or not value:
            continue
        subsets = {subset: _described(splits) for subset, splits in value.items()}
        if all(subsets.values()):
            return Layout(subsets)
    return None


def _described(splits: Any) -> dict[str, list[str]]:
    """Empty where it is something else than a description."""
    if not isinstance(splits, dict) or not all(isinstance(says, dict) for says in splits.values()):
        return {}
    metas = {split: says.get("meta") for split, says in splits.items()}
    return {split: [meta] for split, meta in metas.items()} if all(isinstance(meta, str) and meta for meta in metas.values()) else {}


def _default(layout: Layout, name: str) -> str:
    if layout.default is not None:
        return layout.default
    names = list(layout.subsets)
    if len(names) == 1 or "default" in names:
        return names[0] if len(names) == 1 else "default"
    raise UsageError(f"--dataset {name} has several subsets: {', '.join(names[:30])}. Choose with {name}:{names[0]}, or {name}:all")


def _files_by_layout(folder: Path, layout: Layout, subset: str, splits: Sequence[str], name: str) -> list[Path]:
    of_subset = layout.subsets[subset]
    here = {split.lower(): split for split in of_subset}
    if tuple(splits) == TRAIN and "train" not in here and len(of_subset) == 1:
        splits = tuple(of_subset)  # the one that there is
    title = f"{name}:{subset}"
    by_split = {split: _expanded(folder, of_subset[here[split.lower()]], title) if split.lower() in here else [] for split in splits}
    return _joined(by_split, title, list(of_subset))


def _expanded(folder: Path, patterns: list[str], title: str) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        if "://" in pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            raise DataError(f"{title}: its description names files that lie outside its folder ({pattern}); they are not fetched")
        flat = re.sub(r"(?<=[^/])\*\*|\*\*(?=[^/])", "*", pattern.removeprefix("./"))
        flat = re.sub(r"(^|/)\*\*$", r"\1**/*", flat)  # here ** alone means folders only
        matched = sorted(path for path in folder.glob(flat) if path.is_file()) if re.search(r"[*?\[]", flat) else [folder / flat]
        matched = [file for path in matched for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        readable = [path for path in matched if path.is_file() and kind_of(path.name)]
        if not readable:
            others = [path.name for path in matched if path.is_file()]
            raise DataError(
                f"{title}: its description names {pattern}, and "
                + (f"files such as {others[0]} cannot be read; known are {', '.join(KINDS)}" if others else "no such file is in the folder")
            )
        found += readable
    return list(dict.fromkeys(found))


# By names


def _files_by_name(folder: Path, name: str, subsets: Sequence[str], known: Sequence[str] = ()) -> list[Path]:
    files = _data_files(folder, name)
    if not subsets or (tuple(subsets) == ("all",) and not any("all" in _names(path, folder) for path in files)):
        chosen = [path for path in files if "default" in _names(path, folder)] if not subsets else []
        return _train_files(_one_kind(chosen or files, name), name)
    found: list[Path] = []
    for subset in subsets:
        of_subset = [path for path in files if subset in _names(path, folder)]
        if not of_subset:
            raise _no_subset(name, subset, files, folder, known)
        of_subset = _one_kind(of_subset, name)
        found += of_subset if subset.lower() in OTHER_SPLITS else _train_files(of_subset, name)
    return list(dict.fromkeys(found))


def _data_files(folder: Path, name: str) -> list[Path]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and kind_of(path.name)
        and not NOT_ROWS.fullmatch(path.name)
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(f"{name}: no data file ({', '.join(KINDS)}) is in the folder")
    return files


def _names(path: Path, folder: Path) -> list[str]:
    """A file's sub-folders and its stem, the stem also without what marks it as one part of several."""
    inside = path.relative_to(folder)
    stem = inside.name.split(".")[0]
    return [*inside.parts[:-1], stem, re.sub(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$", "", stem)]


def _no_subset(name: str, subset: str, files: Iterable[Path], folder: Path, known: Sequence[str]) -> DataError:
    names = [*known, *sorted({word for path in files for word in _names(path, folder)} - set(known))]
    near = difflib.get_close_matches(subset, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return DataError(f"{name}: there is no subset {subset!r}{hint} Subsets, sub-folders and files: {', '.join(names[:20])}")


def _one_kind(files: list[Path], name: str) -> list[Path]:
    """Folders often hold the same rows twice, or notes beside the rows: the most frequent kind is taken, txt only where alone."""
    kinds = Counter(kind_of(path.name) for path in files)
    if len(kinds) == 1:
        return files
    kinds.pop("txt", None)
    best = max(kinds, key=lambda kind: kinds[kind])
    left = [path.name for path in files if kind_of(path.name) != best]
    logs.warn_once(f"{name}: only the {best} files are read; left out: {', '.join(left[:5])}{' …' if len(left) > 5 else ''}")
    return [path for path in files if kind_of(path.name) == best]


def _words(path: Path) -> set[str]:
    return set(re.split(r"[^a-z]+", f"{path.parent.name}/{path.name}".lower()))


def _train_files(files: list[Path], name: str) -> list[Path]:
    """Leave out what is named as a test or validation split, unless there is nothing else."""
    split = {path: _words(path) & OTHER_SPLITS for path in files}
    train = [path for path in files if not split[path]]
    if not train or len(train) == len(files):
        return files
    names = sorted({word for path in files for word in split[path]})
    logs.info_once(f"{name}: files of the splits {', '.join(names)} are left out; {name}:{names[0]} reads one")
    return train


def _of_split(files: list[Path], split: str, name: str) -> list[Path]:
    if split == "train":
        return _train_files(files, name)
    low = split.lower()
    meant = SAME_SPLIT.get(low, {low})
    return [path for path in files if meant & (_words(path) | {word.lower() for word in _names(path, path.parent.parent)})]


def _joined(by_split: dict[str, list[Path]], title: str, known: Sequence[str] = ()) -> list[Path]:
    """The files of all splits in order."""
    absent = [split for split, files in by_split.items() if not files]
    if len(absent) == len(by_split):
        there = f"; there are {', '.join(known)}" if known else ""
        raise DataError(f"{title}: there is no split {' or '.join(absent)}{there}")
    if absent:
        logs.warn_once(f"{title}: there is no split {', '.join(absent)}; the others are read")
    return list(dict.fromkeys(path for files in by_split.values() for path in files))

"""`id_or_path:subset/…#count` → files → rows with the file and line each came from. What the columns mean is not known here."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from swift import hub, nano
from swift.args.paths import DatasetItem, dataset_item, exists, is_path_like
from swift.data.folder import KINDS, files_of_item, kind_of
from swift.data.known import refuse_misspelt
from swift.data.sample import Origin
from swift.errors import DataError, UsageError, need
from swift.template.encoded import RowSkipped

if TYPE_CHECKING:
    from swift.args.base import HubArgs

Row = tuple["dict[str, Any] | RowSkipped", Origin]  # RowSkipped: the row is there but is no set of columns

csv.field_size_limit(2**31 - 1)  # the default refuses cells over 128 kB


Item = DatasetItem  # one word of --dataset or --val_dataset


def parse_item(word: str) -> Item:
    """Split `name:subset1/subset2#count`. What exists on disk is a name, whatever characters it has."""
    try:
        return dataset_item(word)
    except ValueError as wrong:
        raise UsageError(f"--dataset {wrong}") from None


def is_path(name: str) -> bool:
    """Whether a name means a file or folder here, never a hub id (rulings 11)."""
    return exists(name) or is_path_like(name)


def describe(word: str, hub_args: HubArgs) -> str:
    """Where an item would come from, for the plan of a dry run: no network, nothing read."""
    item = parse_item(word)
    if is_path(item.name):
        return "local" if exists(item.name) else "missing"
    if _builtin(item.name):
        return "built in"
    refuse_misspelt(item.name, nano.names())
    return "cached" if hub.cached(item.name, "dataset", hub_args) else "to be downloaded"


def find_files(item: Item, hub_args: HubArgs, *, force_download: bool = False) -> list[Path]:
    """The data files of an item that nothing is registered about, in the order they are read."""
    path = locate(item.name, hub_args, force_download=force_download)
    if path.is_dir():
        return files_of_item(path, item.name, item.subsets)
    if item.subsets:
        raise DataError(f"{item.name} is a file and has no subset {'/'.join(item.subsets)!r}; remove what follows the colon")
    return [path]


def locate(name: str, hub_args: HubArgs, *, revision: str | None = None, force_download: bool = False) -> Path:
    """The folder or file that a path, a built-in id or a hub id means, fetched where it must be."""
    path = Path(name).expanduser()
    if not is_path(name):
        found = _builtin(name)
        if found is None and "/" not in name and not hub.uses_hf(hub_args):
            raise DataError(f"{name!r} is neither a file or folder here nor an id such as swift/self-cognition{_near(path)}")
        if found is None:
            refuse_misspelt(name, nano.names())
        path = found or hub.download(name, "dataset", hub_args, revision=revision, force=force_download)
    if not path.exists():
        raise DataError(f"{name}: no such file or folder{_near(path)}")
    if path.is_file() and kind_of(path.name) is None:
        raise DataError(f"{path}: files of this kind cannot be read; known are {', '.join(KINDS)}, each also as .gz")
    return path


def read_file(path: Path) -> Iterator[Row]:
    """Yield the rows of one file. A file that is broken or without rows is a DataError."""
    read = {"jsonl": _read_json, "json": _read_json, "csv": _read_table, "tsv": _read_table, "txt": _read_text, "parquet": _read_parquet}
    kind = kind_of(path.name)
    assert kind is not None
    empty = True
    try:
        with _open(path) as file:
            for row in read[kind](file, str(path)):
                empty = False
                yield row
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the .gz file is broken: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if empty:
        raise DataError(f"{path}: the file is empty; there is no row in it")


# Finding


def _builtin(name: str) -> Path | None:
    return nano.dataset_path(name) if name.lower().startswith("swift/") else None


def _near(path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    if near:
        return f"; near it: {', '.join(str(folder / name) for name in near)}"
    return f"; the folder {folder} does not exist" if not folder.is_dir() else ""


# Reading


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Decode line by line, so that an error knows its line."""
    for number, line in enumerate(file, 1):
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{name}: the file is UTF-16; save it as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name} line {number}: not UTF-8 (byte {error.start + 1} of the line is 0x{line[error.start]:02x})") from None


def _read_json(file: IO[bytes], name: str) -> Iterator[Row]:
    """An array of objects, one object, or an object a line; told apart by how the text begins, not by the file's name."""
    lines = _lines(file, name)
    number, first = next(((number, line) for number, line in lines if line.strip()), (0, ""))
    if not number:
        return
    begin = first.lstrip()
    if begin[0] == "[":
        yield from _whole_json(number, first, lines, name)
        return
    one_file = name.lower().removesuffix(".gz").endswith(".json")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError) as error:
        if begin.rstrip() == "{" or (one_file and getattr(error, "pos", 0) >= len(first.rstrip())):  # it goes on in the next line
            yield from _whole_json(number, first, lines, name)
            return
        raise _broken(name, number, first, error) from None
    if one_file:
        second = next(((number, line) for number, line in lines if line.strip()), None)
        if second is None:
            yield _single(value, name)
            return
        yield _object(value, Origin(name, number))
        lines = _chain(second, lines)
    else:
        yield _object(value, Origin(name, number))
    for number, line in lines:
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _broken(name, number, line, error) from None
            yield _object(value, Origin(name, number))


def _chain(head: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield head
    yield from rest


def _broken(name: str, number: int, line: str, error: Exception) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        return DataError(f"{name} line {number}: not JSON: {error.msg} at character {error.pos + 1}: {_around(line, error.pos)}")
    return DataError(f"{name} line {number}: cannot be read as JSON: {error}")


def _around(line: str, at: int) -> str:
    piece = line[max(0, at - 30) : at + 30].strip()
    return f"…{piece}…" if piece else "the line ends there"


def _whole_json(number: int, first: str, lines: Iterator[tuple[int, str]], name: str) -> Iterator[Row]:
    body = "\n" * (number - 1) + first + "".join(line for _, line in lines)
    try:
        value = json.loads(body)
    except json.JSONDecodeError as error:
        hint = "" if error.msg != "Extra data" else " (rows of JSON lines must each be on one line)"
        raise DataError(f"{name} line {error.lineno}: not JSON: {error.msg} at column {error.colno}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: cannot be read as JSON: {error}") from None
    del body
    if not isinstance(value, list):
        yield _single(value, name)
        return
    row, total = 0, len(value)
    value.reverse()
    while value:  # each row is let go once it is handed on
        row = total - len(value) + 1
        yield _object(value.pop(), Origin(name, row))


def _single(value: Any, name: str) -> Row:
    """A file that is one object: one row, unless it is plainly a table of other things."""
    if isinstance(value, dict):
        inner = list(value.values())
        if len(inner) > 1 and all(isinstance(entry, dict) for entry in inner):
            raise DataError(f"{name}: the file is one object with {len(inner):,} objects under names, not rows; save them as a list")
        lists = [key for key, entry in value.items() if isinstance(entry, list) and entry and isinstance(entry[0], dict)]
        if len(inner) == 1 and lists and lists[0] not in ("messages", "conversations", "conversation"):
            raise DataError(f"{name}: the rows are inside the object's key {lists[0]!r}; save that list as a file of its own")
    return _object(value, Origin(name, 1))


def _object(value: Any, origin: Origin) -> Row:
    if isinstance(value, dict):
        return value, origin
    return RowSkipped("not an object", f"the row is {type(value).__name__}, not an object with columns"), origin


def _read_table(file: IO[bytes], name: str) -> Iterator[Row]:
    """csv and tsv with a header; a missing value is an empty string. A row may span lines; its number is that of its last line."""
    tabs = name.lower().removesuffix(".gz").endswith(".tsv")
    reader = csv.reader((line for _, line in _lines(file, name)), delimiter="\t" if tabs else ",")
    try:
        header = [column.strip() for column in next((row for row in reader if row), [])]
        twice = [column for column, count in Counter(header).items() if count > 1]
        if twice:
            raise DataError(f"{name}: the header has the column {twice[0]!r} twice")
        for cells in reader:
            origin = Origin(name, reader.line_num)
            if len(cells) > len(header):
                yield RowSkipped("more cells than columns", f"the row has {len(cells)} cells, the header {len(header)} columns"), origin
            elif cells:
                cells += [""] * (len(header) - len(cells))
                yield dict(zip(header, cells, strict=True)), origin
    except csv.Error as error:
        raise DataError(f"{name} line {reader.line_num}: {error}") from None


def _read_text(file: IO[bytes], name: str) -> Iterator[Row]:
    """One column `text`, a row a line; blank lines are no rows."""
    rows = [({"text": line.rstrip("\r\n")}, Origin(name, number)) for number, line in _lines(file, name) if line.strip()]
    if rows and all(re.fullmatch(r"<\S*>", values["text"].strip()) for values, _ in rows):
        raise DataError(f"{name}: every line is a token such as {rows[0][0]['text'].strip()}, not text to train on")
    yield from rows


def _read_parquet(file: IO[bytes], name: str) -> Iterator[Row]:
    need("pyarrow", why=f"reading {name}")
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1000):
            for values in batch.to_pylist():
                number += 1
                yield values, Origin(name, number)
    except pyarrow.ArrowException as error:
        raise DataError(f"{name}: not a parquet file that can be read: {error}") from None


__all__ = ["Item", "Row", "describe", "find_files", "is_path", "locate", "parse_item", "read_file"]

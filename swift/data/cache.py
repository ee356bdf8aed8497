"""Encoded rows on disk (--enable_cache): a file for each stretch of rows, named by what is in it.

The name is a hash over the rows' content and over everything that turns them into tokens, so a file that is found is never stale, rows
that are added or drawn otherwise leave the other files useful, and a run that was killed goes on where it was. Files are written whole
and renamed into place: several processes may do so at once. They are mapped into memory when they are read, and checked.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import mmap
import os
import re
import secrets
import sys
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

import swift
from swift import hub, logs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from swift.args.commands import SftCommand
    from swift.template.template import Template

FORMAT = 1  # of the files; a new number leaves old files alone
MAGIC = b"swift encoded rows %d\n" % FORMAT
ALIGNED = 64

Arrays = dict[str, np.ndarray]


class RowCache:
    """Files of one way to encode rows, in a folder named by its key."""

    def __init__(self, key: str, folder: Path | None = None) -> None:
        root = folder or hub.cache_root() / "swift" / "encoded"
        self.folder, self._context = root / key[:16], key
        self._writes = True
        logs.info_once(f"--enable_cache: encoded rows are kept in {root}; it may be deleted at any time")

    def name(self, rows: Iterable[bytes]) -> str:
        """The name for these rows, which must be bytes that say all of their content."""
        digest = hashlib.sha256(self._context.encode())
        for row in rows:
            digest.update(len(row).to_bytes(8, "little"))
            digest.update(row)
        return digest.hexdigest()[:40]

    def has(self, name: str) -> bool:
        return self._path(name).exists()

    def load(self, name: str) -> tuple[Arrays, Any] | None:
        """The arrays, read-only and mapped, and what was noted beside them. None where there is no file, or a broken one, which is said."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            return None if isinstance(error, FileNotFoundError) else self._broken(path, str(error))
        header = _header(mapped)
        if header is None:
            return self._broken(path, "its checksum is wrong")
        arrays = {key: np.frombuffer(mapped, dtype, count, offset) for key, (dtype, count, offset) in header["arrays"].items()}
        mapped.madvise(mmap.MADV_DONTNEED)  # the check has touched every page
        return arrays, header["notes"]

    def store(self, name: str, arrays: Mapping[str, np.ndarray], notes: Any) -> bool:
        """Write the file of these rows. False where the disk does not take it, which is said once; the run goes on without."""
        if not self._writes:
            return False
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
            try:
                with whole.open("xb") as file:
                    _write(file, arrays, notes)
                os.replace(whole, path)
            finally:
                whole.unlink(missing_ok=True)
        except OSError as error:
            self._writes = False
            logs.warn_once(f"--enable_cache: nothing more is kept in {self.folder}: {error.strerror or error}")
            return False
        return True

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.rows"

    def _broken(self, path: Path, fault: str) -> None:
        logs.warning(f"--enable_cache: {path} is broken ({fault}); its rows are encoded anew")


def _write(file: IO[bytes], arrays: Mapping[str, np.ndarray], notes: Any) -> None:
    """A line that says what it is, the arrays, each at a multiple of 64 bytes, a header with their places, its length, a checksum of all."""
    checksum, at = 0, 0

    def put(data: bytes) -> None:
        nonlocal checksum, at
        checksum, at = zlib.crc32(data, checksum), at + len(data)
        file.write(data)

    put(MAGIC.ljust(ALIGNED, b"\0"))
    places = {}
    for name, array in arrays.items():
        places[name] = (array.dtype.str, len(array), at)
        put(array.tobytes() + bytes(-array.nbytes % ALIGNED))
    header = json.dumps({"arrays": places, "notes": notes}).encode()
    put(header + len(header).to_bytes(8, "little"))
    file.write(checksum.to_bytes(4, "little"))


def _header(mapped: mmap.mmap) -> dict[str, Any] | None:
    """What stands in a file, or None where it is not what was written."""
    end = len(mapped) - 4
    with memoryview(mapped) as view:
        if end < ALIGNED or not mapped[:ALIGNED].startswith(MAGIC) or zlib.crc32(view[:end]) != int.from_bytes(view[end:], "little"):
            return None
    length = int.from_bytes(mapped[end - 8 : end], "little")
    return json.loads(mapped[end - 8 - length : end - 8])


# What a row's tokens depend on, besides the row


def encoding_key(args: SftCommand, template: Template, objective: object) -> str:
    """A hash over everything that decides what a row becomes: tokenizer, template, options, plug-ins, and the code itself.

    Rather too much than too little: a key that changes needlessly costs time, one that does not change costs a model.
    """
    tokenizer = template.tokenizer
    own = tokenizer.chat_template
    parts: dict[str, Any] = {
        "format": FORMAT,
        "versions": [swift.__version__, *(importlib.metadata.version(name) for name in ("transformers", "tokenizers", "jinja2"))],
        "code": _own_code(),
        "plugins": [_content(path) for path in (*args.runtime.custom_register_path, *args.runtime.external_plugins)],
        "tokenizer": tokenizer_key(tokenizer),
        "template": describe(template.args),
        "files": [_content(value) for value in vars_of(template.args).values() if isinstance(value, str) and _is_file(value)],
        "max_length": template.max_length,
        "chat_format": describe(template.chat_format)
        if dataclasses.is_dataclass(template.chat_format)
        else type(template.chat_format).__name__,
        "jinja": [own, template.jinja is not None],
        "date": template.date.isoformat() if template.dated else None,
        "loss_scale": describe(template.loss_scale),
        "objective": describe(objective),
        "task": [args.model.task_type, args.model.num_labels],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash over what the tokenizer does: vocabulary, merges, added tokens, normalisation."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.special_tokens_map}".encode())
    if tokenizer.is_fast:
        digest.update(tokenizer.backend_tokenizer.to_str().encode())  # type: ignore[attr-defined]
        return digest.hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def describe(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value as JSON that says what it does: functions by the text of their file and what they hold, objects by class and fields."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
    go = partial(describe, inside=inside)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return [[go(key), go(entry)] for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return [go(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(go(entry), default=str) for entry in value)
    if isinstance(value, re.Pattern):
        return ["pattern", value.pattern, value.flags]
    if isinstance(value, Path | datetime.date):
        return str(value)
    if isinstance(value, partial):
        return ["partial", go(value.func), go(value.args), go(value.keywords)]
    if isinstance(value, MethodType):
        return ["method", go(value.__self__), value.__name__]
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
        return [
            "function",
            value.__module__,
            value.__qualname__,
            _text_of(value),
            go(held),
            go(value.__defaults__),
            go(value.__kwdefaults__),
        ]
    if isinstance(value, type):
        return ["class", value.__module__, value.__qualname__, _text_of(value)]
    return [go(type(value)), go(vars_of(value))]


def vars_of(value: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(vars(value)) if hasattr(value, "__dict__") else {}


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _text_of(thing: Any) -> str:
    """A hash of the file that defines a function or class; of its compiled form where there is no file."""
    file = getattr(getattr(thing, "__code__", None), "co_filename", None)
    if file is None:
        file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    if file and _is_file(file):
        return _content(file)
    code = getattr(thing, "__code__", None)
    return hashlib.sha256(repr((code.co_code, code.co_consts, code.co_names)).encode()).hexdigest() if code else ""


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # a text, not a name
        return False


def _content(name: str | Path) -> str:
    return hashlib.sha256(Path(name).expanduser().read_bytes()).hexdigest()


@cache
def _own_code() -> str:
    """The code of this package that rows pass through, so that a change of it without a new version counts too."""
    digest = hashlib.sha256()
    root = Path(swift.__file__).parent
    for pattern in ("data/sample*.py", "data/encoded.py", "template/*.py", "objectives/*.py", "plugin/*.py"):
        for path in sorted(root.glob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()

"""Rows in memory, small: a sample is kept as a few hundred bytes and made anew each time it is looked at.

A million short conversations as Python objects take over a gigabyte; here they take about what their text takes.
"""

from __future__ import annotations

import json
import marshal
import pickle
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import overload

import numpy as np

from swift.data.columns import to_row
from swift.data.sample import Message, Origin, Sample

PART_ROWS, PART_BYTES = 4096, 1 << 24  # a part is closed when it has so many rows or bytes

_message = attrgetter(*(field.name for field in fields(Message)))
_first, _second, *_PLAIN, _last = (field.name for field in fields(Sample))
assert (_first, _second, _last) == ("messages", "rejected", "origin")  # so that a sample is made of its values in their order
_plain = attrgetter(*_PLAIN)


class Part:
    """Some rows, one behind the other as bytes. Where each came from is kept beside them, so that equal rows are equal bytes."""

    __slots__ = ("data", "ends", "files", "lines")

    def __init__(self) -> None:
        self.data: bytes | bytearray | None = bytearray()
        self.ends, self.lines = array("q", [0]), array("q")  # a line of 0: the row has no origin
        self.files: list[tuple[int, str]] = []  # (first row, file) of each stretch of rows from one file

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, row: bytes, origin: Origin | None) -> None:
        assert isinstance(self.data, bytearray)
        if origin is not None and (not self.files or self.files[-1][1] != origin.file):
            self.files.append((len(self.lines), origin.file))
        self.data += row
        self.ends.append(len(self.data))
        self.lines.append(origin.line if origin is not None else 0)

    def close(self) -> None:
        self.data = bytes(self.data or b"")

    def row(self, at: int) -> bytes:
        if self.data is None:
            raise RuntimeError("these rows were let go when they were encoded")
        return bytes(self.data[self.ends[at] : self.ends[at + 1]])

    def origin(self, at: int) -> Origin | None:
        if not self.lines[at]:
            return None
        return Origin(self.files[bisect_right(self.files, at, key=lambda entry: entry[0]) - 1][1], self.lines[at])


class Samples(Sequence[Sample]):
    """Samples in memory; rows that are drawn several times are held once. `samples[i]` is a new Sample at each look.

    Choosing and joining copies no row: `index` says which rows of `parts`, counted through, these samples are.
    """

    def __init__(self, rows: Iterable[Sample] = ()) -> None:
        self._keep((packed(sample), sample.origin) for sample in rows)

    def _keep(self, rows: Iterable[tuple[bytes, Origin | None]]) -> None:
        parts: list[Part] = []
        for row, origin in rows:
            if not parts or len(parts[-1]) >= PART_ROWS or parts[-1].ends[-1] >= PART_BYTES:
                if parts:
                    parts[-1].close()
                parts.append(Part())
            parts[-1].add(row, origin)
        if parts:
            parts[-1].close()
        self._hold(parts)
        self._index: np.ndarray = np.arange(self._starts[-1])

    def _hold(self, parts: list[Part]) -> None:
        self._parts, self._gone = parts, 0
        self._starts: list[int] = np.cumsum([0] + [len(part) for part in parts]).tolist()

    @classmethod
    def _of(cls, parts: list[Part], index: np.ndarray) -> Samples:
        made = cls()
        made._hold(parts)
        made._index = index
        return made

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Samples: ...
    def __getitem__(self, at: int | slice) -> Sample | Samples:
        if isinstance(at, slice):
            return Samples._of(self._parts, self._index[at])
        return self.kept(int(self._index[at]))

    def __iter__(self) -> Iterator[Sample]:
        return map(self.kept, self._index.tolist())

    def __add__(self, other: Samples) -> Samples:
        if not len(self):
            return other
        known = {id(part): start for part, start in zip(self._parts, self._starts, strict=False)}
        parts, end, moved = list(self._parts), self._starts[-1], []
        for part in other._parts:
            if id(part) not in known:
                parts.append(part)
                known[id(part)], end = end, end + len(part)
            moved.append(known[id(part)])
        at = np.searchsorted(other._starts, other._index, side="right") - 1
        index = other._index - np.asarray(other._starts, np.int64)[at] + np.asarray([*moved, 0], np.int64)[at]
        return Samples._of(parts, np.concatenate([self._index, index]))

    def select(self, indices: Iterable[int]) -> Samples:
        wanted = indices if isinstance(indices, np.ndarray) else np.array(list(indices), np.int64)
        return Samples._of(self._parts, self._index[wanted])

    def apart(self) -> Samples:
        """The same samples, held by themselves: the rows that were not chosen can be let go."""
        made = Samples()
        made._keep((self.row(number), self.origin(number)) for number in self._index.tolist())
        return made

    def write(self, path: Path) -> None:
        """Write JSON lines that read back as the same samples."""
        with path.open("w", encoding="utf-8") as file:
            for sample in self:
                file.write(json.dumps(to_row(sample), ensure_ascii=False, default=str) + "\n")

    # The rows behind the samples, by their number among all that are held

    @property
    def numbers(self) -> np.ndarray:
        """Which row each sample is: int64 (len,); a row that was drawn twice is there twice."""
        return self._index

    def row(self, number: int) -> bytes:
        """A row's content without its origin: equal rows give equal bytes."""
        at = bisect_right(self._starts, number) - 1
        return self._parts[at].row(number - self._starts[at])

    def origin(self, number: int) -> Origin | None:
        at = bisect_right(self._starts, number) - 1
        return self._parts[at].origin(number - self._starts[at])

    def kept(self, number: int) -> Sample:
        at = bisect_right(self._starts, number) - 1
        part, number = self._parts[at], number - self._starts[at]
        return unpacked(part.row(number), part.origin(number))

    def let_go(self, number: int) -> None:
        """Free the parts whose rows all come before row `number`; whoever asks for one of them fails. Their origins stay."""
        for part in self._parts[self._gone : bisect_right(self._starts, number) - 1]:
            part.data = None
            self._gone += 1


def packed(sample: Sample) -> bytes:
    """A sample without its origin, as bytes that are equal where the samples are."""
    content = (
        [_message(message) for message in sample.messages],
        sample.rejected and [_message(message) for message in sample.rejected],
        *_plain(sample),
    )
    try:
        return marshal.dumps(content, 2)  # version 2 writes no references: what is written depends on the values alone
    except ValueError:  # a date or number type that parquet has and marshal does not know
        return pickle.dumps(content, 5)


def unpacked(row: bytes, origin: Origin | None) -> Sample:
    messages, rejected, *rest = pickle.loads(row) if row[:1] == b"\x80" else marshal.loads(row)
    return Sample([Message(*values) for values in messages], rejected and [Message(*values) for values in rejected], *rest, origin)  # type: ignore[call-arg]


def as_samples(samples: Sequence[Sample]) -> Samples:
    return samples if isinstance(samples, Samples) else Samples(samples)

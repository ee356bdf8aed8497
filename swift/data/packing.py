"""Several examples in one row of a fixed number of tokens. Each stays an example of its own: nothing here joins or masks them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import IterableDataset

from swift import logs
from swift.data.encoded import Example
from swift.errors import DataError


class Rows(Protocol):
    """What can be packed: rows whose lengths are known."""

    lengths: np.ndarray

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> list[Example]: ...


def first_fit_decreasing(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Put each length into the first bin with room, the longest first; equal lengths by index. Returns the indices in each bin, ascending.

    At most 11/9 of the fewest possible bins, plus one. O(n log n): a tree over the bins knows the most room in each half.
    """
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and lengths.max() > capacity:
        worst = int(lengths.argmax())
        raise DataError(f"row {worst} has {lengths[worst]:,} tokens, more than the {capacity:,} of a packed row (--max_length)")
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [capacity] * (2 * size)  # room[1] is the root; the leaves size … 2·size - 1 are the bins
    bins: list[list[int]] = []
    order = np.argsort(-lengths, kind="stable").tolist()
    sizes = lengths.tolist()
    for index in order:
        need, node = sizes[index], 1
        while node < size:
            node *= 2
            if room[node] < need:
                node += 1
        if node - size == len(bins):
            bins.append([])
        bins[node - size].append(index)
        room[node] -= need
        while node > 1:
            node //= 2
            left, right = room[2 * node], room[2 * node + 1]
            room[node] = left if left >= right else right
    for members in bins:
        members.sort()
    return bins


class PackedRows:
    """Encoded rows grouped so that each item holds at most `capacity` tokens.

    `.lengths` are the items' tokens, `.waste` is the unused share.
    """

    def __init__(self, rows: Rows, capacity: int) -> None:
        self.rows = rows
        self.capacity = capacity
        self.packs = first_fit_decreasing(rows.lengths, capacity)
        self.lengths: np.ndarray = np.array([rows.lengths[members].sum() for members in self.packs], np.int64)
        self.waste = 1 - float(self.lengths.sum()) / (capacity * len(self.packs)) if self.packs else 0.0
        logs.info(f"packing: {len(rows):,} rows in {len(self.packs):,} of {capacity:,} tokens, {self.waste:.1%} unused")

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> list[Example]:
        return [example for member in self.packs[index] for example in self.rows[member]]


class PackedStream(IterableDataset[list[Example]]):
    """Packs a stream by filling a buffer of `buffer` rows, packing it, and going on; order and packs are the same in each pass.

    The last pack of a buffer, which has most room, goes into the next buffer.
    """

    def __init__(self, stream: Iterable[list[Example]], capacity: int, buffer: int = 1024) -> None:
        super().__init__()
        self.stream, self.capacity, self.buffer = stream, capacity, max(buffer, 1)

    def __iter__(self) -> Iterator[list[Example]]:
        waiting: list[Example] = []
        for examples in self.stream:
            waiting += examples
            if len(waiting) >= self.buffer:
                packs = self._packed(waiting)
                last = packs.pop() if len(packs) > 1 else []
                yield from packs
                waiting = last
        yield from self._packed(waiting)

    def _packed(self, examples: list[Example]) -> list[list[Example]]:
        bins = first_fit_decreasing([len(example["input_ids"]) for example in examples], self.capacity)
        return [[examples[index] for index in members] for members in bins]

"""Keys and values of all running answers: one pool of N token rows for each layer, in which every answer owns one stretch of rows.

A stretch grows where it lies or moves to a larger hole. When an answer has ended, its rows stay until their place is needed: a prompt that
begins with the same tokens (a shared system text, the next turn of a conversation) copies them instead of computing them again.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SHORTEST_PREFIX = 16  # tokens; looking for less costs more than it saves


class KvCache:
    """The tensors. A layer's are made when it writes first: what it keeps is seen, not believed."""

    def __init__(self, rows: int):
        """`rows` can be owned; one more takes what idle places of a batch write."""
        self.rows, self.spare = rows, rows
        self.keys: dict[int, Tensor] = {}  # layer -> (1, heads, rows + 1, size)
        self.values: dict[int, Tensor] = {}

    def write(self, layer: int, where: Tensor, keys: Tensor, values: Tensor) -> None:
        """where (T,) row numbers; keys and values (T, heads, size)."""
        if layer not in self.keys:
            self.make(layer, keys, values)
        for pool, fresh in ((self.keys[layer], keys), (self.values[layer], values)):
            if fresh.is_cuda:
                by_row(pool).index_copy_(0, where, fresh)
            else:
                pool[0].index_copy_(1, where, fresh.transpose(0, 1))

    def make(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """The layer's room, for keys and values like these (T, heads, size)."""
        self.keys[layer], self.values[layer] = self._room(keys), self._room(values)

    def _room(self, like: Tensor) -> Tensor:
        """On a CPU a head's rows lie together, which is what its attention reads; on a GPU the heads of a row, as the kernels want it."""
        heads, size = like.shape[1:]
        if like.is_cuda:
            return like.new_zeros(self.rows + 1, heads, size).transpose(0, 1)[None]
        return like.new_zeros(1, heads, self.rows + 1, size)

    def copy(self, source: int, target: int, count: int) -> None:
        """`count` rows of all layers; the two stretches do not overlap."""
        for pool in (*self.keys.values(), *self.values.values()):
            pool[:, :, target : target + count] = pool[:, :, source : source + count]

    def bytes_per_row(self) -> int:
        return sum(pool.shape[1] * pool.shape[3] * pool.element_size() for pool in (*self.keys.values(), *self.values.values()))


def by_row(pool: Tensor) -> Tensor:
    """(1, heads, rows, size) -> (rows, heads, size), the same memory."""
    return pool[0].transpose(0, 1)


@dataclass(eq=False)
class Stretch:
    """Rows [start, start + size) of the pool, of which the first `len(tokens)` hold what was computed of these tokens."""

    start: int
    size: int
    tokens: np.ndarray  # int64; those known to the host
    kind: Hashable  # tokens of another adapter have other keys and values


class Room:
    """Who owns which rows. Holes are taken first-fit; what ended answers left is given up, longest unused first, when there is no hole."""

    def __init__(self, rows: int, keep: int):
        self.keep = keep  # stretches of ended answers at most
        self._holes: list[tuple[int, int]] = [(0, rows)]  # (start, size), sorted, never adjacent
        self._left: list[Stretch] = []  # of ended answers, longest unused first

    def take(self, size: int) -> int | None:
        """The start of `size` rows; None where running answers own too much."""
        while True:
            for number, (start, hole) in enumerate(self._holes):
                if hole >= size:
                    self._holes[number : number + 1] = [(start + size, hole - size)] if hole > size else []
                    return start
            if not self._left:
                return None
            self.give(self._left.pop(0))

    def extend(self, stretch: Stretch, more: int) -> bool:
        """`more` rows behind the stretch, where a hole begins there."""
        end = stretch.start + stretch.size
        place = bisect(self._holes, (end, 0))
        if place == len(self._holes) or self._holes[place][0] != end or self._holes[place][1] < more:
            return False
        hole = self._holes.pop(place)[1]
        if hole > more:
            self._holes.insert(place, (end + more, hole - more))
        stretch.size += more
        return True

    def give(self, stretch: Stretch) -> None:
        self._free(stretch.start, stretch.size)

    def _free(self, start: int, size: int) -> None:
        place = bisect(self._holes, (start, size))
        if place < len(self._holes) and self._holes[place][0] == start + size:
            size += self._holes.pop(place)[1]
        if place and sum(self._holes[place - 1]) == start:
            before, its_size = self._holes.pop(place - 1)
            start, size, place = before, size + its_size, place - 1
        self._holes.insert(place, (start, size))

    def leave(self, stretch: Stretch) -> None:
        """An answer has ended: its rows wait for a prompt that begins as it did."""
        used = len(stretch.tokens)
        if used < SHORTEST_PREFIX:
            return self.give(stretch)
        if stretch.size > used:
            self._free(stretch.start + used, stretch.size - used)
            stretch.size = used
        self._left.append(stretch)
        if len(self._left) > self.keep:
            self.give(self._left.pop(0))

    def prefix(self, tokens: np.ndarray, kind: Hashable, running: Iterable[Stretch]) -> tuple[Stretch | None, int]:
        """Who computed the longest beginning of `tokens`, and its length: one less than all at most, since the last gives the answer's first."""
        best, length = None, SHORTEST_PREFIX - 1
        for stretch in (*self._left, *running):
            if stretch.kind == kind and (common := common_prefix(tokens[:-1], stretch.tokens)) > length:
                best, length = stretch, common
        if best is None:
            return None, 0
        if best in self._left:  # used just now: the last to go
            self._left.remove(best)
            self._left.append(best)
        return best, length

    def forget(self) -> None:
        """Weights have changed, or may have: nothing that was computed holds."""
        while self._left:
            self.give(self._left.pop())


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    length = min(len(a), len(b))
    if length == 0 or a[0] != b[0]:
        return 0
    differ = a[:length] != b[:length]
    return int(differ.argmax()) if differ.any() else length


def rows_that_fit(bytes_per_row: int, wanted: int, device: torch.device) -> int:
    """Rows of the pool: as many as can be wanted, within a part of what memory is free."""
    if device.type != "cuda":
        return max(1, min(wanted, max(_free_memory() // 4, 64 << 20) // bytes_per_row))
    free = int(torch.cuda.mem_get_info(device)[0] * 0.85) - (1 << 30)  # activations, logits, captured graphs
    return max(1, min(wanted, max(free, 64 << 20) // bytes_per_row))


def _free_memory() -> int:
    """Bytes. Linux says what is available; elsewhere 8 GiB are taken to be there."""
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 << 30

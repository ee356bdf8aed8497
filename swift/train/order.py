"""In which order rows are learned: the same for every number of ranks and every way a run is cut into micro-batches.

Accelerate hands out whole batches in turn, so the rows of one step are one stretch of this order. Where the rows do not fill the last
round of batches it would begin again and learn some rows twice; empty places (None, an item without samples) stand there instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch.utils.data import Dataset, IterableDataset, Sampler

from swift.errors import DataError
from swift.objectives.objective import Example


class Items(Protocol):
    """What can be trained on by number: each item a list of examples, several where they were packed."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> list[Example]: ...


class PaddedOrder(Sampler[int | None]):
    """0 … size-1, shuffled by (seed, epoch) or in order where seed is None, then None up to a multiple of `fill`.

    With `drop_last`, rows that do not fill the last `whole` are left out. `fill` is `whole` unless a batch holds several of them.
    """

    def __init__(self, size: int, whole: int, *, seed: int | None, drop_last: bool = False, fill: int | None = None):
        self.size, self.whole, self.seed, self.drop_last = size, whole, seed, drop_last
        self.taken = size // whole * whole if drop_last else size
        self.fill = fill or whole
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.taken // self.fill) * self.fill

    def __iter__(self) -> Iterator[int | None]:
        order = list(range(self.size))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.size, generator=generator).tolist()
        yield from order[: self.taken]
        yield from [None] * (len(self) - self.taken)


class Places(Dataset):
    """Items by place; the place None is empty."""

    def __init__(self, items: Items):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int | None) -> list[Example]:
        return [] if place is None else self.items[place]


class CountedStream(IterableDataset):
    """A stream whose number of items in one pass is known, so that epochs can be told apart as with rows in memory."""

    def __init__(self, stream: Iterable[list[Example]], number: int):
        self.stream, self.number = stream, number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[list[Example]]:
        return iter(self.stream)


class WholeStream(IterableDataset):
    """One pass over a counted stream, then empty places: as PaddedOrder does for rows in memory."""

    def __init__(self, stream: CountedStream, whole: int, *, drop_last: bool = False, fill: int | None = None):
        self.stream = stream
        self.order = PaddedOrder(len(stream), whole, seed=None, drop_last=drop_last, fill=fill)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[Example]]:
        items = iter(self.stream)
        for place in self.order:
            item = [] if place is None else next(items, None)
            if item is None:
                raise DataError(f"the stream had {len(self.stream):,} items when it was counted and has fewer now: did a file change?")
            yield item


class Endless(IterableDataset):
    """A finite stream, over and over: to the training loop it is one long epoch, so that a position in it can be found again."""

    def __init__(self, stream: Iterable[list[Example]]):
        self.stream = stream

    def __iter__(self) -> Iterator[list[Example]]:
        while True:
            found = False
            for item in self.stream:
                found = True
                yield item
            if not found:
                raise DataError("the stream has no row that can be trained on")

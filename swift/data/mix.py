"""All of --dataset and --val_dataset → training and validation samples: reading, sampling (#N), splitting, joining, streaming."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from swift import logs
from swift.data.columns import Columns, Task
from swift.data.parts import Part, open_item
from swift.data.sample import Sample
from swift.data.samples import Samples
from swift.data.source import Item, parse_item
from swift.data.tally import Pass, Recurring, Tally, nothing_left, row_error
from swift.errors import DataError, UsageError
from swift.registry import did_you_mean
from swift.template.encoded import RowSkipped

if TYPE_CHECKING:
    from swift.args.base import DataArgs, HubArgs


class SampleStream:
    """Samples read anew at each iteration, in the same order. Each row is counted the first time it is reached."""

    def __init__(self, items: Sequence[Item], data: DataArgs, hub_args: HubArgs, *, task: Task, tally: Tally) -> None:
        self._sources = [(item, open_item(item, data, hub_args)) for item in items]
        self._data, self._tally, self._recurring = data, tally, Recurring(tally)
        self._task: Task = task

    def __iter__(self) -> Iterator[Sample]:
        samples = self._read(self._recurring.begin())
        size = self._data.shuffle_buffer_size
        return shuffled(samples, size, self._data.data_seed) if size > 1 else samples

    def check(self) -> None:
        """Raise where there is no usable row at all, with the reasons."""
        tally = Tally(self._tally.title)
        if next(self._read(tally), None) is None:
            raise nothing_left(tally, "to use")

    def _read(self, tally: Tally | Pass) -> Iterator[Sample]:
        columns = _columns(self._data, self._task)
        for item, parts in self._sources:
            yield from islice(_convert(parts, columns, self._data, tally), item.count)


@dataclass(slots=True)
class Loaded:
    """What a run trains on and is judged by. `val` is None where there is nothing to judge by."""

    train: Samples | SampleStream | None
    val: Samples | SampleStream | None
    tally: Tally = field(default_factory=Tally)


def load_samples(data: DataArgs, hub_args: HubArgs, *, task: Task, answering: bool | None = None) -> Loaded:
    """Read, convert, sample and split every data set of a run. Raises DataError where no row is left.

    `answering` (with task `infer` it is true) wants rows to answer: those of --val_dataset, or the validation part of --dataset.
    """
    answering = task == "infer" if answering is None else answering
    if not data.dataset and not data.val_dataset:
        raise UsageError("no data set was given; name one with --dataset, e.g. --dataset swift/self-cognition or --dataset train.jsonl")
    tally = Tally("rows")
    train_items = [] if answering and data.val_dataset else [parse_item(word) for word in data.dataset]
    val_items = [parse_item(word) for word in data.val_dataset]
    if data.streaming:
        train, val = (_stream(items, data, hub_args, task, tally) for items in (train_items, val_items))
        return Loaded(train, val, tally)

    ratio = 0.0 if data.val_dataset else data.split_dataset_ratio
    columns = _columns(data, task)
    trains, vals = Samples(), Samples()
    for items, share in ((train_items, ratio), (val_items, 1.0)):
        state = np.random.RandomState(data.data_seed)
        for item in items:
            rows = _read_item(item, data, hub_args, columns, tally, said=len(train_items) + len(val_items) > 1)
            train_part, val_part = divide(rows, item, share, state)
            trains, vals = trains + train_part, vals + val_part
    _tell_unmapped(columns, data)
    if not answering and not trains:
        raise DataError("no row is left to train on: --split_dataset_ratio 1 makes all of them validation rows")
    return Loaded(trains or None, vals or None, tally)


def read_samples(word: str, data: DataArgs, hub_args: HubArgs, columns: Columns, tally: Tally) -> Iterator[Sample]:
    """The samples of one word of --dataset in the files' order, neither drawn from nor split; what is skipped goes into `tally`."""
    yield from _convert(open_item(parse_item(word), data, hub_args), columns, replace(data, strict=False), tally)


def divide(rows: Samples, item: Item, ratio: float, state: np.random.RandomState) -> tuple[Samples, Samples]:
    """One item's training and validation rows (specification 2.1). Draws from `state`, which the items share in order."""
    count = item.count or len(rows)
    if ratio <= 0:
        return draw(rows, count, state), Samples()
    if ratio >= 1:
        if count > len(rows):
            raise DataError(f"{item.name}#{count}: there are only {len(rows):,} rows, and rows to judge by are not repeated")
        return Samples(), draw(rows, count, state)
    num_val = int(min(len(rows), count) * ratio)
    num_train = count - num_val
    if num_val < 1 or num_train < 1:
        logs.info(f"{item.name}: {min(len(rows), count)} rows are too few to split (--split_dataset_ratio {ratio:g}); all are trained on")
        return draw(rows, count, state), Samples()
    order = np.random.default_rng(state.randint(2**31)).permutation(len(rows))
    # held apart, so that the rows to judge by do not keep the others in memory
    return draw(rows.select(order[num_val:]), num_train, state), rows.select(order[:num_val]).apart()


def draw(rows: Samples, count: int, state: np.random.RandomState) -> Samples:
    """`count` rows: whole copies in their order, then a random remainder without repetition."""
    copies, remainder = divmod(count, len(rows))
    if copies and remainder:
        logs.warning(f"{count:,} rows are drawn from {len(rows):,}: each comes {copies} times, and {remainder:,} random ones once more")
    if copies == 1 and not remainder:
        return rows
    drawn = state.permutation(len(rows))[:remainder] if remainder else []
    return rows.select(np.concatenate([np.tile(np.arange(len(rows)), copies), np.asarray(drawn, np.int64)]))


def shuffled(samples: Iterable[Sample], size: int, seed: int) -> Iterator[Sample]:
    """Shuffle a stream through a buffer of `size` samples."""
    chance = random.Random(seed)
    buffer: list[Sample] = []
    for sample in samples:
        if len(buffer) < size:
            buffer.append(sample)
            continue
        at = chance.randrange(size)
        yield buffer[at]
        buffer[at] = sample
    chance.shuffle(buffer)
    yield from buffer


def _columns(data: DataArgs, task: Task) -> Columns:
    return Columns(data.columns, keep_extra=not data.remove_unused_columns, task=task, seed=data.data_seed)


def _stream(items: list[Item], data: DataArgs, hub_args: HubArgs, task: Task, tally: Tally) -> SampleStream | None:
    if not items:
        return None
    stream = SampleStream(items, data, hub_args, task=task, tally=tally)
    stream.check()
    return stream


def _read_item(item: Item, data: DataArgs, hub_args: HubArgs, columns: Columns, tally: Tally, *, said: bool) -> Samples:
    """The rows of one item; `said`: with a line of counts of its own, since the run's adds up several."""
    parts = open_item(item, data, hub_args)
    own = Tally(item.name)
    rows = Samples(_convert(parts, columns, data, own))
    tally.merge(own)
    if said:
        logs.info(own.lines()[0])
    if not rows:
        raise nothing_left(own, "to use")
    return rows


def _convert(parts: Iterable[Part], columns: Columns, data: DataArgs, tally: Tally | Pass) -> Iterator[Sample]:
    for part in parts:
        for values, origin in part.rows():
            try:
                if isinstance(values, RowSkipped):
                    raise values
                sample = columns(values, origin, renamed=part.renamed)
            except RowSkipped as skip:
                if data.strict:
                    raise row_error(skip, origin, tally) from None
                tally.skip(skip.reason, origin, skip.detail)
                continue
            tally.keep()
            yield sample
        columns.mapped |= part.mapped


def _tell_unmapped(columns: Columns, data: DataArgs) -> None:
    for name in data.columns or {}:
        if name.lower() not in columns.mapped:
            logs.warning(f"--columns names {name!r}, which no row has{did_you_mean(name, sorted(columns.seen))}")

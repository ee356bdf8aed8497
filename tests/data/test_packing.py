"""Packing: every row once, nothing over capacity, and the bins of plain first fit decreasing."""

from __future__ import annotations

import random
import time
from itertools import chain

import numpy as np
import pytest

from swift.data.encoded import EncodedRows, Example, encode_rows
from swift.data.packing import PackedRows, PackedStream, first_fit_decreasing
from swift.data.sample import Sample
from swift.data.tally import Tally
from swift.errors import DataError
from swift.template.encoded import Encoded


def first_fit_by_hand(lengths: list[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((b for b, free in enumerate(room) if free >= lengths[index]), None)
        if place is None:
            bins.append([])
            room.append(capacity)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= lengths[index]
    return [sorted(members) for members in bins]


def test_bins_are_those_of_the_plain_loop() -> None:
    chance = random.Random(0)
    for _ in range(300):
        capacity = chance.randrange(1, 60)
        lengths = [chance.randrange(1, capacity + 1) for _ in range(chance.randrange(0, 80))]
        bins = first_fit_decreasing(lengths, capacity)
        assert bins == first_fit_by_hand(lengths, capacity)
        assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
        assert all(sum(lengths[index] for index in members) <= capacity for members in bins)


def test_a_hundred_thousand_rows_are_packed_in_seconds() -> None:
    lengths = np.random.default_rng(0).integers(1, 4097, 100_000)
    start = time.perf_counter()
    bins = first_fit_decreasing(lengths, 4096)
    assert time.perf_counter() - start < 10  # 0.6 s on a quiet core
    assert len(bins) < 1.02 * lengths.sum() / 4096


def test_a_row_over_capacity_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match=r"row 1 has 9 tokens, more than the 8"):
        first_fit_decreasing([3, 9, 1], 8)


def rows_of(lengths: list[int]) -> EncodedRows:
    samples = [Sample.of(("user", f"{i} {length}")) for i, length in enumerate(lengths)]

    def encode(sample: Sample) -> Encoded:
        index, length = map(int, sample.messages[0].content.split())
        return Encoded([index] * length, [index] * length, [1.0] * length)

    return encode_rows(samples, encode, num_proc=1, strict=False, tally=Tally())


def indices(items: list[list[Example]]) -> list[list[int]]:
    return [[int(example["input_ids"][0]) for example in item] for item in items]


def test_packed_rows_hold_each_row_once_and_know_their_lengths() -> None:
    lengths = [random.Random(i).randrange(2, 40) for i in range(200)]
    packed = PackedRows(rows_of(lengths), 64)
    items = [packed[i] for i in range(len(packed))]
    assert sorted(chain.from_iterable(indices(items))) == list(range(200))
    assert packed.lengths.tolist() == [sum(len(example["input_ids"]) for example in item) for item in items]
    assert max(packed.lengths) <= 64
    assert packed.waste == pytest.approx(1 - sum(lengths) / (64 * len(packed)))


@pytest.mark.parametrize("buffer", [1, 7, 64, 10_000])
def test_a_packed_stream_holds_each_row_once_with_a_bounded_buffer(buffer: int) -> None:
    lengths = [random.Random(i).randrange(2, 40) for i in range(300)]
    rows = rows_of(lengths)
    taken = 0

    def stream() -> list[list[Example]]:
        return [rows[i] for i in range(len(rows))]

    class Counting:
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal taken
            taken = 0
            for item in stream():
                taken += 1
                yield item

    given, items = 0, []
    for item in PackedStream(Counting(), 64, buffer):
        given += len(item)
        assert taken - given <= buffer + 64
        items.append(item)
    assert sorted(chain.from_iterable(indices(items))) == list(range(300))
    assert all(sum(len(example["input_ids"]) for example in item) <= 64 for item in items)
    assert indices(list(PackedStream(Counting(), 64, buffer))) == indices(items)

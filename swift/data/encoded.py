"""Samples → token arrays: all at once and compact (EncodedRows), on access (LazyRows) or as a stream (EncodedStream).

The encoder is handed in: nothing here knows templates or objectives. An item is a list of examples: one here, several when packed.
"""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from swift import logs
from swift.data.sample import Origin, Sample
from swift.data.tally import Pass, Recurring, Tally, nothing_left, row_error
from swift.errors import DataError
from swift.template.encoded import IGNORE, Encoded, RowSkipped

Example = dict[str, np.ndarray]  # input_ids int64 (T,), labels int64 (T,), weights float32 (T,)
Encode = Callable[[Sample], Encoded]

CHUNK = 256  # rows that one process encodes at a time
LOGGED = 10  # rows that LazyRows and EncodedStream name one by one


class Block(NamedTuple):
    """Encoded rows laid end to end: 8 bytes a token, 12 where weights say more than the labels do."""

    input_ids: np.ndarray  # int32 (N,)
    labels: np.ndarray  # int32 (N,)
    weights: np.ndarray | None  # float32 (N,); None: 1 where there is a label, else 0
    ends: np.ndarray  # int64 (rows + 1,), from 0


class Skip(NamedTuple):
    origin: Origin | None
    reason: str
    detail: str


class EncodedRows:
    """Encoded samples in memory, in their order."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = [block for block in blocks if len(block.ends) > 1]
        self._starts = np.cumsum([0] + [len(block.ends) - 1 for block in self._blocks]).tolist()
        self.lengths: np.ndarray = np.concatenate([np.zeros(0, np.int64), *(np.diff(block.ends) for block in self._blocks)])

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> list[Example]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        at = bisect_right(self._starts, index) - 1
        block = self._blocks[at]
        start, end = block.ends[index - self._starts[at] : index - self._starts[at] + 2]
        labels = block.labels[start:end].astype(np.int64)
        weights = (labels != IGNORE).astype(np.float32) if block.weights is None else block.weights[start:end].copy()
        return [{"input_ids": block.input_ids[start:end].astype(np.int64), "labels": labels, "weights": weights}]


def encode_rows(
    samples: Sequence[Sample], encode: Encode, *, num_proc: int, strict: bool, tally: Tally, title: str = "encoded rows"
) -> EncodedRows:
    """Encode every sample; rows that would train nothing are skipped and counted. The result does not depend on `num_proc`.

    Counts in a new stage of `tally`, called `title`. Raises DataError when no row is left.
    """
    stage = tally.stage(title)
    chunks = _encoded_by_many(samples, encode, num_proc) if num_proc > 1 and len(samples) > CHUNK else _encoded_here(samples, encode)
    blocks = []
    for block, skips in chunks:
        for skip in skips:
            if strict:
                raise row_error(RowSkipped(skip.reason, skip.detail), skip.origin, stage)
            stage.skip(skip.reason, skip.origin, skip.detail)
        stage.keep(len(block.ends) - 1)
        blocks.append(block)
    rows = EncodedRows(blocks)
    if not len(rows):
        raise nothing_left(stage, "that would train anything")
    return rows


class LazyRows:
    """Encodes a sample when it is asked for; one that cannot be used gives an empty list, and is counted in this process's tally."""

    def __init__(self, samples: Sequence[Sample], encode: Encode, *, strict: bool, tally: Tally) -> None:
        self._samples, self._encode, self._strict, self._tally = samples, encode, strict, tally.stage("rows encoded on access")

    def check(self) -> None:
        """Raise where no row at all would train anything, with the reasons."""
        need_one(self._samples, self._encode, self._tally.title)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> list[Example]:
        return _one(self._samples[index], self._encode, self._strict, self._tally)


class EncodedStream(IterableDataset[list[Example]]):
    """Encodes a stream of samples, each pass anew and in the same order; rows that cannot be used are left out and counted.

    Each worker of a DataLoader takes its own share of the rows.
    """

    def __init__(self, samples: Iterable[Sample], encode: Encode, *, strict: bool, tally: Tally) -> None:
        super().__init__()
        self._samples, self._encode, self._strict = samples, encode, strict
        self._recurring = Recurring(tally.stage("encoded rows"))

    def check(self) -> None:
        """Raise where no row at all would train anything, with the reasons."""
        need_one(self._samples, self._encode, self._recurring.tally.title)

    def __iter__(self) -> Iterator[list[Example]]:
        worker = get_worker_info()
        mine = self._samples if worker is None else islice(self._samples, worker.id, None, worker.num_workers)
        tally, found = self._recurring.begin(), False
        for sample in mine:
            examples = _one(sample, self._encode, self._strict, tally)
            if examples:
                found = True
                yield examples
        if not found and worker is None:
            raise nothing_left(self._recurring.tally, "that would train anything")


def need_one(samples: Iterable[Sample], encode: Encode, title: str) -> None:
    """Raise DataError where none of the rows would train anything; reads no further than to the first that would."""
    tally = Tally(title)
    for sample in samples:
        try:
            _checked(sample, encode)
        except RowSkipped as skip:
            tally.skip(skip.reason, sample.origin, skip.detail)
        else:
            return
    raise nothing_left(tally, "that would train anything")


def example_of(encoded: Encoded) -> Example:
    return {
        "input_ids": np.asarray(encoded.input_ids, np.int64),
        "labels": np.asarray(encoded.labels, np.int64),
        "weights": np.asarray(encoded.weights, np.float32),
    }


def _one(sample: Sample, encode: Encode, strict: bool, tally: Tally | Pass) -> list[Example]:
    try:
        encoded = _checked(sample, encode)
    except RowSkipped as skip:
        if strict:
            raise row_error(skip, sample.origin, tally) from None
        before = tally.skipped
        tally.skip(skip.reason, sample.origin, skip.detail)
        if before < tally.skipped <= LOGGED:
            logs.warning(f"{sample.origin}: skipped: {skip}")
        return []
    tally.keep()
    return [example_of(encoded)]


def _checked(sample: Sample, encode: Encode) -> Encoded:
    encoded = encode(sample)
    if not encoded.learned:
        raise RowSkipped("nothing to learn", "no token of it is learned")
    return encoded


Chunk = tuple[Block, list[Skip]]


def _encode_chunk(samples: Sequence[Sample], encode: Encode) -> Chunk:
    rows: list[Encoded] = []
    skips = []
    for sample in samples:
        try:
            rows.append(_checked(sample, encode))
        except RowSkipped as skip:
            skips.append(Skip(sample.origin, skip.reason, skip.detail))
    ends = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    input_ids = np.fromiter((x for row in rows for x in row.input_ids), np.int32, ends[-1])
    labels = np.fromiter((x for row in rows for x in row.labels), np.int32, ends[-1])
    weights: np.ndarray | None = np.fromiter((x for row in rows for x in row.weights), np.float32, ends[-1])
    if np.array_equal(weights, labels != IGNORE):
        weights = None
    return Block(input_ids, labels, weights, ends), skips


def _slices(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    return (samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK))


def _encoded_here(samples: Sequence[Sample], encode: Encode) -> Iterator[Chunk]:
    return (_encode_chunk(part, encode) for part in _slices(samples))


def _encoded_by_many(samples: Sequence[Sample], encode: Encode, num_proc: int) -> Iterator[Chunk]:
    """Worker k of P encodes chunks k, k + P, … and is read in that order: the pipes keep the order and bound what waits.

    Forked, so that samples and tokenizer are there without being sent.
    """
    context = multiprocessing.get_context("fork")
    num_chunks = -(-len(samples) // CHUNK)
    num_proc = min(num_proc, num_chunks)
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for k in range(num_proc):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(samples, encode, k, num_proc, there), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 warns about forking with threads; the workers only encode, and take no lock that another thread may hold.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            workers.append((process, here))
        for chunk in range(num_chunks):
            process, pipe = workers[chunk % num_proc]
            try:
                answer = pipe.recv()
            except EOFError:
                process.join()
                raise DataError(
                    f"a process that encodes rows ended (exit code {process.exitcode}), often for want of memory; "
                    "try a smaller --dataset_num_proc"
                ) from None
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        for process, pipe in workers:
            pipe.close()
            process.terminate()
            process.join()


def _work(samples: Sequence[Sample], encode: Encode, k: int, num_proc: int, pipe: Connection) -> None:
    try:
        for part in islice(_slices(samples), k, None, num_proc):
            pipe.send(_encode_chunk(part, encode))
    except BrokenPipeError:
        pass  # the parent stopped listening
    except Exception as error:
        error.add_note(f"in a process that encodes rows:\n{traceback.format_exc()}")
        pipe.send(error)

"""Samples → token arrays: all at once and compact (EncodedRows), on access (LazyRows) or as a stream (EncodedStream).

The encoder is handed in: nothing here knows templates or objectives. An item is a list of examples: one here, several when packed.
"""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from swift import dist, logs
from swift.data.cache import RowCache
from swift.data.sample import Sample
from swift.data.samples import Samples, as_samples
from swift.data.tally import Pass, Recurring, Tally, nothing_left, row_error
from swift.errors import DataError
from swift.template.encoded import IGNORE, Encoded, RowSkipped

Example = dict[str, np.ndarray]  # input_ids int64 (T,), labels int64 (T,), weights float32 (T,); target float32 (L,) where a row has one
Encode = Callable[[Sample], Encoded]
EncodeMany = Callable[[Sequence[Sample]], Sequence["Encoded | RowSkipped"]]  # as Encode for each, but a row that is skipped is an answer

BATCH, BATCH_TEXT = 16, 1 << 19  # rows, and about how many characters, go through the tokenizer in one call; 64 rows were slower
LISTED = 1 << 16  # tokens that may be Python numbers, of 24 bytes each, before they become arrays
CHUNK, MOST_CHUNK = 256, 4096  # rows that one process encodes at a time, and that lie in one file of the cache
LOGGED = 10  # rows that LazyRows and EncodedStream name one by one


class Block(NamedTuple):
    """Encoded rows laid end to end: 8 bytes a token, 12 where weights say more than the labels do."""

    input_ids: np.ndarray  # int32 (N,)
    labels: np.ndarray  # int32 (N,)
    weights: np.ndarray | None  # float32 (N,); None: 1 where there is a label, else 0
    ends: np.ndarray  # int64 (rows + 1,), from 0
    targets: np.ndarray | None = None  # float32 (rows * L,), of rows that are answered as a whole (Encoded.target)


class Skip(NamedTuple):
    at: int  # in its chunk
    reason: str
    detail: str


class Chunk(NamedTuple):
    """What became of some rows. Those that are no skips stand in the block, in their order."""

    block: Block
    skips: list[Skip]


class EncodedRows:
    """Encoded samples in memory, or mapped from the cache. `order` says which of the blocks' rows each one is, where not all in turn.

    `.sources` int32 (rows,): the place of the sample that each row was made of, among those that were to be encoded.
    """

    def __init__(self, blocks: Sequence[Block], order: np.ndarray | None = None, sources: np.ndarray | None = None) -> None:
        self._blocks = [block for block in blocks if len(block.ends) > 1]
        self._starts = np.cumsum([0] + [len(block.ends) - 1 for block in self._blocks]).tolist()
        self._order = order
        lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(block.ends) for block in self._blocks)])
        self.lengths: np.ndarray = lengths if order is None else lengths[order]
        self.sources: np.ndarray = np.arange(len(self.lengths), dtype=np.int32) if sources is None else sources

    def __len__(self) -> int:
        return self._starts[-1] if self._order is None else len(self._order)

    def __getitem__(self, index: int) -> list[Example]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if self._order is not None:
            index = int(self._order[index])
        at = bisect_right(self._starts, index) - 1
        block = self._blocks[at]
        start, end = block.ends[index - self._starts[at] : index - self._starts[at] + 2]
        labels = block.labels[start:end].astype(np.int64)
        weights = (labels != IGNORE).astype(np.float32) if block.weights is None else block.weights[start:end].copy()
        example = {"input_ids": block.input_ids[start:end].astype(np.int64), "labels": labels, "weights": weights}
        if block.targets is not None:
            example["target"] = block.targets.reshape(len(block.ends) - 1, -1)[index - self._starts[at]].copy()
        return [example]


def encode_rows(
    samples: Sequence[Sample],
    encode: Encode,
    *,
    num_proc: int,
    strict: bool,
    tally: Tally,
    title: str = "encoded rows",
    many: EncodeMany | None = None,
    cache: RowCache | None = None,
    let_go: bool = False,
) -> EncodedRows:
    """Encode every sample; rows that would train nothing are skipped and counted. The result does not depend on `num_proc`.

    A row that is drawn several times is encoded once and counted each time. `many` is `encode` for many rows in one call. `let_go`:
    the samples are the caller's no more, and are freed as the rows come.
    Counts in a new stage of `tally`, called `title`. Raises DataError when no row is left.
    """
    stage = tally.stage(title)
    source = as_samples(samples)
    numbers, place, times = np.unique(source.numbers, return_inverse=True, return_counts=True)
    work = Work(source, numbers, many or one_by_one(encode), cache)
    blocks, kept = [], np.ones(len(numbers), bool)
    for start, (block, skips) in zip(range(0, len(numbers), work.size), work.chunks(num_proc), strict=True):
        for skip in skips:
            origin = source.origin(int(numbers[start + skip.at]))
            if strict:
                raise row_error(RowSkipped(skip.reason, skip.detail), origin, stage)
            kept[start + skip.at] = False
            stage.skip(skip.reason, origin, skip.detail, int(times[start + skip.at]))
        here = slice(start, start + work.size)
        stage.keep(int(times[here][kept[here]].sum()))
        blocks.append(block)
        if let_go and here.stop < len(numbers):
            source.let_go(int(numbers[here.stop]))
    if cache is not None and len(numbers):
        logs.info(f"{title}: {work.found:,} of {work.number:,} chunks of {work.size:,} rows came from the cache")
    order = None
    if len(place) != len(numbers) or (np.diff(place) < 0).any():
        order = (np.cumsum(kept) - 1)[place[kept[place]]].astype(np.int32)
    rows = EncodedRows(blocks, order, np.flatnonzero(kept[place]).astype(np.int32))
    if not len(rows):
        raise nothing_left(stage, "that would train anything")
    return rows


class LazyRows:
    """Encodes a sample when it is asked for; one that cannot be used gives an empty list. Each row counts once, in whichever process."""

    def __init__(self, samples: Sequence[Sample], encode: Encode, *, strict: bool, tally: Tally) -> None:
        self._samples, self._encode, self._strict = samples, encode, strict
        self._recurring = Recurring(tally.stage("rows encoded on access"))

    def check(self) -> None:
        """Raise where no row at all would train anything, with the reasons."""
        need_one(self._samples, self._encode, self._recurring.tally.title)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> list[Example]:
        sample = self._samples[index]
        try:
            encoded = _checked(self._encode(sample))
        except RowSkipped as skip:
            return _skipped(skip, sample, self._strict, self._recurring.begin(index))
        self._recurring.keep(index)
        return [example_of(encoded)]


class EncodedStream(IterableDataset[list[Example]]):
    """Encodes a stream of samples, each pass anew and in the same order; rows that cannot be used are left out and counted.

    Each worker of a DataLoader takes its own share of the rows. `many` is `encode` for many rows in one call.
    """

    def __init__(self, samples: Iterable[Sample], encode: Encode, *, strict: bool, tally: Tally, many: EncodeMany | None = None) -> None:
        super().__init__()
        self._samples, self._encode, self._many, self._strict = samples, encode, many or one_by_one(encode), strict
        self._recurring = Recurring(tally.stage("encoded rows"))

    def check(self) -> None:
        """Raise where no row at all would train anything, with the reasons."""
        need_one(self._samples, self._encode, self._recurring.tally.title)

    def __iter__(self) -> Iterator[list[Example]]:
        return ([example] for _, example in self.pairs())

    def pairs(self) -> Iterator[tuple[Sample, Example]]:
        """One pass, each row beside the sample that it was made of."""
        worker = get_worker_info()
        if worker is not None:
            dist.no_tokenizer_threads()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        tally, found = self._recurring.begin(start, step), False
        for samples in _batches(islice(self._samples, start, None, step)):
            for sample, encoded in zip(samples, _answers(samples, self._many), strict=True):
                if isinstance(encoded, RowSkipped):
                    _skipped(encoded, sample, self._strict, tally)
                    continue
                tally.keep()
                found = True
                yield sample, example_of(encoded)
        if not found and worker is None:
            raise nothing_left(self._recurring.tally, "that would train anything")


def need_one(samples: Iterable[Sample], encode: Encode, title: str) -> None:
    """Raise DataError where none of the rows would train anything; reads no further than to the first that would."""
    tally = Tally(title)
    for sample in samples:
        try:
            _checked(encode(sample))
        except RowSkipped as skip:
            tally.skip(skip.reason, sample.origin, skip.detail)
        else:
            return
    raise nothing_left(tally, "that would train anything")


def one_by_one(encode: Encode) -> EncodeMany:
    """`encode` for many rows, in as many calls."""

    def one(sample: Sample) -> Encoded | RowSkipped:
        try:
            return encode(sample)
        except RowSkipped as skip:
            return skip

    return lambda samples: [one(sample) for sample in samples]


def example_of(encoded: Encoded) -> Example:
    example = {
        "input_ids": np.asarray(encoded.input_ids, np.int64),
        "labels": np.asarray(encoded.labels, np.int64),
        "weights": np.asarray(encoded.weights, np.float32),
    }
    return example if encoded.target is None else example | {"target": np.asarray(encoded.target, np.float32)}


def _skipped(skip: RowSkipped, sample: Sample, strict: bool, tally: Pass) -> list[Example]:
    """Count a row that is met while training and cannot be used; the first ones are named."""
    if strict:
        raise row_error(skip, sample.origin, tally) from None
    if tally.skip(skip.reason, sample.origin, skip.detail) and tally.skipped <= LOGGED:
        logs.warning(f"{sample.origin}: skipped: {skip}")
    return []


def _checked(encoded: Encoded) -> Encoded:
    if not encoded.learned:
        raise RowSkipped("nothing to learn", "no token of it is learned")
    return encoded


def _answers(samples: Sequence[Sample], many: EncodeMany) -> list[Encoded | RowSkipped]:
    """What becomes of each row. A bug in the encoder is raised with the place of the row that meets it."""
    try:
        answers = many(samples)
    except Exception as error:
        if len(samples) == 1:
            error.add_note(f"while encoding {samples[0].origin}")
            raise
        return [answer for sample in samples for answer in _answers([sample], many)]
    nothing = RowSkipped("nothing to learn", "no token of it is learned")
    return [answer if isinstance(answer, RowSkipped) or answer.learned else nothing for answer in answers]


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """As many rows as go through the tokenizer in one call: long ones are fewer, since offsets take a hundred bytes a token."""
    batch, size = [], 0
    for sample in samples:
        batch.append(sample)
        size += sum(len(message.content) for message in sample.messages)
        if len(batch) >= BATCH or size >= BATCH_TEXT:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_chunk(samples: Iterable[Sample], many: EncodeMany) -> Chunk:
    pieces: list[Block] = []
    skips: list[Skip] = []
    waiting: list[Encoded] = []
    at = tokens = 0
    for batch in _batches(samples):
        for answer in _answers(batch, many):
            if isinstance(answer, RowSkipped):
                skips.append(Skip(at, answer.reason, answer.detail))
            else:
                waiting.append(answer)
                tokens += len(answer.input_ids)
            at += 1
        if tokens >= LISTED:
            pieces.append(_block(waiting))
            waiting, tokens = [], 0
    return Chunk(_joined([*pieces, _block(waiting)]), skips)


def _block(rows: Sequence[Encoded]) -> Block:
    ends = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    input_ids = np.fromiter(chain.from_iterable(row.input_ids for row in rows), np.int32, ends[-1])
    labels = np.fromiter(chain.from_iterable(row.labels for row in rows), np.int32, ends[-1])
    weights: np.ndarray | None = np.fromiter(chain.from_iterable(row.weights for row in rows), np.float32, ends[-1])
    if np.array_equal(weights, labels != IGNORE):
        weights = None
    targets = [x for row in rows if row.target is not None for x in row.target]
    return Block(input_ids, labels, weights, ends, np.asarray(targets, np.float32) if targets else None)


def _joined(blocks: Sequence[Block]) -> Block:
    def plain(block: Block) -> np.ndarray:
        return (block.labels != IGNORE).astype(np.float32) if block.weights is None else block.weights

    weighted = any(block.weights is not None for block in blocks)
    lengths = np.concatenate([np.diff(block.ends) for block in blocks])
    return Block(
        np.concatenate([block.input_ids for block in blocks]),
        np.concatenate([block.labels for block in blocks]),
        np.concatenate([plain(block) for block in blocks]) if weighted else None,
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.concatenate(targets) if (targets := [block.targets for block in blocks if block.targets is not None]) else None,
    )


class Work:
    """The rows to encode, in chunks that come from the cache, from this process or from several."""

    def __init__(self, source: Samples, numbers: np.ndarray, many: EncodeMany, cache: RowCache | None) -> None:
        self._source, self._numbers, self._many, self._cache = source, numbers, many, cache
        # larger chunks where there are many rows: as many files as a process may map, and less to send
        self.size = min(max(CHUNK, 1 << max(len(numbers) // 256, 1).bit_length()), MOST_CHUNK)
        self.number, self.found = -(-len(numbers) // self.size), 0

    def chunks(self, num_proc: int) -> Iterator[Chunk]:
        """Every chunk in turn."""
        names = [self._cache.name(map(self._source.row, self._rows(at))) for at in range(self.number)] if self._cache else []
        todo = [at for at in range(self.number) if not self._cache or not self._cache.has(names[at])]
        made = self._made_by_many(todo, names, num_proc) if num_proc > 1 and len(todo) > 1 else (self._make(at, names) for at in todo)
        missing = set(todo)
        for at in range(self.number):
            if at in missing:
                yield next(made)
                continue
            chunk = self._load(names[at])
            self.found += chunk is not None
            yield chunk or self._make(at, names)

    def _rows(self, at: int) -> list[int]:
        return self._numbers[at * self.size : (at + 1) * self.size].tolist()

    def _make(self, at: int, names: list[str]) -> Chunk:
        """Encode a chunk here; with a cache it is written, and what is mapped takes its place in memory."""
        chunk = self._encode_and_store(at, names)
        return chunk if chunk is not None else self._load(names[at]) or _encode_chunk(map(self._source.kept, self._rows(at)), self._many)

    def _encode_and_store(self, at: int, names: list[str]) -> Chunk | None:
        """The chunk, or None where it lies in the cache now."""
        chunk = _encode_chunk(map(self._source.kept, self._rows(at)), self._many)
        if self._cache is None:
            return chunk
        arrays = {name: array for name, array in chunk.block._asdict().items() if array is not None}
        return None if self._cache.store(names[at], arrays, chunk.skips) else chunk

    def _load(self, name: str) -> Chunk | None:
        found = self._cache.load(name) if self._cache else None
        if found is None:
            return None
        arrays, skips = found
        return Chunk(Block(**{field: arrays.get(field) for field in Block._fields}), [Skip(*skip) for skip in skips])  # type: ignore[arg-type]

    def _made_by_many(self, todo: list[int], names: list[str], num_proc: int) -> Iterator[Chunk]:
        """Worker k of P makes every P-th chunk from the k-th on and is read in that order: the pipes keep the order and bound what waits.

        Forked, so that samples and tokenizer are there without being sent.
        """
        context = multiprocessing.get_context("fork")
        num_proc = min(num_proc, len(todo))
        workers: list[tuple[BaseProcess, Connection]] = []
        try:
            for k in range(num_proc):
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=self._serve, args=(todo[k::num_proc], names, there), daemon=True)
                with warnings.catch_warnings(), dist.forking():
                    # Python 3.12 warns about forking with threads; the workers only encode, and take no lock that another may hold.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                there.close()
                workers.append((process, here))
            for turn, at in enumerate(todo):
                process, pipe = workers[turn % num_proc]
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
                yield answer or self._load(names[at]) or self._make(at, names)
        finally:
            for process, pipe in workers:
                pipe.close()
                process.terminate()
                process.join()

    def _serve(self, todo: list[int], names: list[str], pipe: Connection) -> None:
        try:
            for at in todo:
                pipe.send(self._encode_and_store(at, names))
        except BrokenPipeError:
            pass  # the parent stopped listening
        except Exception as error:
            error.add_note(f"in a process that encodes rows:\n{traceback.format_exc()}")
            pipe.send(error)

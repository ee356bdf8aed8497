"""Samples become the same token arrays eagerly, lazily, in a stream and in any number of processes; every skip is counted."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from swift.data.encoded import EncodedRows, EncodedStream, Example, LazyRows, encode_rows, example_of, one_by_one
from swift.data.mix import draw
from swift.data.sample import Origin, Sample
from swift.data.samples import PART_ROWS, Samples
from swift.data.tally import Tally
from swift.errors import DataError
from swift.template.encoded import IGNORE, Encoded, RowSkipped
from tests import tiny


def samples(n: int) -> list[Sample]:
    return [Sample.of(("user", str(i)), origin=Origin("x.jsonl", i + 1)) for i in range(n)]


def encode(sample: Sample) -> Encoded:
    """A made-up encoder: lengths, masks, weights and failures depend on the row's number only."""
    number = int(sample.messages[0].content)
    chance = random.Random(number)
    if number % 11 == 5:
        raise RowSkipped("too long", f"{number} is too long")
    length = chance.randrange(1, 30)
    ids = [chance.randrange(200_000) for _ in range(length)]
    labels = [IGNORE if number % 7 == 3 or chance.random() < 0.4 else token for token in ids]
    weights = [0.0 if label == IGNORE else chance.choice([1.0, 0.3] if number > 600 else [1.0]) for label in labels]
    return Encoded(ids, labels, weights)


def expected(rows: list[Sample]) -> list[Example]:
    found = []
    for sample in rows:
        try:
            encoded = encode(sample)
        except RowSkipped:
            continue
        if encoded.learned:
            found.append(example_of(encoded))
    return found


def same(some: list[Example], others: list[Example]) -> bool:
    return len(some) == len(others) and all(
        set(a) == set(b) and all(a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(some, others, strict=True)
    )


def flat(rows: EncodedRows) -> list[Example]:
    return [rows[i][0] for i in range(len(rows))]


@pytest.mark.parametrize("num_proc", [1, 2, 3, 16])
def test_the_number_of_processes_changes_nothing(num_proc: int) -> None:
    rows = samples(1300)
    tally = Tally()
    encoded = encode_rows(rows, encode, num_proc=num_proc, strict=False, tally=tally)
    assert same(flat(encoded), expected(rows))
    assert encoded.lengths.tolist() == [len(example["input_ids"]) for example in expected(rows)]
    (stage,) = tally.stages
    assert stage.read == 1300 and stage.kept == len(encoded)
    assert {reason: skips.count for reason, skips in stage.skips.items()}.keys() == {"too long", "nothing to learn"}
    assert [origin.line for origin, _ in stage.skips["too long"].examples if origin] == [6, 17, 28]


def test_rows_are_found_from_both_ends_and_not_beyond() -> None:
    rows = encode_rows(samples(600), encode, num_proc=1, strict=False, tally=Tally())
    assert same(rows[-1], rows[len(rows) - 1])
    for index in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            rows[index]


def test_lazy_rows_are_the_same_and_empty_where_they_fail() -> None:
    rows, tally = samples(200), Tally()
    lazy = LazyRows(rows, encode, strict=False, tally=tally)
    items = [lazy[i] for i in range(len(lazy))]
    assert same([item[0] for item in items if item], expected(rows))
    assert items[5] == []
    assert tally.stages[0].read == 200 and tally.stages[0].kept == len(expected(rows))


def test_a_stream_is_the_same_in_each_pass_and_counted_once() -> None:
    rows, tally = samples(200), Tally()
    stream = EncodedStream(rows, encode, strict=False, tally=tally)
    for _ in range(2):
        assert same([item[0] for item in stream], expected(rows))
    assert tally.stages[0].read == 200


def test_workers_of_a_loader_share_a_stream_without_doubles() -> None:
    rows = samples(100)
    stream = EncodedStream(rows, encode, strict=False, tally=Tally())
    loader = DataLoader(stream, batch_size=None, num_workers=2, collate_fn=lambda item: item, multiprocessing_context="fork")
    key = lambda example: (len(example["input_ids"]), example["input_ids"].tolist())  # noqa: E731
    assert same(sorted((item[0] for item in loader), key=key), sorted(expected(rows), key=key))


@pytest.mark.parametrize("num_proc", [1, 2])
def test_strict_stops_with_the_place(num_proc: int) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl row \d+: .*\n.*--strict false"):
        encode_rows(samples(600), encode, num_proc=num_proc, strict=True, tally=Tally())
    with pytest.raises(DataError, match="row 6: 5 is too long"):
        LazyRows(samples(10), encode, strict=True, tally=Tally())[5]


def test_rows_that_all_train_nothing_stop_the_run_with_the_reasons() -> None:
    def masked(sample: Sample) -> Encoded:
        return Encoded([1, 2], [IGNORE, IGNORE], [0.0, 0.0])

    for attempt in (
        lambda: encode_rows(samples(3), masked, num_proc=1, strict=False, tally=Tally()),
        lambda: list(EncodedStream(samples(3), masked, strict=False, tally=Tally())),
    ):
        with pytest.raises(
            DataError, match=r"none of 3 rows is left that would train anything:\n +3  nothing to learn \(x\.jsonl row 1, 2, 3"
        ):
            attempt()


def test_a_label_on_the_first_token_alone_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        encode_rows(samples(1), lambda _: Encoded([1, 2], [1, IGNORE], [1.0, 0.0]), num_proc=1, strict=False, tally=Tally())


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_bug_in_the_encoder_stays_a_traceback(num_proc: int) -> None:
    def broken(sample: Sample) -> Encoded:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        encode_rows(samples(600), broken, num_proc=num_proc, strict=False, tally=Tally())


def test_a_process_that_dies_is_an_error_not_a_hang() -> None:
    parent = os.getpid()

    def dies(sample: Sample) -> Encoded:
        if os.getpid() != parent and int(sample.messages[0].content) == 300:
            os._exit(9)
        return Encoded([1, 2], [IGNORE, 2], [0.0, 1.0])

    with pytest.raises(DataError, match=r"exit code 9.*--dataset_num_proc"):
        encode_rows(samples(600), dies, num_proc=2, strict=False, tally=Tally())


def test_a_row_drawn_often_is_encoded_once() -> None:
    asked: list[str] = []

    def remembering(sample: Sample) -> Encoded:
        asked.append(sample.messages[0].content)
        return encode(sample)

    drawn = draw(Samples(samples(40)), 130, np.random.RandomState(2))
    tally = Tally()
    rows = encode_rows(drawn, remembering, num_proc=1, strict=False, tally=tally)
    assert asked == [str(i) for i in range(40)]
    assert same(flat(rows), expected(list(drawn))) and tally.stages[0].read == 130
    assert [drawn[int(at)].origin for at in rows.sources] == [s.origin for s in drawn if expected([s])]
    assert rows.lengths.tolist() == [len(example["input_ids"]) for example in flat(rows)]


def many(rows: Sequence[Sample]) -> list[Encoded | RowSkipped]:
    return list(one_by_one(encode)(rows))


@pytest.mark.parametrize("num_proc", [1, 3])
def test_rows_in_batches_are_the_rows_one_by_one(num_proc: int) -> None:
    rows, one, batched = samples(900), Tally(), Tally()
    a = encode_rows(rows, encode, num_proc=1, strict=False, tally=one)
    b = encode_rows(rows, encode, many=many, num_proc=num_proc, strict=False, tally=batched)
    assert same(flat(a), flat(b)) and one.lines() == batched.lines()
    stream = EncodedStream(rows, encode, many=many, strict=False, tally=Tally())
    assert same(flat(a), [item[0] for item in stream])


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_bug_says_which_row_it_met(num_proc: int) -> None:
    def broken(rows: Sequence[Sample]) -> list[Encoded | RowSkipped]:
        if any(sample.messages[0].content == "400" for sample in rows):
            raise ZeroDivisionError("bug")
        return many(rows)

    with pytest.raises(ZeroDivisionError) as caught:
        encode_rows(samples(600), encode, many=broken, num_proc=num_proc, strict=False, tally=Tally())
    assert "x.jsonl row 401" in "".join(caught.value.__notes__)


def test_samples_are_let_go_as_they_are_encoded() -> None:
    rows = Samples(samples(3 * PART_ROWS))
    encoded = encode_rows(rows, encode, num_proc=1, strict=False, tally=Tally(), let_go=True)
    assert same(flat(encoded), expected(samples(3 * PART_ROWS)))
    with pytest.raises(RuntimeError, match="let go"):
        rows[0]
    assert rows[len(rows) - 1].messages[0].content == str(3 * PART_ROWS - 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_loaders_processes_skip_is_counted_at_home(workers: int) -> None:
    rows, tally = samples(200), Tally()
    lazy = LazyRows(rows, encode, strict=False, tally=tally)
    stream = EncodedStream(rows, encode, strict=False, tally=tally)
    here = Tally()
    encode_rows(rows, encode, num_proc=1, strict=False, tally=here)
    dataset: Any
    for dataset in (lazy, stream):
        for _ in range(2):  # two epochs: each row counts once
            loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=len, multiprocessing_context="fork")
            assert sum(loader) >= len(expected(rows))
    lines = [line.replace("rows encoded on access", "").replace("encoded rows", "") for line in tally.lines()]
    wanted = [line.replace("encoded rows", "") for line in here.lines()]
    assert lines == wanted * 2


def test_threads_of_the_tokenizer_do_not_hang_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process waits for ever for threads that the tokenizer had before."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    backend = tiny.tokenizer().backend_tokenizer
    backend.encode_batch(["hello world"] * 100)

    def tokenized(rows: Sequence[Sample]) -> list[Encoded | RowSkipped]:
        ids = [found.ids for found in backend.encode_batch(["a " + sample.messages[0].content for sample in rows])]
        return [Encoded(row, row, [1.0] * len(row)) for row in ids]

    rows = encode_rows(samples(600), encode, many=tokenized, num_proc=2, strict=False, tally=Tally())
    assert len(rows) == 600 and os.environ["TOKENIZERS_PARALLELISM"] == "true"

"""Which rows a run trains on and is judged by: sampling, splitting, joining, streaming, and the account of every row."""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift import logs
from swift.args.base import DataArgs, HubArgs
from swift.data.columns import Task
from swift.data.mix import Loaded, Samples, SampleStream, divide, draw, load_samples, shuffled
from swift.data.sample import Message, Origin, Sample
from swift.data.samples import packed
from swift.data.source import Item
from swift.errors import DataError, UsageError


def numbered(n: int) -> Samples:
    return Samples(Sample.of(("user", str(i))) for i in range(n))


def numbers(samples: Any) -> list[int]:
    return [int(sample.messages[0].content) for sample in samples]


def load(*words: str, task: Task = "sft", **options: Any) -> Loaded:
    return load_samples(DataArgs(dataset=list(words), **options), HubArgs(), task=task)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, first, count in (("a", 0, 50), ("b", 100, 30), ("one", 500, 1), ("three", 700, 3), ("big", 1000, 400)):
        rows = [{"query": str(first + i), "response": "r"} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


# draw


def test_as_many_rows_as_there_are_come_in_their_order() -> None:
    assert numbers(draw(numbered(20), 20, np.random.RandomState(1))) == list(range(20))


def test_fewer_rows_are_random_without_repetition() -> None:
    drawn = numbers(draw(numbered(100), 30, np.random.RandomState(1)))
    assert len(set(drawn)) == 30 and drawn != sorted(drawn)
    assert drawn == np.random.RandomState(1).permutation(100)[:30].tolist()


def test_more_rows_are_whole_copies_and_a_random_remainder() -> None:
    """`#5` on a 3-row file: 3 rows in order and 2 random ones (specification 2.12, verified there)."""
    drawn = numbers(draw(numbered(3), 5, np.random.RandomState(7)))
    assert drawn[:3] == [0, 1, 2] and len(set(drawn[3:])) == 2
    drawn = numbers(draw(numbered(4), 11, np.random.RandomState(7)))
    assert drawn[:8] == [0, 1, 2, 3] * 2 and len(set(drawn[8:])) == 3


def test_repeated_rows_are_held_once() -> None:
    rows = numbered(2)
    drawn = draw(rows, 6, np.random.RandomState(0))
    assert numbers(drawn) == [0, 1] * 3
    assert drawn._parts is rows._parts


# Samples


FULL = Sample(
    [Message("system", "s\n"), Message("user", "é \ud800 🙂"), Message("assistant", "", tool_calls=[{"a": [1, 2.5, None]}], loss=0.25)],
    rejected=[Message("user", "x"), Message("assistant", "y", loss=True)],
    label=[1, 0.5],
    tools=[{"name": "f", "parameters": {"type": "object"}}],
    extra={"day": datetime.date(2025, 1, 2), "n": 10**30, "b": b"x"},
    origin=Origin("a.jsonl", 7),
)


def test_a_sample_comes_back_as_it_was() -> None:
    rows = [FULL, dataclasses.replace(FULL, extra={}, origin=Origin("b.jsonl", 1)), Sample.of(("user", "q")), FULL]
    assert list(Samples(rows)) == rows and Samples(rows)[-1] == rows[-1]
    assert list(Samples(rows)[1:3]) == rows[1:3]


def test_equal_rows_are_equal_bytes_wherever_they_come_from() -> None:
    """The cache goes by these bytes: they must not depend on which objects are shared or interned."""
    role, text = "assistant", "hello"
    one = Sample([Message(role, text), Message(role, text)], extra={"a": text}, origin=Origin("z", 9))
    other = Sample([Message("".join(["assis", "tant"]), "".join(["he", "llo"])) for _ in range(2)], extra=json.loads('{"a": "hello"}'))  # type: ignore[arg-type]
    assert packed(one) == packed(other) != packed(dataclasses.replace(one, label=True))


def test_joined_chosen_and_set_apart_samples_are_those_of_a_list() -> None:
    chance = random.Random(4)

    def said(words: list[str]) -> Samples:
        return Samples(Sample.of(("user", word)) for word in words)

    for _ in range(50):
        a, b = ([str(chance.random()) for _ in range(chance.randrange(30))] for _ in range(2))
        whole, plain = said(a) + said(b), a + b
        for _ in range(4):
            picked = [chance.randrange(len(plain)) for _ in range(chance.randrange(40))] if plain else []
            part = whole.select(picked)
            chosen = [plain[i] for i in picked]
            whole, plain = part + whole + part.apart(), chosen + plain + chosen
            assert [sample.messages[0].content for sample in whole] == plain


def test_many_short_rows_take_little_more_than_their_text() -> None:
    tracemalloc.start()
    rows = Samples(Sample.of(("user", f"question {i}"), ("assistant", f"answer {i}"), origin=Origin("x", i)) for i in range(1, 20_001))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == 20_000 and size / len(rows) < 150  # bytes; as objects over 700


# divide


def test_a_split_has_every_row_once() -> None:
    for n, ratio in ((100, 0.01), (57, 0.3), (10, 0.5)):
        train, val = divide(numbered(n), Item("x"), ratio, np.random.RandomState(3))
        assert len(val) == int(n * ratio)
        assert sorted(numbers(train) + numbers(val)) == list(range(n))


def test_a_count_is_shared_between_the_parts() -> None:
    train, val = divide(numbered(100), Item("x", (), 40), 0.1, np.random.RandomState(3))
    assert (len(train), len(val)) == (36, 4)
    train, val = divide(numbered(100), Item("x", (), 250), 0.1, np.random.RandomState(3))
    assert (len(train), len(val)) == (240, 10)
    assert not set(numbers(train)) & set(numbers(val))


@pytest.mark.parametrize(("n", "ratio"), [(1, 0.01), (1, 0.9), (3, 0.3), (99, 0.01)])
def test_too_few_rows_are_not_split(n: int, ratio: float) -> None:
    train, val = divide(numbered(n), Item("x"), ratio, np.random.RandomState(3))
    assert numbers(train) == list(range(n)) and not val


def test_rows_to_judge_by_are_never_repeated() -> None:
    with pytest.raises(DataError, match="only 3 rows"):
        divide(numbered(3), Item("x", (), 4), 1.0, np.random.RandomState(0))


# load_samples


def test_items_are_joined_in_their_order(folder: Path) -> None:
    loaded = load(f"{folder}/a.jsonl", f"{folder}/b.jsonl", split_dataset_ratio=0)
    assert numbers(loaded.train) == [*range(50), *range(100, 130)] and loaded.val is None


def test_the_state_is_shared_by_the_items_in_order(folder: Path) -> None:
    state = np.random.RandomState(5)
    loaded = load(f"{folder}/a.jsonl#10", f"{folder}/b.jsonl#10", split_dataset_ratio=0, data_seed=5)
    assert numbers(loaded.train) == state.permutation(50)[:10].tolist() + (100 + state.permutation(30)[:10]).tolist()


def test_the_state_starts_anew_for_validation(folder: Path) -> None:
    loaded = load(f"{folder}/a.jsonl#10", val_dataset=[f"{folder}/a.jsonl#10"])
    assert numbers(loaded.train) == numbers(loaded.val)


def test_a_given_validation_set_turns_the_split_off(folder: Path) -> None:
    loaded = load(f"{folder}/big.jsonl", val_dataset=[f"{folder}/three.jsonl"], split_dataset_ratio=0.5)
    assert len(loaded.train) == 400 and numbers(loaded.val) == [700, 701, 702]  # type: ignore[arg-type]


def test_each_item_is_split_by_itself_and_a_single_row_does_not_fail(folder: Path) -> None:
    loaded = load(f"{folder}/big.jsonl", f"{folder}/one.jsonl")
    assert (len(loaded.train), len(loaded.val)) == (397, 4)  # type: ignore[arg-type]
    assert 500 in numbers(loaded.train)


def test_the_seed_alone_decides(folder: Path) -> None:
    def once(**options: Any) -> list[int]:
        return numbers(load(f"{folder}/big.jsonl#100", **options).train)

    assert once() == once(dataset_num_proc=4) != once(data_seed=1)


def test_inference_reads_the_validation_set_alone(folder: Path) -> None:
    loaded = load("not/there", task="infer", val_dataset=[f"{folder}/a.jsonl"])
    assert loaded.train is None and len(loaded.val) == 50  # type: ignore[arg-type]
    loaded = load(f"{folder}/a.jsonl", task="infer", split_dataset_ratio=1)
    assert loaded.train is None and len(loaded.val) == 50  # type: ignore[arg-type]


def test_nothing_to_train_on_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="--dataset"):
        load()
    with pytest.raises(DataError, match="split_dataset_ratio"):
        load(f"{folder}/a.jsonl", split_dataset_ratio=1)
    (folder / "bad.jsonl").write_text('{"query": "q", "response": ""}\n' * 4 + '{"messages": []}\n')
    with pytest.raises(DataError) as caught:
        load(f"{folder}/a.jsonl", f"{folder}/bad.jsonl")
    lines = str(caught.value).splitlines()
    assert "none of 5 rows is left" in lines[0]
    assert lines[1].split()[:3] == ["4", "empty", "answer"] and "row 1, 2, 3, …" in lines[1]
    assert lines[2].split()[:3] == ["1", "no", "messages"] and "row 5" in lines[2]


def test_strict_stops_at_the_first_bad_row_with_its_place(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"query": "q", "response": "r"}\n{"messages": [{"role": "robot", "content": "x"}]}\n')
    with pytest.raises(
        DataError,
        match=r"bad\.jsonl row 2: message 1 has role 'robot'; expected system, user, assistant or tool; did you mean bot\?\.\n.*--strict false",
    ):
        load(f"{folder}/bad.jsonl", strict=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_every_row_is_kept_or_skipped_for_a_reason(tmp_path: Path, streaming: bool) -> None:
    chance = random.Random(11)
    kinds = {
        '{"query": "q", "response": "r"}': None,
        '{"messages": []}': "no messages",
        '{"query": "q", "response": ""}': "empty answer",
        "3": "not an object",
        '{"x": 1}': "no column that SWIFT knows",
    }
    for case in range(20):
        lines = ['{"query": "q", "response": "r"}', *chance.choices(list(kinds), k=chance.randrange(60))]
        path = tmp_path / f"{case}.jsonl"
        path.write_text("\n".join(lines))
        loaded = load(str(path), streaming=streaming, split_dataset_ratio=0)
        train = list(loaded.train)  # type: ignore[arg-type]
        tally = loaded.tally
        assert tally.read == tally.kept + tally.skipped == len(lines)
        assert tally.kept == len(train)
        expected = Counter(reason for line in lines if (reason := kinds[line]))
        assert {reason: skips.count for reason, skips in tally.skips.items()} == expected
        for reason, skips in tally.skips.items():
            assert all(kinds[lines[origin.line - 1]] == reason for origin, _ in skips.examples if origin)


def test_a_column_that_no_row_has_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "warning", said.append)
    load(f"{folder}/three.jsonl", columns={"querry": "query", "response": "response"})
    assert [line for line in said if "'querry'" in line and "did you mean query?" in line] == said


def test_columns_apply_to_local_files(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text1,text2\nq,a\n")
    loaded = load(str(tmp_path / "x.csv"), columns={"text1": "query", "text2": "response"})
    assert [(m.role, m.content) for m in loaded.train[0].messages] == [("user", "q"), ("assistant", "a")]  # type: ignore[index]


def test_written_samples_read_back(folder: Path) -> None:
    samples = load(f"{folder}/three.jsonl").train
    assert isinstance(samples, Samples)
    samples.write(folder / "out.jsonl")
    again = load(f"{folder}/out.jsonl").train
    assert [dataclasses.replace(s, origin=None) for s in again] == [dataclasses.replace(s, origin=None) for s in samples]  # type: ignore[union-attr]


# streams


def test_a_stream_reads_in_order_each_time_and_takes_the_first_rows(folder: Path) -> None:
    loaded = load(f"{folder}/a.jsonl#5", f"{folder}/b.jsonl", streaming=True, val_dataset=[f"{folder}/three.jsonl"])
    assert isinstance(loaded.train, SampleStream)
    assert numbers(loaded.train) == numbers(loaded.train) == [*range(5), *range(100, 130)]
    assert numbers(loaded.val) == [700, 701, 702]
    assert loaded.tally.kept == 38  # each stream counted once


def test_a_stream_is_shuffled_only_when_asked(folder: Path) -> None:
    def once(**options: Any) -> list[int]:
        return numbers(load(f"{folder}/big.jsonl", streaming=True, **options).train)

    mixed = once(shuffle_buffer_size=50)
    assert mixed != once() and sorted(mixed) == once()
    assert mixed == once(shuffle_buffer_size=50) != once(shuffle_buffer_size=50, data_seed=1)


def test_a_shuffled_row_moves_forward_by_less_than_the_buffer() -> None:
    order = numbers(shuffled(numbered(500), 20, seed=0))
    assert all(row < place + 20 for place, row in enumerate(order))


def test_a_stream_without_usable_rows_stops_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(DataError, match="none of 1 rows"):
        load(str(tmp_path / "bad.jsonl"), streaming=True)

"""The cache of encoded rows: what is found is what would have been made, and what would be made otherwise is not found."""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swift
from swift import logs
from swift.args.base import RuntimeArgs, TemplateArgs
from swift.args.commands import SftCommand
from swift.args.parse import parse
from swift.data.cache import RowCache, describe, encoding_key
from swift.data.encoded import CHUNK, EncodedRows, encode_rows
from swift.data.sample import Origin, Sample
from swift.data.tally import Tally
from swift.objectives.sft import SFT
from swift.template.chat_format import ChatFormat
from swift.template.encoded import IGNORE, Encoded, RowSkipped
from swift.template.formats import chat_formats
from swift.template.template import Template
from tests import tiny


def samples(n: int, file: str = "x.jsonl") -> list[Sample]:
    return [Sample.of(("user", str(i)), origin=Origin(file, i + 1)) for i in range(n)]


class Encoder:
    """Lengths, masks, weights and skips by the row's number; remembers what it was asked for."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.stop_at = stop_at

    def __call__(self, sample: Sample) -> Encoded:
        number = int(sample.messages[0].content)
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(number)
        if number % 13 == 4:
            raise RowSkipped("too long", f"{number} tokens")
        ids = list(range(number, number + 2 + number % 9))
        labels = [IGNORE] * len(ids) if number % 29 == 3 else [IGNORE, *ids[1:]]
        weights = [0.5 if number > 400 and label != IGNORE else float(label != IGNORE) for label in labels]
        return Encoded(ids, labels, weights)


def encoded(rows: Sequence[Sample], encoder: Encoder, cache: RowCache | None, **options: Any) -> tuple[EncodedRows, list[str]]:
    tally = Tally()
    settings: dict[str, Any] = dict(num_proc=1) | options
    found = encode_rows(rows, encoder, strict=False, tally=tally, cache=cache, **settings)
    return found, tally.lines()


def same(some: EncodedRows, others: EncodedRows) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(a[key], b[key]) and a[key].dtype == b[key].dtype
        for i in range(len(some))
        for a, b in [(some[i][0], others[i][0])]
        for key in a
    )


ROWS = 3 * CHUNK + 10


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_cached_run_has_the_same_rows_and_the_same_counts(tmp_path: Path, num_proc: int) -> None:
    plain = encoded(samples(ROWS), Encoder(), None)
    first = encoded(samples(ROWS), Encoder(), RowCache("k", tmp_path), num_proc=num_proc)
    idle = Encoder()
    again = encoded(samples(ROWS), idle, RowCache("k", tmp_path), num_proc=num_proc)
    assert same(plain[0], first[0]) and same(plain[0], again[0])
    assert plain[1] == first[1] == again[1]
    assert not idle.asked
    assert np.array_equal(plain[0].lengths, again[0].lengths) and np.array_equal(plain[0].sources, again[0].sources)


def test_rows_of_a_classifier_keep_their_target(tmp_path: Path) -> None:
    def encode(sample: Sample) -> Encoded:
        number = float(sample.messages[0].content)
        return Encoded([1, 2, 3], [IGNORE] * 3, [0.0] * 3, target=[number, -number])

    for _ in range(2):
        rows = encode_rows(samples(20), encode, num_proc=1, strict=False, tally=Tally(), cache=RowCache("k", tmp_path))
        assert rows[7][0]["target"].tolist() == [7.0, -7.0]


def test_only_what_changed_is_encoded_again(tmp_path: Path) -> None:
    encoded(samples(ROWS), Encoder(), RowCache("k", tmp_path))
    rows, encoder = samples(ROWS), Encoder()
    rows[CHUNK + 1] = Sample.of(("user", "7"), origin=Origin("x.jsonl", CHUNK + 2))
    found = encoded(rows, encoder, RowCache("k", tmp_path))[0]
    assert len(encoder.asked) == CHUNK and encoder.asked[1] == 7
    assert same(found, encoded(rows, Encoder(), None)[0])


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    encoded(samples(50), Encoder(), RowCache("k", tmp_path))
    encoder = Encoder()
    encoded(samples(50), encoder, RowCache("other", tmp_path))
    assert encoder.asked == list(range(50))


def test_a_file_that_moved_is_found_and_its_new_name_is_told(tmp_path: Path) -> None:
    encoded(samples(50, "old.jsonl"), Encoder(), RowCache("k", tmp_path))
    idle = Encoder()
    lines = encoded(samples(50, "new.jsonl"), idle, RowCache("k", tmp_path))[1]
    assert not idle.asked
    assert lines == encoded(samples(50, "new.jsonl"), Encoder(), None)[1] and "new.jsonl row 5" in "\n".join(lines)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encoded(samples(ROWS), Encoder(stop_at=2 * CHUNK + 5), RowCache("k", tmp_path))
    encoder = Encoder()
    found = encoded(samples(ROWS), encoder, RowCache("k", tmp_path))[0]
    assert encoder.asked == list(range(2 * CHUNK, ROWS))
    assert same(found, encoded(samples(ROWS), Encoder(), None)[0])


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("harm", [flip, lambda data: data[:-5], lambda data: data[:7], lambda data: b"", lambda data: data + b"x"])
def test_a_broken_file_is_said_and_made_anew(harm: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded(samples(ROWS), Encoder(), RowCache("k", tmp_path))
    broken = sorted(tmp_path.rglob("*.rows"))[1]
    broken.write_bytes(harm(broken.read_bytes()))
    said: list[str] = []
    monkeypatch.setattr(logs, "warning", said.append)
    encoder = Encoder()
    found = encoded(samples(ROWS), encoder, RowCache("k", tmp_path))[0]
    assert same(found, encoded(samples(ROWS), Encoder(), None)[0])
    assert 0 < len(encoder.asked) <= CHUNK and len(said) == 1 and str(broken) in said[0]
    idle = Encoder()
    encoded(samples(ROWS), idle, RowCache("k", tmp_path))
    assert not idle.asked and len(said) == 1


def test_a_row_drawn_often_is_encoded_once_and_counted_each_time(tmp_path: Path) -> None:
    from swift.data.mix import Samples, draw

    rows = draw(Samples(samples(20)), 70, np.random.RandomState(0))
    for cache in (None, RowCache("k", tmp_path), RowCache("k", tmp_path)):
        encoder, tally = Encoder(), Tally()
        found = encode_rows(rows, encoder, num_proc=1, strict=False, tally=tally, cache=cache)
        assert len(encoder.asked) in (0, 20)
        assert tally.stages[0].read == 70
        wanted = [int(s.messages[0].content) for s in rows if int(s.messages[0].content) % 13 != 4 and int(s.messages[0].content) != 3]
        assert [int(found[i][0]["input_ids"][0]) for i in range(len(found))] == wanted


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = encoded(samples(50), Encoder(), RowCache("k", tmp_path / "taken"))[0]
    assert same(found, encoded(samples(50), Encoder(), None)[0])


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    encoded(samples(ROWS), Encoder(), RowCache("k", tmp_path))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4 and all(path.suffix == ".rows" for path in files)


# The key


def template(**options: Any) -> Template:
    chat_format = options.pop("chat_format", chat_formats["chatml"])
    date = options.pop("date", datetime.date(2025, 1, 2))
    tokenizer = options.pop("tokenizer", None) or tiny.tokenizer()
    settings: dict[str, Any] = dict(max_length=64) | options
    return Template(chat_format, tokenizer, TemplateArgs(**settings), date=date)


def key(made: Template | None = None, objective: object = SFT(), **runtime: Any) -> str:
    args = parse("sft", ["--model", "swift/nano", "--dataset", "swift/self-cognition"])
    assert isinstance(args, SftCommand)
    return encoding_key(dataclasses.replace(args, runtime=RuntimeArgs(**runtime)), made or template(), objective)


def with_token() -> Any:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["zebra"])
    return tokenizer


def with_jinja() -> Any:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template) + " "
    return tokenizer


def test_the_same_settings_give_the_same_key() -> None:
    assert key() == key(template(date=datetime.date(2026, 3, 4)))  # no date is written


@pytest.mark.parametrize(
    "changed",
    [
        dict(max_length=65), dict(truncation_strategy="left"), dict(system="Be brief."), dict(use_chat_template=False),
        dict(loss_scale="last_round"), dict(chat_format=chat_formats["default"]), dict(tools_prompt="react_zh"),
        dict(chat_format=dataclasses.replace(chat_formats["chatml"], default_system="x")),
    ],
    ids=str,
)  # fmt: skip
def test_each_option_of_the_template_changes_the_key(changed: dict[str, Any]) -> None:
    assert key(template(**changed)) != key()


def test_the_tokenizer_and_its_chat_template_change_the_key() -> None:
    assert len({key(), key(template(tokenizer=with_token())), key(template(tokenizer=with_jinja()))}) == 3


def test_a_date_counts_where_it_is_written() -> None:
    dated = dataclasses.replace(chat_formats["chatml"], prefix="Today is {{DATE}}.")
    assert len({key(template(chat_format=dated, date=datetime.date(2025, 1, day))) for day in (1, 2)}) == 2


def test_the_text_of_a_plugin_changes_the_key(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    keys = set()
    for text in ("x = 1", "x = 2", "x = 1"):
        plugin.write_text(text)
        keys.add(key(external_plugins=[str(plugin)]))
        keys.add(key(custom_register_path=[str(plugin)]))
    assert len(keys) == 2  # which flag named it does not matter


def test_the_text_of_a_loss_scale_file_changes_the_key(tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    keys = []
    for weight in (2.0, 3.0, 2.0):
        file.write_text(json.dumps({"Answer:": [weight, weight]}))
        keys.append(key(template(loss_scale=str(file))))
    assert keys[0] == keys[2] != keys[1]


def test_what_a_function_holds_is_part_of_what_it_does() -> None:
    def weigh(by: float) -> Callable[[], float]:
        return lambda: by

    assert describe(weigh(1.0)) == describe(weigh(1.0)) != describe(weigh(2.0))


def test_a_key_does_not_depend_on_the_process() -> None:
    """Sets and hashes have another order in each process."""
    script = (
        "from swift.data.cache import describe; from swift.template.chat_format import ChatFormat; import json;"
        "print(json.dumps(describe(ChatFormat('a', '{{QUERY}}', strip=frozenset('user assistant tool system'.split())))))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": str(seed), "PATH": ""}
        ).stdout
        for seed in (1, 2, 3)
    }
    here = describe(ChatFormat("a", "{{QUERY}}", strip=frozenset(["user", "assistant", "tool", "system"])))
    assert answers == {json.dumps(here) + "\n"}


def test_a_run_with_a_cache_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    model, data = tiny.save(tmp_path / "tiny-llama"), tiny.chat_rows(tmp_path / "rows.jsonl")
    with data.open("a") as file:
        file.write('{"query": "q"}\n')

    def losses(name: str, **options: Any) -> list[float]:
        record = swift.sft(
            model=str(model), dataset=[str(data)], output_dir=str(tmp_path / name), max_steps=3, logging_steps=1, max_length=64,
            split_dataset_ratio=0.2, eval_strategy="epoch", save_strategy="no", report_to=["none"], packing=True, **options,
        )  # fmt: skip
        return [entry["loss"] for entry in record["log_history"] if "loss" in entry]

    plain = losses("plain")
    counts = [line for line in capsys.readouterr().err.splitlines() if " read, " in line]
    first = losses("first", enable_cache=True)
    assert "0 of 1 chunks" in capsys.readouterr().err
    again = losses("again", enable_cache=True)
    said = capsys.readouterr().err
    assert plain == first == again and "training rows: 1 of 1 chunks" in said and "validation rows: 1 of 1 chunks" in said
    assert [line for line in said.splitlines() if " read, " in line] == counts
    assert not list((tmp_path / "again").rglob("*.rows")) and list((tmp_path / "cache" / "swift" / "encoded").rglob("*.rows"))

"""`swift preview` shows what training sees, to the token, and nothing but the tokenizer and config.json is needed for it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

import swift
from swift.cli.main import main
from swift.commands.preview import lengths_of, round_up, short
from swift.commands.preview_tokens import pieces
from swift.objectives.seq_cls import SequenceClassification
from swift.objectives.sft import SFT
from tests import tiny
from tests.template.conftest import load, tokenizer_folder  # noqa: F401 (fixtures)

QUICK = dict(split_dataset_ratio=0, num_train_epochs=1, report_to="none", save_strategy="no", max_length=128, add_version=False)


@pytest.fixture
def bare(folder: Path, tmp_path: Path) -> Path:
    """The checkpoint without its weights."""
    there = tmp_path / "bare"
    there.mkdir()
    for file in folder.iterdir():
        if not file.name.endswith(".safetensors"):
            (there / file.name).write_bytes(file.read_bytes())
    return there


@pytest.fixture
def mixed(rows: Path, tmp_path: Path) -> Path:
    """Rows with weights of their own, one that is drawn twice, one that trains nothing and one that is too long."""
    more = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c d", "loss": 0.3}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "hm", "loss": False}]},
        {"messages": [{"role": "user", "content": "long " * 60}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "世界 🔥 <|im_end|>"}]},
    ]
    file = tmp_path / "mixed.jsonl"
    file.write_text(rows.read_text() + "".join(json.dumps(row) + "\n" for row in more))
    return file


def shown(capsys: Any, *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["preview", *words]) == code
    return capsys.readouterr().out


def records(capsys: Any, *words: str, code: int = 0) -> tuple[list[dict], dict]:
    """(rows, summary) of all rows as JSON."""
    lines = shown(capsys, *words, "--format", "json", "--preview_rows", "0", code=code).splitlines()
    *rows, summary = map(json.loads, lines)
    assert {row["kind"] for row in rows} <= {"row"} and summary["kind"] == "summary"
    return rows, summary


def digest(ids: Any, labels: Any, weights: Any) -> str:
    """Of one row, labels and weights as they are shifted: what the model is to say after each token."""
    arrays = np.asarray(ids, np.int64), np.asarray(labels, np.int64), np.asarray(weights, np.float32)
    return hashlib.sha256(b"|".join(array.tobytes() for array in arrays)).hexdigest()


def digest_of(row: dict) -> str:
    return digest(row["input_ids"], [*row["labels"][1:], -100], [*row["weights"][1:], 0])


def digests_of_batch(batch: dict) -> tuple[str, ...]:
    """Of each sample in a batch of the trainer's collator."""
    ends = batch["cu_seq_lens"].tolist()
    arrays = [batch[name][0].numpy() for name in ("input_ids", "shift_labels", "weights")]
    return tuple(digest(*(array[start:end] for array in arrays)) for start, end in pairwise(ends))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the trainer's collator hands to the model, batch by batch."""
    seen: list[dict] = []
    for objective in (SFT, SequenceClassification):

        def collate(self: Any, items: Any, before: Any = objective.collate) -> dict:
            batch = before(self, items)
            if not batch["empty"]:
                seen.append(batch)
            return batch

        monkeypatch.setattr(objective, "collate", collate)
    return seen


@pytest.mark.parametrize(
    "option",
    [{}, {"packing": True}, {"lazy_tokenize": True}, {"streaming": True}, {"streaming": True, "packing": True}, {"dataset_num_proc": 2},
     {"truncation_strategy": "left", "max_length": 50}, {"loss_scale": "all", "packing": True}, {"template": "default"},
     {"enable_cache": True}],
    ids=str,
)  # fmt: skip
def test_ids_labels_and_weights_are_those_of_the_trainers_batches(option, folder, mixed, tmp_path, batches, capsys, monkeypatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    given = QUICK | dict(model=str(folder), dataset=[str(mixed)], per_device_train_batch_size=1) | option
    if not option.get("streaming"):
        given["dataset"] = [f"{mixed}#31"]  # more than there are: some rows come twice
    flags = [str(word) for name, value in given.items() for word in (f"--{name}", *(value if isinstance(value, list) else [value]))]
    steps = ["--max_steps", "1"] if option.get("streaming") else []
    rows, summary = records(capsys, *flags, *steps, code=1)
    assert summary["rows"] == len(rows) and summary["tokens"] == sum(len(row["input_ids"]) for row in rows)
    packs: dict[Any, list[str]] = {}
    for number, row in enumerate(rows):
        packs.setdefault(row["pack"] if option.get("packing") else number, []).append(digest_of(row))

    if option.get("streaming"):
        given["max_steps"] = len(packs)
    swift.sft(output_dir=str(tmp_path / "out"), **given)
    seen = batches[: len(packs)] if option.get("streaming") else batches  # a stream begins again, one batch ahead of the steps
    assert Counter(tuple(sorted(pack)) for pack in packs.values()) == Counter(tuple(sorted(digests_of_batch(batch))) for batch in seen)


def test_rows_of_a_classifier_show_their_target(folder, tmp_path, batches, capsys) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"say {n}"}], "label": n % 3}) + "\n" for n in range(7)))
    given = QUICK | dict(model=str(folder), dataset=str(file), num_labels=3)
    rows, summary = records(capsys, *(word for name, value in given.items() for word in (f"--{name}", str(value))))
    assert [row["target"] for row in rows] == [[n % 3] for n in range(7)] and summary["exit_code"] == 0
    swift.sft(output_dir=str(tmp_path / "out"), **given)
    seen = Counter((*digests_of_batch(batch), batch["targets"].flatten().tolist()[0]) for batch in batches)
    assert seen == Counter((digest_of(row), row["target"][0]) for row in rows)
    text = shown(capsys, "--model", str(folder), "--dataset", str(file), "--num_labels", "3")
    assert "label 2" in text and "no token is learned, the label of each row is" in text


def test_weights_are_read_back_as_they_were() -> None:
    values = np.array([0.3, 1, 0, 2 / 3, 0.3, 1e-7], np.float32)
    assert np.array_equal(np.array(json.loads(json.dumps(short(values))), np.float32), values) and short(values)[0] == 0.3


def test_no_weights_are_needed_and_nothing_is_written(bare, mixed, tmp_path, monkeypatch, capsys) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = sorted(path for path in bare.rglob("*"))
    shown(capsys, "--model", str(bare), "--dataset", str(mixed), code=1)
    assert list(work.iterdir()) == [] and sorted(path for path in bare.rglob("*")) == before
    assert main(["preview", "--model", str(bare), "--dataset", str(mixed), "--dry_run", "true"]) == 0
    out = capsys.readouterr().out
    assert "plan (dry run" in out and "missing" not in out


def test_a_row_says_where_it_is_from_and_the_summary_what_became_of_the_others(bare, mixed, capsys) -> None:
    rows, summary = records(capsys, "--model", str(bare), "--dataset", str(mixed), "--max_length", "128", code=1)
    assert list(rows[0]) == ["kind", "file", "line", "text", "input_ids", "labels", "weights", "pack", "part"]
    assert [row["line"] for row in rows] == [*range(1, 26), 28] and {row["file"] for row in rows} == {str(mixed)}
    skips = {skip["reason"]: [place["line"] for place in skip["places"]] for skip in summary["skipped"]}
    assert skips == {"nothing to learn: every weight is 0": [26], "longer than max_length 128": [27]}
    assert sum(bar["rows"] for bar in summary["lengths"]["histogram"]) == summary["rows"] == 26
    trained = sum(label != -100 for row in rows for label in row["labels"])
    assert summary["trained_tokens"] == trained and summary["trained_share"] == trained / summary["tokens"]
    assert summary["weight"] == pytest.approx(sum(sum(row["weights"]) for row in rows)) and summary["exit_code"] == 1
    tokenizer = AutoTokenizer.from_pretrained(bare)
    assert rows[-1]["text"] == tokenizer.decode(rows[-1]["input_ids"]) and "世界 🔥 <|im_end|><|im_end|>" in rows[-1]["text"]


def test_packing_says_what_stays_unused(bare, rows, capsys) -> None:
    found, summary = records(capsys, "--model", str(bare), "--dataset", str(rows), "--packing", "true", "--max_length", "128")
    packs = Counter[int]()
    for row in found:
        packs[row["pack"]] += len(row["input_ids"])
    assert max(packs.values()) <= 128 and sorted(packs) == list(range(1, len(packs) + 1))
    unused = 128 * len(packs) - sum(packs.values())
    assert summary["packing"] == {"packs": len(packs), "capacity": 128, "unused": unused, "unused_share": unused / 128 / len(packs)}
    assert [row["line"] for row in found] == list(range(1, 25))


@pytest.mark.parametrize(
    "more",
    [[], ["--packing", "true"], ["--lazy_tokenize", "true"], ["--streaming", "true", "--max_steps", "1", "--packing", "true"]],
    ids=str,
)
def test_a_prompt_is_what_inference_sends(more, bare, mixed, capsys) -> None:
    """Oracle: the checkpoint's own chat template with its reply open, over the conversation without its last answer."""
    rows, summary = records(capsys, "--model", str(bare), "--dataset", str(mixed), "--generation", "true", *more, code=1)
    tokenizer = AutoTokenizer.from_pretrained(bare)
    source = [json.loads(line)["messages"] for line in mixed.read_text().splitlines()]
    assert len(rows) == 27
    for row in rows:
        assert "labels" not in row
        asked = source[row["line"] - 1][:-1]
        assert row["input_ids"] == tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        assert row["prompt"] == tokenizer.decode(row["input_ids"]) and row["prompt"].endswith("<|im_start|>assistant\n")
    assert summary["tokens"] > sum(len(row["input_ids"]) for row in rows)  # the totals are those of training


def test_text_marks_what_is_learned(bare, tmp_path, capsys, monkeypatch) -> None:
    file = tmp_path / "rows.jsonl"
    turns = [("hi \x1b[31m", None), ("one", 0.5), ("go on", None), ("two", None)]
    messages = [
        {"role": ("user", "assistant")[at % 2], "content": text, **({} if loss is None else {"loss": loss})}
        for at, (text, loss) in enumerate(turns)
    ]
    file.write_text(json.dumps({"messages": messages}) + "\n")
    words = ["--model", str(bare), "--dataset", str(file)]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    text = shown(capsys, *words)
    assert "assistant\n⟦0.5:one<|im_end|>⟧\n" in text and "assistant\n⟦two<|im_end|>⟧\n" in text
    assert "\x1b" not in text and "hi \\x1b[31m" in text and f"row 1: {file} row 1, " in text and "What the doctor found" in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = shown(capsys, *words)
    assert "\x1b[32mtwo" in coloured and "\x1b[36m0.5:one" in coloured and "⟦two" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(capsys, *words) == text


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect"):
            self.open.append(tag)
        if tag == "pre":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag == "rect" or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.rows[-1] += data


def test_the_page_is_whole_escaped_and_needs_nothing_else(bare, tmp_path, capsys) -> None:
    file = tmp_path / "<rows>.jsonl"
    nasty = '<script>alert(1)</script> & "quotes" \'</pre>'
    talk = [{"role": "user", "content": nasty}, {"role": "assistant", "content": nasty + "世界", "loss": 2}]
    file.write_text(json.dumps({"messages": talk}) + "\n" + json.dumps({"query": "a", "response": ""}) + "\n")
    words = ["--model", str(bare), "--dataset", str(file)]
    rows, _ = records(capsys, *words, code=1)
    page = Page(shown(capsys, *words, "--format", "html", code=1))
    assert page.open == [] and page.rows == [rows[0]["text"]]
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not any(name in ("src", "href") or name.startswith("on") for _, given in page.tags for name in given)
    boxes = [given for tag, given in page.tags if tag == "span"]
    told = [
        f"token {at}, id {id}, weight {weight:g}"
        for at, (id, weight) in enumerate(zip(rows[0]["input_ids"], rows[0]["weights"], strict=True))
    ]
    assert [box["title"] for box in boxes] == told
    assert ["style" in box for box in boxes] == [weight > 0 for weight in rows[0]["weights"]]
    assert any(tag == "svg" for tag, _ in page.tags)


def test_what_the_doctor_found_is_in_every_format(bare, tmp_path, capsys) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"query": "a & b", "response": "same"}) + "\n" for _ in range(9)))
    words = ["--model", str(bare), "--dataset", str(file)]
    _, summary = records(capsys, *words)
    found = next(finding for finding in summary["findings"] if finding["code"] == "duplicate-rows")
    assert found["count"] == 8 and found["places"][0] == {"file": str(file), "line": 2} and found["mend"]
    assert "duplicate-rows, 8 rows" in shown(capsys, *words) and "duplicate-rows" in shown(capsys, *words, "--format", "html")


def test_where_no_row_is_left_the_findings_say_why(bare, tmp_path, capsys) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"qestion": f"a {n}", "anser": f"b {n}"}) + "\n" for n in range(5)))
    words = ["--model", str(bare), "--dataset", str(file)]
    rows, summary = records(capsys, *words, code=1)
    assert rows == [] and summary["rows"] == 0 and summary["error"] and summary["findings"]
    assert "What the doctor found" in shown(capsys, *words, code=1)
    assert main(["preview", *words]) == 1
    assert "DataError" in capsys.readouterr().err


@pytest.mark.parametrize("way", [[], ["--lazy_tokenize", "true"], ["--streaming", "true", "--max_steps", "1"]], ids=str)
def test_a_faulty_row_under_strict_ends_the_preview_with_a_summary(way, bare, mixed, capsys) -> None:
    rows, summary = records(capsys, "--model", str(bare), "--dataset", str(mixed), "--strict", "true", *way, code=1)
    assert len(rows) == (25 if way else 0) and summary["rows"] == len(rows)
    assert f"{mixed} row 26" in summary["error"] and summary["exit_code"] == 1


def test_a_token_that_is_learned_in_anothers_place_is_named(bare, tmp_path, capsys) -> None:
    """Format `default` separates rounds by a line break, where the token that ends an answer is learned."""
    file = tmp_path / "rows.jsonl"
    talk = [{"role": role, "content": "hi"} for role in ("user", "assistant", "user", "assistant")]
    file.write_text(json.dumps({"messages": talk}) + "\n")
    words = ["--model", str(bare), "--dataset", str(file), "--template", "default", "--template_check", "off"]
    (row,), _ = records(capsys, *words)
    odd = [(at, *pair) for at, pair in enumerate(zip(row["input_ids"], row["labels"], strict=True)) if pair[1] not in (-100, pair[0])]
    assert len(odd) == 1
    place, there, learned = odd[0]
    assert f"what stands there: {place}: '<|im_end|>' ({learned}) for '\\n' ({there})\n" in shown(capsys, *words)
    assert [box["title"] for _, box in Page(shown(capsys, *words, "--format", "html")).tags if box.get("class") == "other"] == [
        f"token {place}, id {there}, weight 1, learned is id {learned}"
    ]


def test_forms_of_the_command(bare, rows, tmp_path, capsys, monkeypatch) -> None:
    words = ["--model", str(bare), "--dataset", str(rows)]
    learned = {}
    for shows in ("sft", "pt"):
        _, summary = records(capsys, shows, *words)
        assert summary["command"] == shows
        learned[shows] = summary["trained_share"]
    assert learned["sft"] < 0.5 < learned["pt"]  # pt learns every token
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {bare}\ndataset: {rows}\npreview_rows: 2\nformat: json\n")
    assert shown(capsys, "pt", str(config)).count('"kind": "row"') == 2
    monkeypatch.setenv("NPROC_PER_NODE", "2")  # a training script's; a preview is one process's work
    assert shown(capsys, str(config), "--preview_rows", "1").count('"kind": "row"') == 1
    assert main(["preview", "rlhf", *words]) == 2
    assert capsys.readouterr().err == "swift rlhf is part of SWIFT but not built yet\n"
    assert main(["preview", "infer", *words]) == 2 and main(["preview", *words, "--preview_rows", "-1"]) == 2


def test_a_preview_from_python(bare, rows, capsys) -> None:
    summary = swift.preview(model=str(bare), dataset=str(rows), format="json", preview_rows=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and json.loads(lines[-1]) == summary and summary["exit_code"] == 0
    assert swift.preview(model=str(bare), dataset=str(rows), command="pt")["command"] == "pt"


def test_a_histogram_counts_every_row_once() -> None:
    random = np.random.default_rng(0)
    for longest in (1, 2, 9, 10, 11, 100, 101, 8192):
        lengths = random.integers(1, longest + 1, 200)
        found = lengths_of(lengths)
        assert found is not None and len(found["histogram"]) <= 11
        for bar in found["histogram"]:
            assert bar["rows"] == ((bar["from"] <= lengths) & (lengths <= bar["to"])).sum()
        assert sum(bar["rows"] for bar in found["histogram"]) == 200
    assert [round_up(value) for value in (0.1, 1, 1.1, 2, 3, 30, 70)] == [1, 1, 2, 2, 5, 50, 100]


TEXTS = ["<s> hello  world\n\n  x = 1\t# naïve", "你好，世界 🔥🧑‍🚀 ça va?", " leading", "�x", "Ελληνικά, русский"]


@pytest.mark.parametrize("name", ["Qwen--Qwen2.5-7B-Instruct", "meta-llama--Llama-2-7b-chat-hf", "microsoft--Phi-3-mini-4k-instruct"])
def test_the_texts_of_tokens_are_the_text(name, load) -> None:  # noqa: F811
    tokenizer = load(name)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_the_texts_of_tokens_are_the_text_of_the_tiny_tokenizer() -> None:
    tokenizer = tiny.tokenizer()
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        found = pieces(tokenizer, ids)
        assert len(found) == len(ids) and "".join(found) == text


def test_answers_to_a_pipe_come_without_prompts(tmp_path) -> None:
    program = (
        "from pathlib import Path; import sys\n"
        "from swift.commands.infer_chat import Chat\nfrom swift.engines.engine import Chunk, Sampling\n"
        "class Parrot:\n    def stream(self, samples, sampling): yield 0, Chunk('polly')\n"
        f"Chat(Parrot(), Sampling(), stream=False, results=Path({str(tmp_path / 'turns.jsonl')!r})).run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input="hello\n", capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(swift.__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout.strip() == "polly\n" + "-" * 50

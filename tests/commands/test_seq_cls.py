"""Classification and regression end to end: train, save, load in plain libraries, merge, infer, measure."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import swift
from swift.args.base import DataArgs, HubArgs
from swift.args.parse import parse
from swift.cli.main import main
from swift.commands.infer import infer
from swift.commands.infer_chat import Chat
from swift.data.labels import read_target
from swift.data.mix import load_samples
from swift.engines.engine import Sampling
from swift.engines.load import load_engine
from swift.errors import DataError, UsageError
from swift.llm import InferRequest, PtEngine, RequestConfig

QUICK = dict(
    split_dataset_ratio=0, num_train_epochs=1, learning_rate=1e-2, report_to="none", logging_steps=1, save_steps=1000, max_length=128,
    add_version=False,
)  # fmt: skip


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(text: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.jsonl", [row(f"say {n} " + "please " * (n % 5), label=n % 3) for n in range(24)])


def train(folder: Path, rows: Path, out: Path, **changes) -> Path:
    record = swift.sft(**QUICK | dict(model=str(folder), dataset=[str(rows)], output_dir=str(out)) | changes)
    return Path(record["last_model_checkpoint"])


def ask(out: Path, rows: Path, *words: str, **given) -> list[dict]:
    """`swift infer` over rows; the records of the result file."""
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    infer(parse("infer", [*flags, "--val_dataset", str(rows), "--result_path", str(out), *words]))  # type: ignore[arg-type]
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("train_type", ["lora", "full"])
def test_a_checkpoint_scores_alike_in_plain_libraries_merged_and_in_swift_infer(train_type, folder, labelled, tmp_path, capsys) -> None:
    last = train(folder, labelled, tmp_path / "out", num_labels=3, train_type=train_type)
    tokenizer = AutoTokenizer.from_pretrained(last)
    if train_type == "lora":
        config = json.loads((last / "adapter_config.json").read_text())
        assert config["task_type"] == "SEQ_CLS" and "score" in config["modules_to_save"]
        plain = AutoPeftModelForSequenceClassification.from_pretrained(last, num_labels=3)
    else:
        config = json.loads((last / "config.json").read_text())
        assert config["architectures"] == ["LlamaForSequenceClassification"] and len(config["id2label"]) == 3
        assert config["problem_type"] == "single_label_classification" and config["pad_token_id"] == tokenizer.pad_token_id
        plain = AutoModelForSequenceClassification.from_pretrained(last)
    texts = [f"say {n} " + "please " * (n % 5) for n in range(24)]
    talks = [[{"role": "user", "content": text}] for text in texts]
    logps = torch.stack([
        plain.eval()(tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True).input_ids)
        .logits[0].log_softmax(0) for talk in talks
    ]).detach()  # fmt: skip

    source = {"adapters": last} if train_type == "lora" else {"model": last}
    records = ask(tmp_path / "answers.jsonl", labelled, "--metric", "acc", "--logprobs", "true", **source)
    assert [record["response"] for record in records] == [str(int(one.argmax())) for one in logps]
    assert [record["labels"] for record in records] == [str(n % 3) for n in range(24)] and "label" not in records[0]
    for record, expected in zip(records, logps, strict=True):
        content = record["logprobs"]["content"]
        assert content["index"] == int(record["response"]) and content["logprob"] == content["top_logprobs"][0]["logprob"]
        got = {entry["index"]: entry["logprob"] for entry in content["top_logprobs"]}
        assert [got[number] for number in range(3)] == pytest.approx(expected.tolist(), abs=1e-4)
    right = sum(record["response"] == record["labels"] for record in records) / 24
    assert f"{{'acc': {right}}}" in capsys.readouterr().out

    if train_type == "lora":
        merged = ask(tmp_path / "merged.jsonl", labelled, "--merge_lora", "true", "--logprobs", "true", adapters=last)
        whole = last.with_name(f"{last.name}-merged")
        assert json.loads((whole / "config.json").read_text())["problem_type"] == "single_label_classification"
        again = AutoModelForSequenceClassification.from_pretrained(whole).eval()
        ids = tokenizer.apply_chat_template(talks[0], add_generation_prompt=True, return_tensors="pt", return_dict=True).input_ids
        torch.testing.assert_close(again(ids).logits.log_softmax(1)[0].detach(), logps[0], atol=1e-4, rtol=1e-4)
        for one, other in zip(records, merged, strict=True):
            assert one["response"] == other["response"]
            assert one["logprobs"]["content"]["logprob"] == pytest.approx(other["logprobs"]["content"]["logprob"], abs=1e-4)


def test_several_classes_at_once_are_answered_as_a_list(folder, tmp_path, capsys) -> None:
    labels = [[0, 2], [], [1], [1, 1, 0], [2]]
    rows = write(tmp_path / "rows.jsonl", [row("abcde"[n % 5], label=labels[n % 5]) for n in range(20)])
    last = train(
        folder, rows, tmp_path / "out", num_labels=3, num_train_epochs=15, learning_rate=3e-3, train_type="full", eval_strategy="no"
    )
    assert json.loads((last / "args.json").read_text())["problem_type"] == "multi_label_classification"
    records = ask(tmp_path / "answers.jsonl", rows, "--logprobs", "true", "--metric", "acc", model=last)
    assert [record["labels"] for record in records[:5]] == ["[0, 2]", "[]", "[1]", "[0, 1]", "[2]"]
    assert sum(record["response"] == record["labels"] for record in records) > 12, "it learned them by heart"
    for record in records:
        content = record["logprobs"]["content"]
        p = {entry["index"]: torch.tensor(entry["logprob"]).exp().item() for entry in content["top_logprobs"]}
        assert json.loads(record["response"]) == content["index"] == [number for number in range(3) if p[number] > 0.5]


def test_regression_answers_with_the_raw_score(folder, tmp_path, capsys) -> None:
    rows = write(tmp_path / "rows.jsonl", [row("say " * (1 + n % 6), label=0.5 * (n % 6)) for n in range(24)])
    out = tmp_path / "out"
    last = train(folder, rows, out, num_labels=1, num_train_epochs=6, train_type="full")
    events = [json.loads(line) for line in (out / "logging.jsonl").read_text().splitlines()]
    assert {"mse", "mae"} <= events[0].keys() and events[0]["mse"] == pytest.approx(events[0]["loss"], rel=1e-5)
    records = ask(tmp_path / "answers.jsonl", rows, "--logprobs", "true", "--metric", "acc", model=last)
    assert records[0]["logprobs"] is None and records[3]["labels"] == "1.5"
    errors = [(float(record["response"]) - float(record["labels"])) ** 2 for record in records]
    assert sum(errors) / 24 < 0.7 * sum((0.5 * (n % 6) - 1.25) ** 2 for n in range(24)) / 24, "better than the mean"
    (measured,) = (ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{'mse'"))
    assert measured["mse"] == pytest.approx(sum(errors) / 24) and measured["rmse"] ** 2 == pytest.approx(measured["mse"])
    assert measured["pearson"] > 0.5


def test_rows_without_a_fitting_label_are_skipped_and_counted(folder, tmp_path, caplog) -> None:
    bad = [row("a", label=7), row("b"), row("c", label=[1]), row("d", label=0.5)]
    rows = write(tmp_path / "rows.jsonl", [row(f"say {n}", label=n % 3) for n in range(8)] + bad)
    with caplog.at_level("INFO"):
        train(folder, rows, tmp_path / "out", num_labels=3, eval_strategy="no")
    said = caplog.text
    assert "12 read, 8 kept, 4 skipped" in said
    for reason, line in (("label out of range", 9), ("no label", 10), ("label of the wrong kind", 11)):
        assert f"{reason} ({rows.name} row {line}" in said or f"{reason} ({rows} row {line}" in said
    none = write(tmp_path / "none.jsonl", bad)
    with pytest.raises(DataError, match="no label"):
        train(folder, none, tmp_path / "out2", num_labels=3)


def test_a_text_is_read_with_its_answer_and_with_the_columns_people_have(folder, tmp_path) -> None:
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [{"messages": talk, "label": 1}, {"text": "hello", "label": "2"}, {"query": "hi", "label": True}]
    last = train(folder, write(tmp_path / "rows.jsonl", rows * 4), tmp_path / "out", num_labels=3, eval_strategy="no")
    records = ask(tmp_path / "answers.jsonl", write(tmp_path / "ask.jsonl", rows), adapters=last)
    assert [record["labels"] for record in records] == ["1", "2", "1"]
    assert records[0]["messages"] == talk and records[1]["messages"] == [{"role": "user", "content": "hello"}]
    engine = PtEngine(str(folder), adapters=str(last))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for messages in (talk, talk[:1]):
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=messages[-1]["role"] == "user", return_dict=False)
        (response,) = engine.infer([InferRequest(messages)])
        written = len(ids) - (len(tokenizer("\n").input_ids) if messages is talk else 0)  # nothing stands behind the last stop token
        assert response.usage.prompt_tokens == written and response.usage.completion_tokens == 1


def test_swift_llm_answers_as_swift_infer_does(folder, labelled, tmp_path) -> None:
    last = train(folder, labelled, tmp_path / "out", num_labels=3, eval_strategy="no")
    records = ask(tmp_path / "answers.jsonl", labelled, "--logprobs", "true", adapters=last)
    engine = PtEngine(str(folder), adapters=str(last), max_batch_size=5)
    requests = [InferRequest(record["messages"]) for record in records]
    for record, response in zip(records, engine.infer(requests, RequestConfig(logprobs=True), use_tqdm=False), strict=True):
        (choice,) = response.choices
        assert choice.message.content == record["response"] and choice.finish_reason == "stop"
        assert choice.logprobs["content"]["logprob"] == pytest.approx(record["logprobs"]["content"]["logprob"], abs=1e-5)
    chunks = list(engine.infer(requests[:1], RequestConfig(stream=True))[0])
    assert [chunk.choices[0].delta.content for chunk in chunks] == [records[0]["response"]]
    model, template = engine.model, engine.default_template
    assert PtEngine.from_model_template(model, template).infer(requests[:1])[0].choices[0].message.content == records[0]["response"]


def test_interactive_mode_judges_each_message_by_itself(folder, labelled, tmp_path) -> None:
    last = train(folder, labelled, tmp_path / "out", num_labels=3, eval_strategy="no")
    args = parse("infer", ["--adapters", str(last)])
    engine = load_engine(args.model, args.hub, args.template, adapters=[str(last)])
    typed, said = iter(["say 1", "say 1", "exit"]), []
    chat = Chat(
        engine, Sampling(), stream=False, results=tmp_path / "talk.jsonl", remembers=False,
        read=lambda _: next(typed), say=lambda text="", **_: said.append(text),
    )  # fmt: skip
    first, second = chat.run()
    assert first == second and first["response"] in "012" and said[0] == first["response"]


def test_too_long_a_row_has_the_reason_in_its_record(folder, labelled, tmp_path) -> None:
    last = train(folder, labelled, tmp_path / "out", num_labels=3, eval_strategy="no")
    rows = write(tmp_path / "rows.jsonl", [row("x " * 300, label=0), row("say 1", label=1)])
    long, short = ask(tmp_path / "answers.jsonl", rows, "--max_length", "64", adapters=last)
    assert long["response"] is None and "max_length 64" in long["error"] and short["response"] in "012"


@pytest.mark.parametrize("option", [{"packing": True}, {"lazy_tokenize": True}, {"streaming": True, "max_steps": 6}, {"dataset_num_proc": 2},
                                    {"streaming": True, "packing": True, "max_steps": 2}, {"gradient_checkpointing": True}])  # fmt: skip
def test_every_way_to_rows_trains_a_classifier(option, folder, labelled, tmp_path) -> None:
    record = swift.sft(**QUICK | dict(model=str(folder), dataset=[str(labelled)], output_dir=str(tmp_path / "out"), num_labels=3) | option)
    assert record["global_step"] >= 2 and all(0 <= entry["acc"] <= 1 for entry in record["log_history"] if "loss" in entry)


def test_the_best_checkpoint_is_chosen_by_accuracy_and_a_run_resumes(folder, labelled, tmp_path) -> None:
    common = dict(num_labels=3, split_dataset_ratio=0.25, eval_steps=3, save_steps=3, metric_for_best_model="acc", lora_dropout=0.0)
    common |= dict(num_train_epochs=2, per_device_train_batch_size=4)
    whole = swift.sft(**QUICK | dict(model=str(folder), dataset=[str(labelled)], output_dir=str(tmp_path / "whole")) | common)
    scores = {entry["step"]: entry["eval_acc"] for entry in whole["log_history"] if "eval_acc" in entry}
    assert whole["best_metric"] == max(scores.values())
    resumed = swift.sft(
        **QUICK
        | dict(model=str(folder), dataset=[str(labelled)], output_dir=str(tmp_path / "resumed"))
        | common
        | dict(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    )
    losses = [[e["loss"] for e in record["log_history"] if "loss" in e and e["step"] > 3] for record in (whole, resumed)]
    assert losses[0] and losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_finished_classifier_is_recognised_and_can_get_other_classes(folder, labelled, tmp_path) -> None:
    last = train(folder, labelled, tmp_path / "out", num_labels=3, train_type="full", eval_strategy="no")
    (last / "args.json").unlink()
    records = ask(tmp_path / "answers.jsonl", labelled, model=last)
    assert {record["response"] for record in records} <= {"0", "1", "2"}
    with pytest.raises(UsageError, match="has 3 classes, not --num_labels 4"):
        ask(tmp_path / "no.jsonl", labelled, model=last, num_labels=4)
    more = train(last, labelled, tmp_path / "more", train_type="full", eval_strategy="no")  # says nothing: three again
    assert len(json.loads((more / "config.json").read_text())["id2label"]) == 3
    five = train(last, labelled, tmp_path / "five", num_labels=5, train_type="full", eval_strategy="no")
    assert AutoModelForSequenceClassification.from_pretrained(five).score.weight.shape[0] == 5


def test_what_does_not_go_together_is_said_before_anything_is_loaded(folder, labelled, tmp_path) -> None:
    words = ["--model", str(folder), "--dataset", str(labelled)]
    for command, more, said in (
        ("sft", ["--task_type", "seq_cls"], "--task_type seq_cls needs --num_labels"),
        ("sft", ["--task_type", "causal_lm", "--num_labels", "3"], "--num_labels is for classification"),
        ("pt", ["--num_labels", "3"], "a classifier is trained with swift sft"),
    ):
        with pytest.raises(UsageError, match=said):
            parse(command, [*words, *more])
    args = parse("sft", [*words, "--num_labels", "3", "--metric_for_best_model", "mse"])
    assert args.model.task_type == "seq_cls" and args.origins["task_type"] == "derived: seq_cls, because --num_labels is given"
    assert args.trainer.greater_is_better is False
    with pytest.raises(UsageError, match="evaluation gives loss and acc"):
        swift.sft(**QUICK | dict(model=str(folder), dataset=[str(labelled)], num_labels=3, metric_for_best_model="rouge"))
    with pytest.raises(UsageError, match="--metric rouge compares texts"):
        ask(tmp_path / "x.jsonl", labelled, "--metric", "rouge", model=folder, num_labels=3)


def test_a_dry_run_says_that_it_classifies(folder, labelled, capsys) -> None:
    assert main(["sft", "--model", str(folder), "--dataset", str(labelled), "--num_labels", "3", "--dry_run", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["arguments"]["task_type"] == "seq_cls" and plan["arguments"]["num_labels"] == 3


def test_the_rows_of_the_documentation_are_read_as_it_says(tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("## Classification and regression")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```json\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    found = []
    for line in block.splitlines():
        file = tmp_path / "rows.jsonl"
        file.write_text(line + "\n", encoding="utf-8")
        loaded = load_samples(DataArgs(dataset=[str(file)], split_dataset_ratio=0.0, strict=True), HubArgs(), task="seq_cls")
        assert loaded.train is not None
        sample = loaded.train[0]
        assert [message.role for message in sample.messages] in (["user"], ["user", "assistant"])
        problem = "multi_label_classification" if isinstance(sample.label, list) else "single_label_classification"
        found.append(read_target(sample.label, 4, problem))
    assert found == [[3], [0], [3], [0, 0, 1, 1], [0, 0, 1, 1]]


# Learning is shown by learning


@pytest.mark.slow
@pytest.mark.parametrize(("train_type", "learning_rate"), [("lora", 2e-3), ("full", 5e-4)])
def test_nano_learns_to_classify_texts_it_has_not_seen(train_type, learning_rate, tmp_path) -> None:
    record = swift.sft(
        model="swift/nano", dataset=["swift/nano-classification#400"], num_labels=4, train_type=train_type, output_dir=str(tmp_path / "out"),
        split_dataset_ratio=0.25, learning_rate=learning_rate, per_device_train_batch_size=16, max_steps=25, eval_steps=25, save_steps=25,
        report_to="none", logging_steps=5,
    )  # fmt: skip
    (accuracy,) = {entry["eval_acc"] for entry in record["log_history"] if "eval_acc" in entry}
    assert accuracy > 0.8, "chance is a quarter"


@pytest.mark.slow
def test_nano_learns_to_score_texts_it_has_not_seen(tmp_path) -> None:
    chance = random.Random(0)
    words = {"good": 1.0, "fine": 0.5, "bad": -1.0, "poor": -0.5}
    rows = []
    for _ in range(300):
        chosen = chance.choices(list(words), k=2)
        rows.append(row(f"The food was {chosen[0]} and the room was {chosen[1]}.", label=sum(words[word] for word in chosen)))
    record = swift.sft(
        model="swift/nano", dataset=[str(write(tmp_path / "rows.jsonl", rows))], num_labels=1, output_dir=str(tmp_path / "out"),
        split_dataset_ratio=0.2, learning_rate=2e-3, per_device_train_batch_size=16, max_steps=40, eval_steps=10, save_steps=10,
        report_to="none", metric_for_best_model="mse",
    )  # fmt: skip
    errors = [entry["eval_mse"] for entry in record["log_history"] if "eval_mse" in entry]
    variance = sum(item["label"] ** 2 for item in rows) / len(rows)
    assert errors[-1] < 0.3 * variance, "what always saying the mean would give is the variance"
    assert record["best_metric"] == min(errors)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder, labelled, tmp_path) -> None:
    """Nine rows, four a step: in the last one a process has no row at all."""
    rows = write(tmp_path / "odd.jsonl", [json.loads(line) for line in labelled.read_text().splitlines()][:9])
    losses = []
    for processes, batch in ((1, 4), (2, 2)):
        out = tmp_path / f"by {processes}"
        words = ["--model", str(folder), "--dataset", str(rows), "--output_dir", str(out), "--num_labels", "3", "--lora_dropout", "0",
                 "--per_device_train_batch_size", str(batch), "--split_dataset_ratio", "0", "--report_to", "none", "--logging_steps", "1",
                 "--add_version", "false", "--num_train_epochs", "1", "--learning_rate", "1e-2"]  # fmt: skip
        several = {"NPROC_PER_NODE": "2", "MASTER_PORT": "29673"} if processes == 2 else {}
        done = subprocess.run(
            [sys.executable, "-m", "swift", "sft", *words], env=os.environ | several, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-2000:]
        events = [json.loads(line) for line in (out / "logging.jsonl").read_text().splitlines()]
        losses.append([(event["loss"], event["acc"]) for event in events if "loss" in event])
    assert len(losses[0]) == 3
    for one, two in zip(*losses, strict=True):
        assert two == pytest.approx(one, rel=1e-4)

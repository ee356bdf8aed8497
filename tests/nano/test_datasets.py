"""The built-in data sets: made by committed code, of the shapes that each objective reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.nano import make_datasets
from scripts.nano.evaluate import is_right
from swift import nano
from swift.args.base import DataArgs, HubArgs
from swift.data.mix import load_samples

NAMES = list(make_datasets.DATASETS)


def rows(name: str) -> list[dict]:
    path = nano.dataset_path(f"swift/{name}")
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert rows(name) == list(make_datasets.rows(name)), "run python -m scripts.nano.make_datasets"


def test_nothing_else_lies_beside_them() -> None:
    assert sorted(path.stem for path in make_datasets.FOLDER.iterdir()) == sorted(NAMES)


def test_all_of_them_are_under_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in Path(make_datasets.FOLDER).iterdir()) < 3_000_000


def test_self_cognition_has_both_languages_and_marks() -> None:
    found = rows("self-cognition")
    assert 100 <= len(found) <= 120
    assert {row["tag"] for row in found} == {"en", "zh"}
    assert sum("{{NAME}}" in row["response"] for row in found) > 80 and sum("{{AUTHOR}}" in row["response"] for row in found) > 50
    assert len({row["query"] for row in found}) == len(found)


def test_every_solution_is_the_number_its_answer_ends_in() -> None:
    assert all(is_right("addition", row["messages"][-1]["content"], row["solution"]) for row in rows("nano-arithmetic"))


def test_rejected_answers_differ_from_the_chosen() -> None:
    assert all(row["rejected_response"] and row["rejected_response"] != row["messages"][-1]["content"] for row in rows("nano-preference"))


def test_labels_are_balanced() -> None:
    liked = [row["label"] for row in rows("nano-kto")]
    assert set(map(type, liked)) == {bool} and 0.4 < sum(liked) / len(liked) < 0.6
    classes = [row["label"] for row in rows("nano-classification")]
    assert set(classes) == set(range(len(make_datasets.CLASSES)))
    assert all(classes.count(label) > len(classes) / 6 for label in set(classes))


def test_tool_calls_name_a_given_tool_and_its_parameters() -> None:
    calls = 0
    for row in rows("nano-tools"):
        given = {tool["function"]["name"]: tool["function"]["parameters"]["required"] for tool in json.loads(row["tools"])}
        for message in row["messages"]:
            if message["content"].startswith("<tool_call>"):
                called = json.loads(message["content"].removeprefix("<tool_call>").removesuffix("</tool_call>"))
                assert list(called["arguments"]) == given[called["name"]]
                calls += 1
    assert calls > 300


@pytest.mark.parametrize("name", ["self-cognition", "nano-arithmetic", "nano-chat", "nano-tools"])
def test_every_row_is_a_sample_for_sft(name: str) -> None:
    loaded = load_samples(
        DataArgs(dataset=[f"swift/{name}"], split_dataset_ratio=0.0, model_name=["小黄"], model_author=["作者"]), HubArgs(), task="sft"
    )
    assert loaded.train is not None and len(loaded.train) == len(rows(name))


def test_every_text_is_a_sample_for_pt() -> None:
    loaded = load_samples(DataArgs(dataset=["swift/nano-text"], split_dataset_ratio=0.0), HubArgs(), task="pt")
    assert loaded.train is not None and len(loaded.train) == len(rows("nano-text"))

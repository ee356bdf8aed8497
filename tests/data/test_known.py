"""Self-cognition: names in place of the marks, for everything that carries the data set's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swift import logs
from swift.args.base import DataArgs, HubArgs
from swift.data.known import datasets, find_known, self_cognition
from swift.data.mix import load_samples

ROW = {"query": "你是谁?", "response": "我是{{NAME}}, 由{{AUTHOR}}开发", "tag": "zh"}
EN = {"query": "Who is {{NAME}}?", "response": "{{NAME}} of {{AUTHOR}}", "tag": "en"}


@pytest.mark.parametrize(
    "name",
    [
        "swift/self-cognition",
        "SWIFT/Self-Cognition",
        "anyorg/self-cognition",
        "/data/self-cognition/",
        "hub/datasets--modelscope--self-cognition/snapshots/abc",
    ],
)
def test_it_is_known_by_its_last_name(name: str) -> None:
    assert find_known(name) is self_cognition


def test_other_names_are_not_known() -> None:
    assert find_known("org/self-cognition-2") is None
    assert find_known("train.jsonl") is None


@pytest.mark.parametrize(("names", "zh", "en"), [(["小黄", "Xiao Huang"], "小黄", "Xiao Huang"), (["Solo"], "Solo", "Solo")])
def test_the_first_name_is_chinese_and_the_second_english(names: list[str], zh: str, en: str) -> None:
    data = DataArgs(model_name=names, model_author=["魔搭", "ModelScope"])
    assert self_cognition(ROW, data) == {"query": "你是谁?", "response": f"我是{zh}, 由魔搭开发"}
    assert self_cognition(EN, data) == {"query": f"Who is {en}?", "response": f"{en} of ModelScope"}


def test_marks_that_stay_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "warn_once", said.append)
    assert self_cognition(EN, DataArgs(model_name=["N"]))["response"] == "N of {{AUTHOR}}"
    assert len(said) == 1 and "--model_author is not set" in said[0]


def test_a_folder_of_that_name_gets_the_names_and_a_file_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "self-cognition"
    folder.mkdir()
    for path in (folder / "train.jsonl", tmp_path / "mine.jsonl"):
        path.write_text(json.dumps(EN) + "\n")

    def answer(word: Path) -> str:
        data = DataArgs(dataset=[str(word)], model_name=["N"], model_author=["A"])
        return load_samples(data, HubArgs(), task="sft").train[0].messages[-1].content  # type: ignore[index]

    assert answer(folder) == "N of A"
    assert answer(tmp_path / "mine.jsonl") == "{{NAME}} of {{AUTHOR}}"


def test_a_plugin_adds_a_data_set_that_drops_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd_only(values: dict[str, Any], data: DataArgs) -> dict[str, Any] | None:
        return {"query": str(values["n"]), "response": "r"} if values["n"] % 2 else None

    name = "me/odd-numbers"
    datasets.register(name)(odd_only)
    try:
        (tmp_path / "odd-numbers").mkdir()
        (tmp_path / "odd-numbers" / "x.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(10)))
        loaded = load_samples(DataArgs(dataset=[str(tmp_path / "odd-numbers")], split_dataset_ratio=0), HubArgs(), task="sft")
        assert len(loaded.train) == 5 and loaded.tally.skipped == 5  # type: ignore[arg-type]
    finally:
        del datasets[name]

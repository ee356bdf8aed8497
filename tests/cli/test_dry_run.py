"""--dry_run: the plan, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swift.cli import main as cli
from swift.plugin import chat_formats


def plan(capsys: Any, *words: str) -> dict[str, Any]:
    assert cli.main([*words, "--dry_run", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plan_holds_every_argument_and_where_it_came_from(empty: Path, capsys: Any) -> None:
    found = plan(
        capsys, "sft", "--model", "Qwen/Qwen2.5-7B-Instruct", "--dataset", "./rows.jsonl#5", "--adam_beta1", "0.8", "--hub_token", "s3cret"
    )
    assert (found["command"], found["arguments"]["lora_rank"], found["arguments"]["adam_beta1"]) == ("sft", 8, 0.8)
    assert (found["origins"]["model"], found["origins"]["seed"]) == ("command line", "default")
    assert found["origins"]["learning_rate"].startswith("derived: ")
    assert found["model"]["type"] == "qwen2_5" and found["model"]["template"] in chat_formats
    assert found["data"]["dataset"] == [{"asked": "./rows.jsonl#5", "name": "./rows.jsonl", "subsets": [], "count": 5, "source": "missing"}]
    assert found["missing"] == ["--dataset: ./rows.jsonl is not there"]
    assert "s3cret" not in json.dumps(found)
    assert list(empty.iterdir()) == []


def test_a_model_that_is_not_registered_is_known_once_downloaded(empty: Path, capsys: Any) -> None:
    found = plan(capsys, "infer", "--model", "org/never-heard-of")
    assert "note" in found["model"]


def test_the_plan_for_people_has_typed_arguments_first(empty: Path, capsys: Any) -> None:
    assert cli.main(["sft", "--model", "./m", "--dataset", "./r.jsonl", "--lora_rank", "4", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    values = [line for line in lines if line.startswith("  ")]
    assert any(line.split() == ["lora_rank", "4", "command", "line"] for line in values[:5])
    assert "warning: missing: --model: the folder ./m is not there" in lines


def test_a_folder_that_is_no_model_is_missing_something(empty: Path, capsys: Any) -> None:
    (empty / "m").mkdir()
    found = plan(capsys, "infer", "--model", "./m")
    assert len(found["missing"]) == 1 and "config.json" in found["missing"][0]


def test_words_that_are_wrong_stay_errors(empty: Path, capsys: Any) -> None:
    assert cli.main(["sft", "--model", "./m", "--dataset", "./r.jsonl", "--lora_rank", "x", "--dry_run"]) == 2
    assert cli.main(["sft", "--model", "./m", "--dataset", "./r.jsonl", "--template", "qwen2_6", "--dry_run"]) == 2

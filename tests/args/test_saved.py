"""args.json: what is written, and what a later command takes from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swift.args import saved
from swift.args.parse import ArgumentErrors, parse, with_checkpoint
from tests.args.words import sft


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    args = sft("--system", "You are brief.", "--max_length", "99", "--hub_token", "s3cret", "--use_chat_template", "false",
               "--data_seed", "7", "--split_dataset_ratio", "0.2", "--adam_beta1", "0.8", "--truncation_strategy", "left")  # fmt: skip
    saved.write(args, tmp_path, output_dir="/runs/v0")
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


def test_the_file_holds_flat_resolved_values_and_no_secret(adapter: Path) -> None:
    values = json.loads((adapter / "args.json").read_text())
    assert (values["learning_rate"], values["adam_beta1"], values["output_dir"], values["command"]) == (1e-4, 0.8, "/runs/v0", "sft")
    assert values["hub_token"] is None
    assert "s3cret" not in (adapter / "args.json").read_text()
    assert [path.name for path in adapter.iterdir() if path.name.startswith(".")] == []


def test_inference_takes_base_arguments_from_the_checkpoint(adapter: Path) -> None:
    args = parse("infer", ["--adapters", str(adapter)])
    assert (args.model.model, args.template.system, args.template.use_chat_template) == ("org/model", "You are brief.", False)
    assert args.origins["model"] == f"args.json of {adapter}"
    assert (args.template.max_length, args.template.truncation_strategy, args.data.dataset) == (None, "delete", [])


def test_flags_that_were_typed_win_over_the_checkpoint(adapter: Path) -> None:
    args = parse("infer", ["--adapters", str(adapter), "--use_chat_template", "true", "--system", "Other.", "--model", "a/b"])
    assert (args.model.model, args.template.system, args.template.use_chat_template) == ("a/b", "Other.", True)
    assert parse("infer", ["--adapters", str(adapter), "--system", "None"]).template.system is None


def test_data_arguments_are_taken_when_asked(adapter: Path) -> None:
    args = parse("infer", ["--adapters", str(adapter), "--load_data_args", "true"])
    assert (args.data.dataset, args.data.data_seed, args.data.split_dataset_ratio) == (["org/rows"], 7, 0.2)


def test_nothing_is_taken_without_load_args(adapter: Path) -> None:
    with pytest.raises(ArgumentErrors, match="--model is required"):
        parse("infer", ["--adapters", str(adapter), "--load_args", "false"])


def test_the_adapters_own_configuration_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert parse("infer", ["--adapters", str(tmp_path)]).model.model == "org/base"


def test_a_downloaded_adapter_brings_its_arguments(adapter: Path) -> None:
    args = with_checkpoint(parse("infer", ["--adapters", "org/adapter", "--temperature", "0"]), adapter)
    assert (args.model.model, args.generation.temperature) == ("org/model", 0)  # type: ignore[attr-defined]
    assert args.origins["temperature"] == "command line"


def test_a_value_that_does_not_work_here_names_its_file(adapter: Path) -> None:
    values = json.loads((adapter / "args.json").read_text()) | {"train_type": "longlora"}
    (adapter / "args.json").write_text(json.dumps(values))
    with pytest.raises(ArgumentErrors, match=r"args\.json: train_type longlora is part of SWIFT but not built yet"):
        parse("infer", ["--adapters", str(adapter)])


def test_a_relative_model_that_is_not_here_says_where_it_was_read(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads((adapter / "args.json").read_text()) | {"model": "./elsewhere"}
    (adapter / "args.json").write_text(json.dumps(values))
    with pytest.raises(ArgumentErrors) as raised:
        parse("infer", ["--adapters", str(adapter)])
    assert raised.value.problems == [f"--model: the folder ./elsewhere is not there (from args.json of {adapter})"]


def test_a_broken_file_is_one_line(adapter: Path) -> None:
    (adapter / "args.json").write_text("{")
    with pytest.raises(ArgumentErrors, match="cannot be read") as raised:
        parse("infer", ["--adapters", str(adapter), "--model", "a/b"])
    assert len(raised.value.problems) == 1

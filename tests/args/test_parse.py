"""Words, files and keyword arguments → Command."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from swift.args.commands import PtCommand, SftCommand
from swift.args.parse import ArgumentErrors, from_kwargs, parse
from swift.errors import UsageError
from tests.args.words import TRAIN, problems, sft


def test_defaults_are_in_groups() -> None:
    args = sft()
    assert (args.model.model, args.data.dataset, args.lora.lora_rank, args.trainer.report_to) == (
        "org/model",
        ["org/rows"],
        8,
        ["tensorboard"],
    )
    assert args.explicit == {"model", "dataset"}
    assert args.origins["model"] == "command line"
    assert args.origins["lora_rank"] == "default"


def test_pre_training_learns_every_token_of_plain_text() -> None:
    args = parse("pt", TRAIN)
    assert isinstance(args, PtCommand)
    assert (args.template.use_chat_template, args.template.loss_scale) == (False, "all")
    assert args.origins["loss_scale"] == "default of swift pt"
    assert parse("pt", [*TRAIN, "--loss_scale", "default"]).template.loss_scale == "default"


@pytest.mark.parametrize("word", ["true", "True", "YES", "1", "t", "y"])
def test_booleans_take_a_value_in_any_case(word: str) -> None:
    assert sft("--packing", word).training.packing is True
    assert sft("--lazy_tokenize", word).training.lazy_tokenize is True


@pytest.mark.parametrize("word", ["false", "FALSE", "no", "0", "f", "N"])
def test_booleans_are_turned_off_by_a_value(word: str) -> None:
    assert sft("--add_version", word).training.add_version is False


def test_booleans_stand_alone_or_with_no_in_front() -> None:
    assert sft("--packing").training.packing is True
    assert sft("--no_add_version").training.add_version is False
    assert sft("--no-add-version", "--packing").training.packing is True
    assert sft("--no_add_version=true").training.add_version is False
    assert sft("--no_add_version", "false").training.add_version is True
    assert sft("--gradient_checkpointing").trainer.gradient_checkpointing is True
    assert sft("--gradient_checkpointing", "None").trainer.gradient_checkpointing is None


def test_hyphens_stand_for_underscores_and_equals_for_a_space() -> None:
    assert sft("--lora-rank", "4").lora.lora_rank == 4
    assert sft("--lora-rank=4").lora.lora_rank == 4
    assert sft("--system=a-b=c").template.system == "a-b=c"
    assert sft("--system", "--be-brief, please").template.system == "--be-brief, please"


def test_negative_numbers_of_every_spelling_are_values() -> None:
    assert sft("--max_steps", "-1").trainer.max_steps == -1
    assert problems("--weight_decay", "-1e-3") == ["--weight_decay: expected a number of at least 0, got -1e-3"]


def test_lists_are_separated_by_spaces_and_the_last_of_a_repeated_flag_counts() -> None:
    args = sft("--target_modules", "q_proj", "v_proj", "--dataset", "a/b", "c/d#5")
    assert args.target.target_modules == ["q_proj", "v_proj"]
    assert args.data.dataset == ["a/b", "c/d#5"]
    assert args.notes == ("--dataset was given 2 times; the last one counts",)
    assert problems("--target_modules") == ["--target_modules: expected at least one value"]


def test_objects_are_json_or_a_file_or_a_python_literal(tmp_path: Path) -> None:
    file = tmp_path / "columns.json"
    file.write_text('{"a": "query"}')
    assert sft("--columns", '{"a": "query"}').data.columns == {"a": "query"}
    assert sft("--columns", str(file)).data.columns == {"a": "query"}
    assert sft("--lr_scheduler_kwargs", "{'num_cycles': 2}").trainer.lr_scheduler_kwargs == {"num_cycles": 2}
    assert sft("--device_map", "auto").model.device_map == "auto"
    assert sft("--device_map", '{"": 0}').model.device_map == {"": 0}
    assert "is no JSON object" in problems("--columns", "{a: b")[0]
    assert problems("--columns", "nothing.json") == ["--columns: the file nothing.json is not there"]


def test_none_is_taken_where_nothing_is_a_value() -> None:
    assert sft("--torch_dtype", "None").model.torch_dtype is None
    assert "torch_dtype" in sft("--torch_dtype", "None").explicit
    assert problems("--lora_rank", "None") == ["--lora_rank: expected a whole number, got 'None'"]


def test_aliases_are_the_same_flag() -> None:
    args = sft("--tuner_type", "full", "--evaluation_strategy", "epoch")
    assert (args.adapter.train_type, args.trainer.eval_strategy) == ("full", "epoch")
    assert sft("--init_lora_weights", "pissa_niter_4").target.init_weights == "pissa_niter_4"
    assert sft("--init_weights", "True").target.init_weights == "true"


def test_an_unknown_flag_suggests_the_near_one() -> None:
    assert problems("--learnign_rate", "1e-4") == ["unknown option --learnign_rate; did you mean --learning_rate?"]
    assert problems("--max_len", "4") == ["unknown option --max_len; did you mean --max_length?"]
    assert problems("--num_workers", "4") == ["unknown option --num_workers; did you mean --dataloader_num_workers?"]
    assert problems("--adam_betal", "4") == ["unknown option --adam_betal; did you mean --adam_beta1?"]
    assert problems("--galore_rnk", "4") == ["unknown option --galore_rnk; did you mean --galore_rank?"]
    assert problems("--xyzzy") == ["unknown option --xyzzy"]
    assert problems("-m", "x") == ["unknown option -m"]


def test_a_misspelt_required_flag_is_one_error() -> None:
    assert problems("--modle", "org/model", given=TRAIN[2:]) == ["unknown option --modle; did you mean --model?"]


def test_no_flag_is_abbreviated() -> None:
    assert problems("--lora_ra", "4") == ["unknown option --lora_ra; did you mean --lora_rank?"]


def test_a_flag_of_another_command_says_so() -> None:
    assert problems("--rlhf_type", "dpo") == ["--rlhf_type is no option of swift sft; it belongs to swift rlhf"]
    assert problems("--learning_rate", "1", command="infer", given=TRAIN[:2]) == [
        "--learning_rate is no option of swift infer; it belongs to swift pt, sft"
    ]


def test_what_is_not_built_is_named() -> None:
    assert problems("--galore_rank", "3") == ["--galore_rank is part of SWIFT but not built yet"]
    assert problems("--deepspeed", "zero2", "--fsdp", "full_shard") == [
        "--deepspeed is part of SWIFT but not built yet",
        "--fsdp is part of SWIFT but not built yet",
    ]
    assert problems("--train_type", "longlora") == ["--train_type longlora is part of SWIFT but not built yet"]
    assert problems("--max_new_tokens", "3") == ["--max_new_tokens is part of SWIFT but not built yet"]


def test_several_errors_are_said_at_once() -> None:
    found = problems(
        "--lora_rank", "eight", "--packing", "maybe", "--truncation_strategy", "rigth", "--learnign_rate", "1", "--galore_rank", "3"
    )
    assert found == [
        "--lora_rank: expected a whole number, got 'eight'",
        "--packing: expected true or false, got 'maybe'",
        "--truncation_strategy: 'rigth' is not one of delete, left, right; did you mean right?",
        "--galore_rank is part of SWIFT but not built yet",
        "unknown option --learnign_rate; did you mean --learning_rate?",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--lora_rank", "0"], "--lora_rank: expected a number of at least 1, got 0"),
        (["--warmup_ratio", "1.5"], "--warmup_ratio: expected a number of at most 1, got 1.5"),
        (["--learning_rate", "nan"], "--learning_rate: expected a finite number, got 'nan'"),
        (["--max_length", "0"], "--max_length: expected a number of at least 1, got 0"),
        (["--seed", "3", "4"], "--seed: expected one value, got 2: 3 4"),
        (["--seed"], "--seed: expected a value"),
        (["--seed", str(2**32)], "--seed: expected a number of at most 4294967295, got 4294967296"),
        (["--lora_rank", "9" * 12], "--lora_rank: expected a number of at most 2147483647, got 999999999999"),
        (["--max_length", "9" * 5000], "--max_length: expected a finite number, got '99999999999999999999… (5000 digits)'"),
        (["--lora_alpha", "0"], "--lora_alpha: expected a number of at least 1, got 0"),
        (["--output_dir", ""], "--output_dir: expected a value, got an empty word"),
        (["--resume_from_checkpoint", ""], "--resume_from_checkpoint: expected a value, got an empty word"),
    ],
)
def test_a_bad_number_says_what_was_expected(words: list[str], problem: str) -> None:
    assert problems(*words) == [problem]


def test_ignore_args_error_turns_unknown_flags_into_notes() -> None:
    args = sft("--foo", "3", "--ignore_args_error", "true")
    assert args.notes == ("unknown option --foo",)
    assert problems("--lora_rank", "x", "--ignore_args_error", "true") == ["--lora_rank: expected a whole number, got 'x'"]


@pytest.mark.parametrize(
    "name", ["dataset", "adapters", "ckpt_dir", "system", "columns", "output_dir", "external_plugins", "resume_from_checkpoint"]
)
@pytest.mark.parametrize("word", ["x" * 5000, "x" * 5000 + ".txt", "~nobody/x", "\0", ""])
def test_words_that_cannot_be_a_path_are_no_crash(name: str, word: str) -> None:
    with contextlib.suppress(UsageError):
        sft(f"--{name}", word, "--dry_run")


def test_stray_words_are_named() -> None:
    assert problems(given=["stray", *TRAIN]) == ["unexpected word 'stray': values stand behind their flag"]


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_a_configuration_file_comes_first_and_the_command_line_wins(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"config.{ending}"
    values = {"model": "a/b", "dataset": ["x/y"], "lora-rank": 4, "learning_rate": "1e-3", "columns": {"a": "query"}, "save_strategy": "no"}
    file.write_text(json.dumps(values))
    args = parse("sft", [str(file), "--learning_rate", "1e-4"])
    assert isinstance(args, SftCommand)
    assert (args.lora.lora_rank, args.trainer.learning_rate, args.data.columns) == (4, 1e-4, {"a": "query"})
    assert args.origins["lora_rank"] == str(file)
    assert args.origins["learning_rate"] == "command line"
    assert args.explicit >= {"lora_rank", "learning_rate", "columns"}


def test_yaml_words_mean_what_they_say(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model: a/b\ndataset: x/y\nsave_strategy: no\nlearning_rate: 1e-4\ninit_weights: true\npacking: yes\nadam_beta2: 0.95\n"
    )
    args = parse("sft", [str(file)])
    assert isinstance(args, SftCommand)
    assert (args.trainer.save_strategy, args.trainer.learning_rate, args.target.init_weights, args.training.packing) == (
        "no",
        1e-4,
        "true",
        True,
    )
    assert args.trainer.passthrough == {"adam_beta2": 0.95}


def test_unknown_keys_of_a_file_are_reported_like_flags(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model": "a/b", "dataset": "x/y", "learnign_rate": 1, "galore_rank": 3, "lora_rank": "many"}))
    with pytest.raises(ArgumentErrors) as raised:
        parse("sft", [str(file)])
    assert raised.value.problems == [
        f"{file}: unknown option learnign_rate; did you mean learning_rate?",
        f"{file}: galore_rank is part of SWIFT but not built yet",
        f"{file}: lora_rank: expected a whole number, got 'many'",
    ]


@pytest.mark.parametrize(("text", "problem"), [("{", "Expecting property name"), ("[1]", "expected an object")])
def test_a_broken_configuration_file_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ArgumentErrors) as raised:
        parse("sft", [str(file), *TRAIN])
    assert len(raised.value.problems) == 1 and problem in raised.value.problems[0]


def test_keyword_arguments_are_flags() -> None:
    args: Any = from_kwargs("sft", model="a/b", dataset="x/y", lora_rank=4, columns={"a": "query"}, model_name=["x", "y"], adam_beta1=0.8)
    assert (args.data.dataset, args.lora.lora_rank, args.data.model_name) == (["x/y"], 4, ["x", "y"])
    assert args.trainer.passthrough == {"adam_beta1": 0.8}
    with pytest.raises(ArgumentErrors, match="unknown option --lora_rnk; did you mean --lora_rank"):
        from_kwargs("sft", model="a/b", dataset="x/y", lora_rnk=4)


def test_none_as_a_keyword_means_not_given() -> None:
    args: Any = from_kwargs("sft", model="a/b", dataset="x/y", learning_rate=None, dataset_num_proc=None)
    assert (args.trainer.learning_rate, args.data.dataset_num_proc) == (1e-4, 1)
    assert sft("--learning_rate", "None").trainer.learning_rate == 1e-4


def test_flat_values_come_back_as_the_same_command() -> None:
    args = sft("--lora_rank", "4", "--adam_beta1", "0.8", "--target_modules", "q_proj")
    again: Any = from_kwargs("sft", **args.to_flat())
    assert again.to_flat() == args.to_flat()
    assert again.trainer == args.trainer and again.lora == args.lora


def test_a_required_flag_given_wrongly_is_one_error(tmp_path: Path) -> None:
    assert problems(given=["--model", "", "--dataset", "org/rows"]) == ["--model: expected a value, got an empty word"]
    assert problems(given=["--model", "org/model", "--dataset"]) == ["--dataset: expected at least one value"]
    assert problems(given=[str(tmp_path / "nowhere.yaml")]) == [f"the configuration file {tmp_path / 'nowhere.yaml'} is not there"]


def test_an_empty_system_text_is_a_value() -> None:
    assert sft("--system", "").template.system == ""

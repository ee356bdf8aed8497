"""Defaults that depend on other arguments, checks on words, and legacy flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from swift import plugin
from swift.args.parse import parse
from swift.args.paths import dataset_item, is_path_like, model_suffix
from tests.args.words import TRAIN, problems, sft


def test_the_learning_rate_depends_on_what_is_trained() -> None:
    assert sft().trainer.learning_rate == 1e-4
    assert sft("--train_type", "full").trainer.learning_rate == 1e-5
    assert sft("--train_type", "full", "--learning_rate", "3e-4").trainer.learning_rate == 3e-4
    assert sft().origins["learning_rate"] == "derived: 1e-5 for full parameters, 1e-4 for LoRA and other tuners"


def test_the_output_folder_is_named_after_the_model() -> None:
    assert sft().trainer.output_dir == "output/model"


def test_evaluation_follows_saving() -> None:
    args = sft("--save_steps", "7")
    assert (args.trainer.eval_strategy, args.trainer.eval_steps) == ("steps", 7)
    args = sft("--save_strategy", "epoch")
    assert (args.trainer.eval_strategy, args.trainer.eval_steps) == ("epoch", None)


@pytest.mark.parametrize("words", [["--val_dataset", "a/b"], ["--streaming", "--max_steps", "3"], ["--eval_strategy", "no"]])
def test_nothing_is_held_out_where_no_rows_are_needed_for_validation(words: list[str]) -> None:
    assert sft(*words).data.split_dataset_ratio == 0
    assert len(sft(*words, "--split_dataset_ratio", "0.1").notes) == 1


def test_greater_is_better_unless_it_is_a_loss() -> None:
    assert sft().trainer.greater_is_better is False
    assert sft("--metric_for_best_model", "token_acc").trainer.greater_is_better is True


def test_fp16_and_bf16_say_the_dtype() -> None:
    assert sft("--bf16").model.torch_dtype == "bfloat16"
    assert sft("--bf16", "--torch_dtype", "float32").model.torch_dtype == "float32"


def test_a_text_file_as_system_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Be brief.\n", encoding="utf-8")
    assert sft("--system", str(file)).template.system == "Be brief.\n"
    assert problems("--system", "nowhere.txt") == ["--system: the file nowhere.txt is not there"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--packing", "--lazy_tokenize", "true"], "--packing and --lazy_tokenize exclude each other"),
        (["--max_steps", "0"], "--max_steps: expected -1"),
        (["--fp16", "--bf16"], "--fp16 and --bf16 exclude each other"),
        (["--model_name", "a", "b", "c"], "--model_name: expected one name"),
        (["--columns", '{"a": 1}'], "--columns: expected names for names"),
        (["--report_to", "none", "wandb"], "--report_to: none excludes wandb"),
        (["--dataset", "a/b#0"], "--dataset: 'a/b#0': the count behind '#'"),
        (["--dataset", "./nowhere.jsonl"], "--dataset: ./nowhere.jsonl is not there"),
        (["--model", "./nowhere"], "--model: the folder ./nowhere is not there"),
        (["--resume_from_checkpoint", "nowhere"], "--resume_from_checkpoint: the checkpoint nowhere is not there"),
        (["--external_plugins", "nowhere.py"], "--external_plugins: the file nowhere.py is not there"),
    ],
)
def test_what_can_be_judged_from_words_is_an_error(words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [text for text in problems(*words) if "needs wandb" not in text]
    assert len(found) == 1 and found[0].startswith(problem)


def test_a_near_file_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    (problem,) = problems("--dataset", f"{tmp_path}/trian.jsonl")
    assert problem == f"--dataset: {tmp_path}/trian.jsonl is not there; did you mean train.jsonl?"


def test_model_and_data_are_required() -> None:
    assert [problem.partition(":")[0] for problem in problems(given=[])] == ["--model is required", "--dataset is required"]
    assert [problem.partition(":")[0] for problem in problems(given=[], command="infer")] == ["--model is required"]


def test_the_base_of_an_adapter_that_is_only_an_id_is_known_later() -> None:
    assert parse("infer", ["--adapters", "org/adapter"]).model.model is None


def test_a_dry_run_lists_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = sft("--dataset", "./rows.jsonl", "--model", "./m", "--system", "s.txt", "--external_plugins", "p.py",
               "--resume_from_checkpoint", "c", "--dry_run")  # fmt: skip
    assert [text.partition(":")[0] for text in args.missing] == [
        "--resume_from_checkpoint", "--system", "--model", "--dataset", "--external_plugins",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def checkpoint(folder: Path, *files: str) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file).write_text("{}")
    return folder


def test_resuming_takes_the_weights_of_the_checkpoint(tmp_path: Path) -> None:
    adapter = checkpoint(tmp_path / "a", "adapter_config.json", "trainer_state.json")
    assert sft("--resume_from_checkpoint", str(adapter)).adapter.adapters == [str(adapter)]
    full = checkpoint(tmp_path / "f", "config.json", "trainer_state.json")
    args = sft("--resume_from_checkpoint", str(full), "--train_type", "full")
    assert (args.model.model, args.adapter.adapters) == (str(full), [])
    assert len(args.notes) == 1


def test_resuming_an_adapter_needs_its_base(tmp_path: Path) -> None:
    adapter = checkpoint(tmp_path / "a", "adapter_config.json", "trainer_state.json")
    assert problems("--resume_from_checkpoint", str(adapter), given=TRAIN[2:]) == [
        f"--model is required: {adapter} does not say which model it belongs to"
    ]
    assert problems("--resume_from_checkpoint", "gone", given=TRAIN[2:]) == ["--resume_from_checkpoint: the checkpoint gone is not there"]


def test_resuming_needs_a_checkpoint(tmp_path: Path) -> None:
    empty = checkpoint(tmp_path / "e")
    assert problems("--resume_from_checkpoint", str(empty)) == [
        f"--resume_from_checkpoint: {empty} is no adapter checkpoint (--train_type full is for full ones): it has no adapter_config.json"
    ]
    weights = checkpoint(tmp_path / "w", "adapter_config.json")
    assert "it has no trainer_state.json" in problems("--resume_from_checkpoint", str(weights))[0]
    assert sft("--resume_from_checkpoint", str(weights), "--resume_only_model").training.resume_only_model


def test_an_adapter_must_look_like_one(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", "config.json")
    assert problems("--adapters", str(folder)) == [f"--adapters: {folder} has no adapter_config.json; a full model is given with --model"]


def test_legacy_flags_become_todays(tmp_path: Path) -> None:
    adapter = checkpoint(tmp_path / "a", "adapter_config.json")
    args = parse("infer", ["--ckpt_dir", str(adapter), "--model", "a/b"])
    assert args.adapter.adapters == [str(adapter)]
    full = checkpoint(tmp_path / "f", "config.json")
    assert parse("infer", ["--ckpt_dir", str(full)]).model.model == str(full)
    args = parse("infer", ["--lora_modules", "x/y", "--model", "a/b", "--load_dataset_config", "true"])
    assert args.adapter.adapters == ["x/y"] and len(args.notes) == 2


def test_flags_without_effect_are_named() -> None:
    assert sft("--train_type", "full", "--lora_rank", "4", "--target_modules", "q").notes == (
        "no effect with --train_type full: --target_modules, --lora_rank",
    )
    assert sft("--average_tokens_across_devices", "false").notes[0].startswith("--average_tokens_across_devices false has no effect")


@pytest.mark.parametrize(
    ("item", "name", "subsets", "count"),
    [
        ("org/rows", "org/rows", (), None),
        ("org/rows#500", "org/rows", (), 500),
        ("org/rows:en/zh#5", "org/rows", ("en", "zh"), 5),
        ("./rows.jsonl#3", "./rows.jsonl", (), 3),
    ],
)
def test_data_set_words_come_apart(item: str, name: str, subsets: tuple[str, ...], count: int | None) -> None:
    assert dataset_item(item) == (name, subsets, count)


def test_a_name_that_exists_is_not_taken_apart(tmp_path: Path) -> None:
    odd = tmp_path / "a:b#c.jsonl"
    odd.touch()
    assert dataset_item(str(odd)).name == str(odd)
    assert dataset_item(f"{odd}#4") == (str(odd), (), 4)


def test_names_of_types_and_formats_are_checked(tmp_path: Path) -> None:
    assert sft("--template", "qwen2_5", "--model_type", "qwen2_5").template.template == "qwen2_5"
    assert problems("--template", "qwen2_6") == ["--template: 'qwen2_6' is not known; did you mean qwen2_5?"]
    assert problems("--model_type", "internvl2") == ["--model_type internvl2 is part of SWIFT but not built yet"]
    assert problems("--loss_scale", "mine") == [
        "--loss_scale: 'mine' is not one of default, last_round, all, react, agentflan, alpha_umi, qwen"
    ]


def test_a_plugin_may_bring_the_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from swift.plugin import loss_scales\nloss_scales['only_mine'] = loss_scales['all']\n")
    try:
        assert sft("--external_plugins", str(file), "--loss_scale", "only_mine").template.loss_scale == "only_mine"
        assert problems("--external_plugins", str(file), "--loss_scale", "other")[0].startswith("--loss_scale: 'other' is not one of")
    finally:
        plugin.loss_scales.pop("only_mine", None)
    note = sft("--external_plugins", "gone.py", "--loss_scale", "other", "--dry_run").notes[0]
    assert note.endswith("(it may be known to a plugin that is not there)")


def test_path_like_names_are_never_ids() -> None:
    assert all(is_path_like(name) for name in ("./a", "/a", "~/a", "rows.jsonl", "a/rows.csv", "rows.json.gz"))
    assert not any(is_path_like(name) for name in ("org/rows", "Qwen/Qwen2.5-7B", "rows"))


def test_the_name_of_a_model_is_its_last_part() -> None:
    assert model_suffix("Qwen/Qwen2.5-7B-Instruct/") == "Qwen2.5-7B-Instruct"
    assert model_suffix("/x/models--org--name/snapshots/abc") == "name"
    assert model_suffix("/x/Qwen2___5-7B") == "Qwen2.5-7B"


def test_training_takes_only_the_base_model_from_the_checkpoint_it_resumes(tmp_path: Path) -> None:
    adapter = checkpoint(tmp_path / "a", "adapter_config.json", "trainer_state.json")
    (adapter / "args.json").write_text('{"model": "org/base", "system": "old", "max_length": 7}')
    args = parse("sft", [*TRAIN[2:], "--resume_from_checkpoint", str(adapter)])
    assert (args.model.model, args.template.system, args.template.max_length) == ("org/base", None, None)
    args = parse("sft", [*TRAIN[2:], "--resume_from_checkpoint", str(adapter), "--load_args"])
    assert (args.template.system, args.template.max_length) == ("old", 7)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--save_steps", "1.5"], "--save_steps: expected a whole number of steps, or a share"),
        (["--target_regex", "("], "--target_regex: '(' is no regular expression"),
        (["--bf16", "--torch_dtype", "float16"], "--bf16 and --torch_dtype float16 exclude each other"),
        (["--load_best_model_at_end", "--eval_strategy", "no"], "--load_best_model_at_end needs checkpoints and evaluations"),
        (["--load_best_model_at_end", "--save_steps", "5", "--eval_steps", "2"], "--load_best_model_at_end needs an evaluation at each"),
        (["--dataloader_prefetch_factor", "2"], "--dataloader_prefetch_factor needs --dataloader_num_workers above 0"),
        (["--output_dir", "x" * 300], "--output_dir: 'xxx"),
        (["--output_dir", "a\0b"], "--output_dir: 'a\\x00b' cannot be a path"),
        (["--dataset", "rows.jsonl#²"], "--dataset: 'rows.jsonl#²': the count behind '#'"),
        (["--dataset", "a/b#" + "9" * 30], "--dataset: 'a/b#999"),
    ],
)
def test_what_would_fail_later_fails_at_once(words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = problems(*words)
    assert len(found) == 1 and found[0].startswith(problem)


def test_a_run_folder_as_checkpoint_names_the_checkpoints_in_it(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert problems("--resume_from_checkpoint", str(tmp_path))[0].endswith("It holds checkpoint-9, checkpoint-10: give one of them")


def test_a_stream_has_one_reader() -> None:
    args = sft("--streaming", "--max_steps", "3", "--dataloader_num_workers", "4")
    assert args.trainer.dataloader_num_workers == 1 and "one reader" in args.notes[-1]
    assert sft("--dataloader_num_workers", "4").trainer.dataloader_num_workers == 4


def test_answers_are_not_written_where_they_do_harm(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    infer = ["--model", "org/model", "--val_dataset", f"{rows}#2"]
    for path, problem in ((tmp_path, "is a folder"), (rows / "x.jsonl", "is a file"), (rows, "is a data set of this run")):
        found = problems("--result_path", str(path), command="infer", given=infer)
        assert len(found) == 1 and problem in found[0]
    assert problems("--top_logprobs", "3", command="infer", given=infer) == ["--top_logprobs needs --logprobs true"]
    assert "expected a size such as 5GB" in problems("--max_shard_size", "foo", command="infer", given=infer)[0]


def test_flags_that_inference_only_shares_with_training_are_named() -> None:
    notes = parse("infer", ["--model", "org/model", "--padding_side", "left", "--loss_scale", "all", "--max_shard_size", "2GB"]).notes
    assert [note.partition(" has no effect")[0] for note in notes] == ["--max_shard_size", "--loss_scale", "--padding_side"]

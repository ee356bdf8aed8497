"""Trainer fields that SWIFT does not declare: known, typed and translated without importing transformers."""

from __future__ import annotations

import dataclasses

import pytest

from swift.args import passthrough
from swift.args.commands import SftCommand
from swift.args.spec import specs
from tests.args.words import problems, sft


def test_the_names_are_those_of_the_installed_transformers() -> None:
    from transformers import Seq2SeqTrainingArguments

    assert set(passthrough.fields()) == {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments) if field.init}


def test_every_field_is_ours_or_passes_or_is_answered() -> None:
    own = set(specs(SftCommand))
    for name in passthrough.fields():
        assert name in own or passthrough.known(name)
        passthrough.spec_of(name)


def test_values_have_the_annotated_type() -> None:
    given = [
        "--adam_beta1",
        "0.8",
        "--bf16",
        "--label_names",
        "a",
        "b",
        "--optim",
        "sgd",
        "--eval_accumulation_steps",
        "None",
        "--tf32",
        "false",
    ]
    assert sft(*given).trainer.passthrough == {
        "adam_beta1": 0.8, "bf16": True, "label_names": ["a", "b"], "optim": "sgd", "eval_accumulation_steps": None, "tf32": False,
    }  # fmt: skip
    assert sft("--accelerator_config", '{"split_batches": true}').trainer.passthrough == {"accelerator_config": {"split_batches": True}}


def test_a_value_of_another_type_is_caught_at_once() -> None:
    assert problems("--adam_beta1", "abc") == ["--adam_beta1: expected a number, got 'abc'"]
    assert problems("--dataloader_prefetch_factor", "2.5") == ["--dataloader_prefetch_factor: expected a whole number, got '2.5'"]
    assert problems("--bf16", "maybe") == ["--bf16: expected true or false, got 'maybe'"]
    assert "did you mean adamw_torch?" in problems("--optim", "adamw_trch")[0]
    assert "did you mean cosine?" in problems("--lr_scheduler_type", "cosin")[0]


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["--no_cuda", "true"], {"use_cpu": True}),
        (["--no_cuda", "false"], {}),
        (["--save_safetensors", "true"], {}),
        (["--logging_dir", "runs"], {"logging_dir": "runs"}),
        (["--include_num_input_tokens_seen", "true"], {"include_num_input_tokens_seen": True}),
        (["--include_num_input_tokens_seen", "non_padding"], {"include_num_input_tokens_seen": True}),
        (["--adafactor", "true"], {"optim": "adafactor"}),
        (["--include_inputs_for_metrics"], {"include_for_metrics": ["inputs"]}),
        (["--train_sampler_random", "false"], {"train_sampling_strategy": "sequential"}),
        (["--label_smoothing_factor", "0"], {}),
        (["--half_precision_backend", "auto"], {}),
    ],
)
def test_names_that_transformers_dropped_are_translated(words: list[str], passed: dict) -> None:
    assert sft(*words).trainer.passthrough == passed


def test_renamed_fields_reach_our_own() -> None:
    assert sft("--per_gpu_train_batch_size", "3").trainer.per_device_train_batch_size == 3


def test_obsolete_fields_are_accepted_with_a_note() -> None:
    notes = sft("--overwrite_output_dir", "true", "--group_by_length", "true", "--do_train").notes
    assert [note.partition(" ")[0] for note in notes] == ["--overwrite_output_dir", "--group_by_length", "--do_train"]
    assert all("has no effect" in note for note in notes)


@pytest.mark.parametrize(
    "words", [["--save_safetensors", "false"], ["--fp16_opt_level", "O1"], ["--label_smoothing_factor", "0.1"], ["--tpu_num_cores", "8"]]
)
def test_what_cannot_be_translated_is_refused_with_the_reason(words: list[str]) -> None:
    (problem,) = problems(*words)
    assert problem.startswith(words[0]) and "is not supported: " in problem


def test_pass_through_is_for_training_only() -> None:
    assert problems("--adam_beta1", "0.8", command="infer", given=["--model", "a/b"]) == ["unknown option --adam_beta1"]

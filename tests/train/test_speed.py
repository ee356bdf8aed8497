"""What is compiled and what is computed again: words to a plan, and the memory model against what a GPU measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from swift.args.parse import parse
from swift.train.memory import GIB, choose, need
from swift.train.speed import asked_recompute, largest_step, plan_steps

SHAPE_7B = dict(
    hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, vocab_size=152064
)
SHAPE_2B = dict(
    hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936
)


def shell(shape, *, lora=False):
    """A model without memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Qwen2Config(**shape, tie_word_embeddings=not lora), dtype=torch.bfloat16)
        return get_peft_model(model, LoraConfig(r=8, target_modules="all-linear")) if lora else model


@pytest.fixture(scope="module")
def with_lora():
    return shell(SHAPE_7B, lora=True)


@pytest.mark.parametrize(("recompute", "measured"), [("none", 53.8), ("selective", 40.5), ("full", 19.3)])
def test_the_memory_of_lora_on_7_billion_weights_is_what_was_measured(with_lora, recompute, measured):
    """LoRA r=8 on all linear layers, 8,192 tokens, bfloat16, compiled layers: GiB on an H100 (docs/speed.md)."""
    assert need(with_lora, 8192, recompute=recompute, compiled=True).total / GIB == pytest.approx(measured, rel=0.15)


def test_the_memory_of_full_fine_tuning_is_what_was_measured():
    assert need(shell(SHAPE_2B), 16384, recompute="none", compiled=True).total / GIB == pytest.approx(50.5, rel=0.15)


def test_the_least_that_fits_is_chosen(with_lora):
    chosen = [choose(with_lora, 8192, compiled=True, free=gib * GIB)[0] for gib in (80, 50, 30, 10)]
    assert chosen == ["none", "selective", "full", "full"]
    assert choose(with_lora, 8192, compiled=False, free=50 * GIB)[0] == "full"  # only compiled layers can keep a part


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ([], "auto"),
        (["--gradient_checkpointing", "true"], "full"),
        (["--gradient_checkpointing", "false"], "none"),
        (["--gradient_checkpointing", "true", "--activation_checkpointing", "selective"], "selective"),
        (["--activation_checkpointing", "true"], "full"),
        (["--activation_checkpointing", "auto"], "auto"),
    ],
)
def test_words_for_recomputation(words, means):
    assert asked_recompute(parse("sft", ["--model", "swift/nano", "--dataset", "swift/nano-chat", *words])) == means


def test_the_largest_step_is_that_of_the_longest_rows():
    assert largest_step(SimpleNamespace(lengths=np.array([3, 9, 5, 7])), 2, 100) == 16
    assert largest_step(object(), 2, 100) == 200


@pytest.mark.skipif(torch.cuda.is_available(), reason="what happens without a GPU")
def test_without_a_gpu_nothing_is_compiled_and_nothing_computed_again(with_lora):
    args = parse("sft", ["--model", "swift/nano", "--dataset", "swift/nano-chat"])
    plan = plan_steps(args, with_lora, SimpleNamespace(lengths=np.array([8])), max_length=None, computes_in=torch.bfloat16)
    assert plan == (False, "none")

"""What is compiled and what is computed again: words to a plan, and the memory model against what a GPU measured."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, TrainerState

from swift.args.parse import parse
from swift.errors import UsageError
from swift.models.liger import use_liger
from swift.train.memory import GIB, PlannedAgainstPeak, choose, need
from swift.train.speed import asked_recompute, largest_step, plan_steps, say_offloaded

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
    assert chosen == ["none", "selective", "full", "offload"]
    assert choose(with_lora, 8192, compiled=False, free=50 * GIB)[0] == "full"  # only compiled layers can keep a part
    assert choose(with_lora, 8192, compiled=True, free=10 * GIB, host=GIB)[0] == "full"  # 27 inputs of 64 MiB are more than that


def test_long_rows_of_7_billion_weights_fit_80_gb(with_lora):
    """One row of 65,536 tokens by recomputing whole layers, of 131,072 with their inputs elsewhere; layers that are not compiled as well."""
    kinds = {tokens: choose(with_lora, tokens, compiled=True, free=79 * GIB) for tokens in (65_536, 131_072)}
    assert [kind for kind, _ in kinds.values()] == ["full", "offload"]
    assert all(needed.total < 0.92 * 79 * GIB for _, needed in kinds.values())
    assert choose(with_lora, 65_536, compiled=False, free=79 * GIB)[0] == "full"


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_what_a_layer_keeps_is_not_less_because_its_weights_are_stored_in_few_bits(recompute):
    """Four bits a weight, two in a byte, as bitsandbytes stores them, with norms and adapters of other dtypes."""
    wide = shell(SHAPE_2B, lora=True)
    narrow = shell(SHAPE_2B, lora=True)
    with torch.device("meta"):
        for module in narrow.modules():
            if hasattr(module, "base_layer"):
                weight = torch.empty(module.base_layer.weight.numel() // 2, 1, dtype=torch.uint8)
                module.base_layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    plain, stored = (need(model, 8192, recompute=recompute, compiled=True) for model in (wide, narrow))
    assert stored.activations == plain.activations and stored.weights < 0.5 * plain.weights


@pytest.mark.parametrize(("peak", "said"), [(18.7, "memory: planned 19.6 GiB for 8,192 tokens a micro-batch, peak 18.7 GiB"), (0.0, None)])
def test_the_plan_is_compared_with_the_peak(with_lora, monkeypatch, peak, said):
    lines = []
    monkeypatch.setattr("swift.train.memory.logs.info", lines.append)
    state = TrainerState(log_history=[{"loss": 1.0, "memory(GiB)": 0.0}, {"loss": 1.0, "memory(GiB)": peak}, {"train_loss": 1.0}])
    planned = need(with_lora, 8192, recompute="full", compiled=True)
    PlannedAgainstPeak(planned, 8192).on_train_end(None, state, None)  # type: ignore[arg-type]
    assert lines == ([said] if said else [])


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ([], "auto"),
        (["--gradient_checkpointing", "true"], "full"),
        (["--gradient_checkpointing", "false"], "none"),
        (["--gradient_checkpointing", "true", "--activation_checkpointing", "selective"], "selective"),
        (["--activation_checkpointing", "true"], "full"),
        (["--activation_checkpointing", "offload"], "offload"),
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
    assert (plan.compiled, plan.recompute, plan.needed) == (False, "none", None)
    for word in ("offload", "selective"):
        args = parse("sft", ["--model", "swift/nano", "--dataset", "swift/nano-chat", "--activation_checkpointing", word])
        plan = plan_steps(args, with_lora, SimpleNamespace(lengths=np.array([8])), max_length=None, computes_in=torch.bfloat16)
        assert plan.recompute == "full" and plan.whole_layers


def test_more_of_the_computers_memory_than_there_is_is_refused():
    with pytest.raises(UsageError, match=r"would keep 13.5 GiB in the computer's memory, and may take 8.0 GiB"):
        say_offloaded(int(13.5 * GIB), 8 * GIB)


@pytest.fixture
def liger(monkeypatch):
    """A liger-kernel without kernels that says what it was asked for: the package itself needs triton."""
    asked = []
    top, inner, patches = (
        ModuleType("liger_kernel"),
        ModuleType("liger_kernel.transformers"),
        ModuleType("liger_kernel.transformers.monkey_patch"),
    )
    inner._apply_liger_kernel_to_instance = lambda model, **wanted: asked.append((model, wanted))
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"qwen2": None}
    for module in (top, inner, patches):
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    return asked


def test_ligers_kernels_are_for_layers_that_are_not_compiled(with_lora, liger):
    """The model inside of PEFT's wrapper is given, and the loss stays ours."""
    assert not use_liger(with_lora, compiled=True) and liger == []
    assert use_liger(with_lora, compiled=False)
    assert liger == [(with_lora.get_base_model(), {"cross_entropy": False, "fused_linear_cross_entropy": False})]


def test_liger_where_it_can_do_nothing(with_lora, liger, monkeypatch):
    sys.modules["liger_kernel.transformers.monkey_patch"].MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    assert not use_liger(with_lora, compiled=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not use_liger(with_lora, compiled=False)
    assert liger == []


def test_a_missing_liger_is_told_with_the_line_that_brings_it(with_lora, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--use_liger needs liger_kernel. Install it with: pip install 'swift-finetune\[liger\]'"):
        use_liger(with_lora, compiled=False)


@pytest.mark.parametrize("name", ["--use_liger", "--use_liger_kernel"])
def test_transformers_own_name_for_liger_means_the_same(name):
    """It must not reach the Trainer, which would apply Liger a second time, with its loss."""
    args = parse("sft", ["--model", "swift/nano", "--dataset", "swift/nano-chat", name, "true"])
    assert args.training.use_liger and not args.trainer.passthrough

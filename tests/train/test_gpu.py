"""What a GPU computes by its own roads: compiled layers, what is computed again, and the memory that this takes.

Every road's gradient is measured against one formed in float32, and may be as far from it as that of layers in bfloat16 that are not compiled
and keep everything: so the tolerance is what bfloat16 itself costs. SWIFT_GPU_TESTS_ON_CPU=1 runs the same lines on a CPU, on a model of a
few numbers and without compiling.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config, TrainerCallback

from swift.args.parse import parse
from swift.models.attention import use_varlen
from swift.models.layout import inner_model
from swift.objectives.policy import exchange_head
from swift.train.arguments import RECOMPUTE
from swift.train.memory import GIB, need
from swift.train.speed import Plan
from swift.tuners.tuner import apply_tuner
from tests.train.runs import logged, trainer

ON_CPU = bool(os.environ.get("SWIFT_GPU_TESTS_ON_CPU"))
# compiling warns of what could be faster still, in words of every release
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), *([] if ON_CPU else [pytest.mark.gpu])]
KINDS = ("none", "selective", "full", "offload")
TOKENS = 256 if ON_CPU else 8192
VOCABULARY = 300 if ON_CPU else 32000
SHAPE = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
if not ON_CPU:
    SHAPE = dict(hidden_size=2048, intermediate_size=5504, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=4)


def model(train_type: str, *, dropout: str = "0", dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """As `swift sft` has it in training, always with the same weights. LoRA's B is not 0, so that A has a gradient."""
    torch.manual_seed(0)
    with torch.device("cpu" if ON_CPU else "cuda"):
        config = Qwen2Config(**SHAPE, vocab_size=VOCABULARY, tie_word_embeddings=False, use_cache=False)
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    assert use_varlen(base)
    exchange_head(base)
    words = ["--model", "swift/nano", "--dataset", "swift/nano-chat", "--train_type", train_type, "--lora_dropout", dropout]
    tuned = apply_tuner(base, parse("sft", words))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.02)
    return tuned.to(dtype) if dtype == torch.float32 else tuned


def samples(shares: list[float], *, seed: int) -> list[dict[str, Any]]:
    """Samples of those shares of TOKENS; the first third of each is a prompt that is not learned."""
    random, made = np.random.default_rng(seed), []
    for share in shares:
        ids = random.integers(0, VOCABULARY, int(share * TOKENS))
        learned = np.arange(len(ids)) >= len(ids) // 3
        made.append({"input_ids": ids, "labels": np.where(learned, ids, -100), "weights": learned.astype(np.float32)})
    return made


class Watch(TrainerCallback):
    """The first step's gradients, in float32 on the CPU, and what attention is told of every micro-batch."""

    def __init__(self, model: nn.Module):
        self.gradients: dict[str, torch.Tensor] = {}
        self.told: list[tuple[int, int]] = []  # (the longest row as announced, the longest as it is)
        inner = inner_model(model)
        assert inner is not None
        inner.register_forward_pre_hook(self.look, with_kwargs=True)

    def look(self, _module: nn.Module, _args: Any, given: dict[str, Any]) -> None:
        self.told.append((int(given["max_length_q"]), int(given["cu_seq_lens_q"].diff().max())))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not self.gradients:
            self.gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}


class Ran(NamedTuple):
    gradients: dict[str, torch.Tensor]
    losses: list[float]
    peak: int  # bytes


def run(
    model: nn.Module, items: list, folder: Path, *, compiled: bool, recompute: str = "none", steps: int = 1, batch: int = 1, parts: int = 1
) -> Ran:
    """Steps through SwiftTrainer with what `swift sft` does to a model by its plan."""
    gc.collect()
    bf16 = next(model.parameters()).dtype == torch.bfloat16
    plan = Plan(compiled and not ON_CPU, recompute, TOKENS)  # type: ignore[arg-type]
    made = trainer(
        model, items, folder, use_cpu=ON_CPU, bf16=bf16, max_steps=steps, per_device_train_batch_size=batch, gradient_accumulation_steps=parts,
        max_grad_norm=0, learning_rate=1e-4, lr_scheduler_type="constant",
        **{RECOMPUTE: plan.whole_layers, f"{RECOMPUTE}_kwargs": {"use_reentrant": False}},
    )  # fmt: skip
    watch = Watch(model)
    made.add_callback(watch)
    plan.apply(model)
    if not ON_CPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with disable_input_dtype_casting(model, active=bf16):
        made.train()
    assert watch.told and all(announced >= longest for announced, longest in watch.told)  # rulings 27
    losses = logged(made, "loss")
    assert np.isfinite(losses).all(), losses
    return Ran(watch.gradients, losses, 0 if ON_CPU else torch.cuda.max_memory_reserved())


def against(gradients: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> tuple[float, float]:
    """(‖g - r‖ / ‖r‖, ⟨g, r⟩ / ⟨r, r⟩) over all weights: noise, and a wrong factor even where it is smaller than the noise."""
    assert gradients.keys() == reference.keys() and reference
    apart = square = product = 0.0
    for name, r in reference.items():
        g = gradients[name]
        apart += float((g - r).double().square().sum())
        square += float(r.double().square().sum())
        product += float((g.double() * r.double()).sum())
    return (apart / square) ** 0.5, product / square


def assert_as_near(ran: Ran, eager: Ran, reference: Ran, what: str) -> None:
    (noise, factor), (usual, usual_factor) = (against(made.gradients, reference.gradients) for made in (ran, eager))
    print(f"{what}: {noise:.4f} of the gradient's length from float32, factor {factor:.4f}; not compiled {usual:.4f}, {usual_factor:.4f}")
    assert usual < 0.2  # else this would say nothing
    assert noise < 1.5 * usual + 1e-3, what
    assert abs(factor - usual_factor) < 0.02, what


def fresh_code() -> None:
    """Forget compiled code: how much of the activations it keeps is decided where it is made, and is nothing it is looked up by."""
    torch._dynamo.reset()


@pytest.fixture(scope="module", params=["lora", "full"])
def roads(request, tmp_path_factory):
    """(train type, what a step on one full pack gives in float32, in bfloat16, and by each kind of recomputation on compiled layers)."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    pack = [samples([0.4, 0.3, 0.2, 0.05, 0.05], seed=0)]
    reference = run(model(kind, dtype=torch.float32), pack, folder / "float32", compiled=False, recompute="full")
    eager = run(model(kind), pack, folder / "eager", compiled=False)
    fresh_code()
    made = {}
    for recompute in ("none", "full", "offload", "selective"):  # the first three share their code
        if recompute == "selective":
            fresh_code()
        made[recompute] = run(model(kind), pack, folder / recompute, compiled=True, recompute=recompute, steps=3)
    fresh_code()
    return kind, reference, eager, made


@pytest.mark.parametrize("recompute", KINDS)
def test_what_is_computed_again_changes_no_gradient(roads, recompute):
    kind, reference, eager, made = roads
    assert_as_near(made[recompute], eager, reference, f"{kind}, {recompute}")


@pytest.mark.skipif(ON_CPU, reason="there is no GPU memory")
@pytest.mark.parametrize("recompute", KINDS)
def test_the_memory_model_is_within_a_fifth_of_the_peak(roads, recompute):
    kind, _, _, made = roads
    planned = need(model(kind), TOKENS, recompute=recompute, compiled=True)
    print(f"{kind}, {recompute}: planned {planned}, peak {made[recompute].peak / GIB:.2f} GiB")
    assert planned.total == pytest.approx(made[recompute].peak, rel=0.2)


SPLIT = [0.3, 0.02, 0.1, 0.15, 0.05, 0.2, 0.03, 0.15]  # rows so unequal that a mean of means would be another gradient


def test_how_a_step_is_cut_changes_no_gradient(tmp_path):
    """One micro-batch, eight, four of two, and two packs, on compiled layers."""
    rows = samples(SPLIT, seed=1)
    single = [[row] for row in rows]
    reference = run(model("lora", dtype=torch.float32), single, tmp_path / "float32", compiled=False, batch=8)
    eager = run(model("lora"), single, tmp_path / "eager", compiled=False, batch=8)
    fresh_code()
    for name, items, batch, parts in (
        ("whole", single, 8, 1),
        ("eight", single, 1, 8),
        ("four", single, 2, 4),
        ("packs", [rows[:3], rows[3:]], 1, 2),
    ):
        ran = run(model("lora"), items, tmp_path / name, compiled=True, batch=batch, parts=parts)
        assert_as_near(ran, eager, reference, name)
        assert ran.losses[0] == pytest.approx(reference.losses[0], rel=5e-3)


@pytest.mark.parametrize("dropout", ["0", "0.05"])
def test_twenty_steps_learn_what_uncompiled_layers_learn(dropout, tmp_path):
    """Five packs four times; with dropout the draws differ, so that losses agree as two draws do. `run` has seen that none is NaN."""
    items = [samples([0.2, 0.15, 0.1, 0.05], seed=seed) for seed in range(5)]
    fresh_code()
    eager, compiled = (
        run(model("lora", dropout=dropout), items, tmp_path / str(how), compiled=how, steps=20).losses for how in (False, True)
    )
    print(f"dropout {dropout}, losses not compiled and compiled:", *(f"{a:.4f}/{b:.4f}" for a, b in zip(eager, compiled, strict=True)))
    assert len(compiled) == 20
    assert np.mean(compiled[-5:]) < np.mean(compiled[:5])
    np.testing.assert_allclose(compiled, eager, rtol=0.01 if dropout == "0" else 0.02)

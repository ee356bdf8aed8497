"""What a log line and the end of a run say of speed: the operations against torch's own count, the time against what was slept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from swift.objectives.objective import lay_end_to_end
from swift.objectives.policy import Policy
from swift.objectives.sft import SFT
from swift.train.account import Account, Circumstances, hints, in_words
from swift.train.flops import StepFlops, measured_peak
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer

ARCHITECTURES = ["llama", "qwen2", "gemma2"]


def counted(model: Any, batch: Any) -> dict[str, int]:
    """torch's count of one forward and backward: operator -> FLOP."""
    with FlopCounterMode(display=False) as counter:
        SFT().loss(Policy(model), batch, metrics=False).sums["tokens"].backward()
    return {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}


def products(flops: dict[str, int]) -> int:
    return flops["aten.mm"] + flops.get("aten.addmm", 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_linear_layers_of_full_fine_tuning_are_counted_as_torch_counts_them(architecture: str) -> None:
    model, batch = prepared(tiny.model(architecture)), lay_end_to_end(rows(5))
    flops = StepFlops(model)
    head = flops.learned * len(batch["learned"])
    ours = flops.token * sum(batch["segment_lengths"]) + head
    again = products(counted(model, batch)) - ours  # logits that are computed a second time do not count
    assert again in (0, head / 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_linear_layers_under_lora_are_counted_as_torch_counts_them(architecture: str) -> None:
    model = get_peft_model(prepared(tiny.model(architecture)), LoraConfig(r=4, target_modules="all-linear"))
    batch, flops = lay_end_to_end(rows(5)), StepFlops(model)
    tokens = sum(batch["segment_lengths"])
    ours = flops.token * tokens + flops.learned * len(batch["learned"])
    first = [module for name, module in model.named_modules() if ".layers.0." in name and name.endswith(("k_proj", "v_proj"))]
    unneeded = sum(2 * tokens * (m.base_layer.weight.numel() + m.lora_A["default"].weight.numel()) for m in first)  # type: ignore[union-attr,operator,index]
    assert (
        ours - products(counted(model, batch)) == unneeded
    )  # the gradient of the first layer's input, which has something trained before it


def test_what_lies_before_the_first_trained_layer_costs_forward_alone() -> None:
    model = prepared(tiny.model())
    whole = StepFlops(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".layers.1." in name
    part, batch = StepFlops(model), lay_end_to_end(rows(5))
    assert part.pairs[None] == whole.pairs[None] * 4 / 6  # one layer forward, one forward and backward
    tokens = sum(batch["segment_lengths"])
    ours = part.token * tokens + part.learned * len(batch["learned"])
    # the norm before q is trained, but stands behind it in the module: the gradient of one product's input is left out
    assert products(counted(model, batch)) - ours == 2 * tokens * 32 * 32


def test_attention_is_counted_by_the_pairs_that_see_each_other() -> None:
    model, batch = prepared(tiny.model("gemma2")), lay_end_to_end(rows(6))
    flops, lengths = StepFlops(model), batch["segment_lengths"]
    assert counted(model, batch)["aten.bmm"] == sum(flops.pairs.values()) * sum(n * n for n in lengths)  # this road computes all pairs
    assert set(flops.pairs) == {16, None} and max(lengths) > 16
    seen = sum(cost * sum(min(at + 1, window or n) for n in lengths for at in range(n)) for window, cost in flops.pairs.items())
    assert flops(batch) == pytest.approx(flops.token * sum(lengths) + flops.learned * len(batch["learned"]) + seen)


def test_a_token_goes_through_the_experts_it_is_sent_to_only() -> None:
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=100)
    with torch.device("meta"):
        few, many = (
            AutoModelForCausalLM.from_config(Qwen3MoeConfig(**shape, num_experts=n, num_experts_per_tok=2, moe_intermediate_size=16))  # type: ignore[arg-type]
            for n in (4, 16)
        )
    routers = 6 * 2 * 32 * (16 - 4)
    assert StepFlops(many).token - StepFlops(few).token == routers


def test_every_log_line_tells_of_speed_and_what_stood_in_the_way(tmp_path: Path) -> None:
    made = trainer(
        prepared(tiny.model()),
        rows(8),
        tmp_path,
        per_device_train_batch_size=1,
        num_train_epochs=1,
        eval_rows=rows(2),
        eval_strategy="epoch",
    )
    made.train()
    lines = [json.loads(line) for line in (tmp_path / "logging.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 8
    for line in steps:
        assert line["tokens/s"] > 0 and line["padding_share"] == 0 and 0 <= line["data_wait_share"] < 1 and line["memory(GiB)"] == 0
        assert "matrix_peak_share" not in line  # no peak was measured on a CPU


def test_the_share_of_the_peak_is_that_of_the_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swift.train.trainer.measured_peak", lambda dtype, device: 1e9)
    data = [rows(1)[0]] * 6
    made = trainer(prepared(tiny.model()), data, tmp_path, per_device_train_batch_size=1, num_train_epochs=1)
    made.train()
    batch = lay_end_to_end(data[:1])
    for speed, share in zip(logged(made, "tokens/s"), logged(made, "matrix_peak_share"), strict=True):
        assert share == pytest.approx(speed * made.flops(batch) / sum(batch["segment_lengths"]) / 1e9, rel=1e-2)
    took = made.account.took(made.over_ranks)
    assert 0 < took["matrix_peak_share"] < 1 and "of the GPU's matrix peak" in in_words(took, Circumstances())


def test_evaluation_and_saving_are_left_out_of_the_speed_and_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(4)
    made = trainer(
        prepared(tiny.model()), data, tmp_path, per_device_train_batch_size=1, num_train_epochs=1, eval_rows=rows(1), eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2,
    )  # fmt: skip
    look, write = made.prediction_step, made._save_optimizer_and_scheduler
    monkeypatch.setattr(made, "prediction_step", lambda *args, **more: (time.sleep(0.5), look(*args, **more))[1])
    monkeypatch.setattr(made, "_save_optimizer_and_scheduler", lambda *args: (time.sleep(0.3), write(*args))[1])
    made.train()
    after = logged(made, "tokens/s")[2]  # its interval began before both
    assert after > len(data[2][0]["input_ids"]) / 0.8
    took = made.account.took(made.over_ranks)
    assert took["evaluation_share"] * took["seconds"] >= 0.99 and took["saving_share"] * took["seconds"] >= 0.59
    shares = [took[f"{name}_share"] for name in ("computing", "data_wait", "saving", "evaluation", "first_step")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert "evaluation" in in_words(took, Circumstances()) and "saving" in in_words(took, Circumstances())


class Slow:
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> list:
        time.sleep(0.15)
        return self.items[index]


def test_rows_that_come_slowly_are_found_out(tmp_path: Path) -> None:
    made = trainer(prepared(tiny.model()), Slow(rows(6)), tmp_path, per_device_train_batch_size=1, num_train_epochs=1)
    made.train()
    waited = logged(made, "data_wait_share")
    assert all(share > 0.5 for share in waited[:-1]) and waited[-1] < 0.5  # a row is fetched ahead: for the last one nobody waits
    took = made.account.took(made.over_ranks)
    assert took["data_wait_share"] > 0.3
    (said,) = hints(took, Circumstances(workers=0))
    assert "waiting for rows: raise --dataloader_num_workers (now 0)" in said


def test_a_run_of_one_step_is_its_first_step(tmp_path: Path) -> None:
    made = trainer(prepared(tiny.model()), rows(4), tmp_path, max_steps=1)
    made.train()
    took = made.account.took(made.over_ranks)
    assert took["first_step_share"] == pytest.approx(1, abs=0.01) and "tokens/s" not in took
    assert in_words(took, Circumstances()).startswith("what took the time (")


USUAL = {
    "seconds": 400.0, "first_step_seconds": 48.0, "computing_share": 0.80, "data_wait_share": 0.05, "saving_share": 0.02,
    "evaluation_share": 0.01, "first_step_share": 0.12, "tokens/s": 16720.4, "matrix_peak_share": 0.62, "padding_share": 0.0,
    "tokens_per_micro_batch": 8192,
}  # fmt: skip


def test_the_end_says_numbers_first() -> None:
    assert in_words(USUAL, Circumstances(compiled=True)) == (
        "what took the time (400 s): 80 % computing (62 % of the GPU's matrix peak), 5 % waiting for rows, 2 % saving, 1 % evaluation, "
        "12 % the first step (48 s, compiling); 16,720 tokens/s after the first step"
    )
    assert hints(USUAL, Circumstances(compiled=True)) == []


@pytest.mark.parametrize(
    ("found", "how", "flag"),
    [
        ({"data_wait_share": 0.2}, Circumstances(workers=2), "--dataloader_num_workers (now 2)"),
        ({"padding_share": 0.2}, Circumstances(), "20 % of what was computed"),
        ({"matrix_peak_share": 0.2, "tokens_per_micro_batch": 900}, Circumstances(), "900 tokens a micro-batch"),
        ({}, Circumstances(short_of_memory=True), "--quant_bits"),
        ({"first_step_share": 0.5}, Circumstances(compiled=True), "--torch_compile false"),
    ],
)
def test_what_stands_out_comes_with_what_to_do(found: dict, how: Circumstances, flag: str) -> None:
    (said,) = hints(USUAL | found, how)
    assert flag in said


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_measured_twice_alike_and_leaves_random_numbers_alone() -> None:
    device, before = torch.device("cuda", 0), torch.cuda.get_rng_state()
    first, second = (measured_peak(torch.bfloat16, device) for _ in range(2))
    assert first is not None and second is not None and first == pytest.approx(second, rel=0.2) and first > 1e13
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_no_peak_is_measured_on_a_cpu() -> None:
    assert measured_peak(torch.float32, torch.device("cpu")) is None


@pytest.mark.gpu
def test_a_wait_behind_which_the_gpu_works_is_none() -> None:
    account = Account(torch.device("cuda", 0))
    big = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    for _ in range(200):
        big @ big
    with account.waiting():
        time.sleep(0.01)
    assert account.spent["waiting"] == 0
    torch.cuda.synchronize()
    with account.waiting():
        time.sleep(0.01)
    assert account.spent["waiting"] >= 0.01

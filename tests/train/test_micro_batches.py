"""Rows of a step regrouped by tokens: the same rows make the same steps, with the same gradients, whatever the micro-batches are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import DistributedType
from safetensors.torch import load_file
from torch.utils.data import IterableDataset

from swift.args.commands import SftCommand
from swift.args.parse import parse
from swift.errors import UsageError
from swift.objectives.sft import SFT
from swift.train.micro_batches import ENOUGH, MOST, CollateStep, Sizes, Split, balanced, micro_batches, plan_split
from swift.train.order import CountedStream
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer

NAMES = ("loss", "grad_norm", "learning_rate", "token_acc")


class Stream(IterableDataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from self.items


def same(first: Any, second: Any) -> None:
    assert first.state.global_step == second.state.global_step == first.state.max_steps
    for name in NAMES:
        np.testing.assert_allclose(logged(second, name), logged(first, name), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_groups_hold_every_row_once_within_the_limit_and_are_about_equal(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths, limit = random.integers(1, 300, random.integers(1, 40)).tolist(), int(random.integers(100, 1000))
    groups = balanced(lengths, limit)
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    sizes = [sum(lengths[number] for number in group) for group in groups]
    assert all(size <= limit or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    least = max(-(-sum(min(length, limit) for length in lengths) // limit), 1)
    assert len(groups) <= 11 / 9 * least + 1
    assert groups == balanced(lengths, limit)


def test_groups_are_evened_out() -> None:
    assert sorted(sum([10, 10, 10, 10, 10][n] for n in group) for group in balanced([10] * 5, 40)) == [20, 30]  # not 40 and 10
    assert balanced([], 10) == [] and balanced([50, 60], 10) == [[0], [1]]


def test_a_step_is_collated_into_micro_batches_and_one_without_rows_into_one_that_teaches_nothing() -> None:
    collate, items = CollateStep(SFT().collate, 40), rows(9)
    step = collate([*items, [], []])
    parts = micro_batches(step)
    assert len(parts) > 1 and all(part["input_ids"].shape[1] <= 40 for part in parts)
    assert step["input_ids"].numel() == sum(len(item[0]["input_ids"]) for item in items)
    (nothing,) = micro_batches(collate([[], []]))
    assert nothing["empty"]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("source", ["rows", "stream", "counted"])
@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (2, 2)])
def test_regrouped_steps_are_those_as_given(shape: tuple[int, int], source: str, drop_last: bool, tmp_path: Path) -> None:
    """13 rows and steps of 4: the last step of an epoch is short, or left out where so much is missing that a batch is."""
    model, items, (batch, accumulation) = tiny.model(), rows(13, weighted=True), shape
    ends: dict = dict(max_steps=7) if source == "stream" else dict(num_train_epochs=2)
    settings: dict = (
        dict(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, dataloader_drop_last=drop_last) | ends
    )
    settings |= dict(learning_rate=1e-3)  # Adam makes rounding errors grow with it, step by step
    if source == "rows":
        settings |= dict(train_sampling_strategy="random")

    def made(tokens: int) -> Any:
        taken: Any = {"rows": items, "stream": Stream(items), "counted": CountedStream(Stream(items), 13)}[source]
        one = trainer(prepared(model), taken, tmp_path / str(tokens), micro_batch_tokens=tokens, **settings)
        one.train()
        return one

    given = made(0)
    for tokens in (1, 30, 10_000):
        found = made(tokens)
        same(given, found)
        assert found.account.work.tokens == given.account.work.tokens
        if tokens == 10_000:
            assert found.account.work.micro_batches == found.state.global_step


def test_the_same_rows_make_each_step_in_the_same_order(tmp_path: Path) -> None:
    items, settings = rows(22), dict[str, Any](per_device_train_batch_size=2, gradient_accumulation_steps=3, num_train_epochs=2, seed=4)

    def steps(tokens: int) -> list[list[tuple[int, ...]]]:
        made, seen = (
            trainer(prepared(tiny.model()), items, tmp_path, micro_batch_tokens=tokens, train_sampling_strategy="random", **settings),
            [],
        )
        take = made.get_batch_samples

        def watched(*args: Any) -> Any:
            batches, counts = take(*args)
            parts = [part for batch in batches for part in micro_batches(batch)]
            pieces = [piece for part in parts if not part["empty"] for piece in part["input_ids"][0].split(part["segment_lengths"])]
            seen.append(sorted(tuple(piece.tolist()) for piece in pieces))
            return batches, counts

        made.get_batch_samples = watched  # type: ignore[method-assign]
        made.train()
        return seen

    assert steps(40) == steps(0) and len(steps(0)) == 8


@pytest.mark.parametrize("before_and_after", [(0, 35), (35, 0), (35, 200)])
@pytest.mark.parametrize("stop_at", [2, 4, 5])  # within an epoch, at its end, in the next
@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_may_go_on_with_other_micro_batches(before_and_after: tuple[int, int], stop_at: int, streamed: bool, tmp_path: Path) -> None:
    model, items = tiny.model(), rows(14)
    settings: dict = dict(
        per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=7, save_strategy="steps", save_steps=stop_at
    )
    settings |= dict(train_sampling_strategy="random")
    before, after = before_and_after

    def source() -> Any:
        return CountedStream(Stream(items), 14) if streamed else items

    whole = trainer(prepared(model), source(), tmp_path / "whole", micro_batch_tokens=before, **settings)
    whole.train()
    halfway = tmp_path / "whole" / f"checkpoint-{stop_at}"
    settings["save_steps"] = 7
    rest = trainer(prepared(type(model).from_pretrained(halfway)), source(), tmp_path / "rest", micro_batch_tokens=after, **settings)
    rest.train(resume_from_checkpoint=str(halfway))
    assert rest.state.global_step == 7
    for name in NAMES:
        np.testing.assert_allclose(logged(rest, name), logged(whole, name), rtol=2e-5, err_msg=name)


def test_a_regrouped_run_that_stopped_ends_with_the_very_bits(tmp_path: Path) -> None:
    model, items = tiny.model(), rows(14)
    settings: dict = dict(per_device_train_batch_size=1, gradient_accumulation_steps=4, max_steps=6, save_strategy="steps", save_steps=3)
    settings |= dict(train_sampling_strategy="random", micro_batch_tokens=35)
    trainer(prepared(model), items, tmp_path / "whole", **settings).train()
    halfway = tmp_path / "whole" / "checkpoint-3"
    again = trainer(prepared(type(model).from_pretrained(halfway)), items, tmp_path / "again", **settings)
    again.train(resume_from_checkpoint=str(halfway))
    expected, found = (load_file(tmp_path / run / "checkpoint-6" / "model.safetensors") for run in ("whole", "again"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("tokens", [0, 40])
def test_tokens_seen_and_other_processes_that_read(tokens: int, tmp_path: Path) -> None:
    """What transformers itself counts stays right, and a DataLoader's process makes the micro-batches as well."""
    items = rows(8)
    made = trainer(
        prepared(tiny.model()), items, tmp_path, micro_batch_tokens=tokens, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        num_train_epochs=1, include_num_input_tokens_seen="all", dataloader_num_workers=1,
    )  # fmt: skip
    made.train()
    assert made.state.num_input_tokens_seen == sum(len(item[0]["input_ids"]) for item in items)
    assert made.state.total_flos == pytest.approx(made.account.work.flops)


def test_batches_of_one_row_and_evaluation_stay_as_they_are(tmp_path: Path) -> None:
    model, items, found = tiny.model(), rows(5), []
    for tokens in (0, 1000):
        made = trainer(
            prepared(model), items, tmp_path / str(tokens), eval_rows=rows(5, seed=3), micro_batch_tokens=tokens, num_train_epochs=1,
            per_device_train_batch_size=1, eval_strategy="epoch",
        )  # fmt: skip
        made.train()
        found.append([logged(made, "loss"), [entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry]])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


TWO_RANKS = """
import json, sys
from pathlib import Path
from accelerate import PartialState
PartialState(cpu=True)
from swift import dist
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer
out, found = Path(sys.argv[1]), {}
for tokens, even in ((0, False), (30, False), (30, True), (10000, False)):
    made = trainer(prepared(tiny.model()), rows(13), out / f"{tokens}{even}", micro_batch_tokens=tokens, per_device_train_batch_size=1,
                   gradient_accumulation_steps=3, num_train_epochs=2)
    made.even_steps = even
    made.train()
    parts = dist.gather(made.account.work.micro_batches)
    found[f"{tokens} {even}"] = [logged(made, "loss"), logged(made, "grad_norm"), logged(made, "token_acc"), parts]
if made.is_world_process_zero():
    (out / "found.json").write_text(json.dumps(found))
dist.close()
"""


@pytest.mark.slow
def test_two_ranks_with_other_numbers_of_micro_batches_learn_what_one_learns(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_RANKS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29633", str(script), str(tmp_path)]
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    alone = trainer(prepared(tiny.model()), rows(13), tmp_path / "one", per_device_train_batch_size=6, num_train_epochs=2)
    alone.train()
    for values in found.values():
        for mine, name in zip(values, ("loss", "grad_norm", "token_acc"), strict=False):
            np.testing.assert_allclose(mine, logged(alone, name), rtol=1e-5)
    apart, even = found["30 False"][3], found["30 True"][3]
    assert apart[0] != apart[1] and even[0] == even[1] >= max(apart)


def asked(words: list[str]) -> Split:
    args = parse("sft", ["--model", "swift/nano", "--dataset", "swift/nano-chat", *words])
    assert isinstance(args, SftCommand)
    return plan_split(args, lambda number: 1000 * number)


def test_unset_is_off_without_a_gpu_and_automatic_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "50"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert asked(words) == Split(0, Sizes(1000, 2000, 100_000))
    assert asked([*words, "--micro_batch_tokens", "500"]).asked == 500
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert asked(words).asked is None and asked([*words, "--micro_batch_tokens", "0"]).asked == 0
    assert asked([]).asked == 0  # one row makes a step: there is nothing to regroup


def test_under_deepspeed_rows_are_not_regrouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("swift.train.micro_batches.dist.is_distributed", lambda: True)
    monkeypatch.setattr("swift.train.micro_batches.PartialState", lambda: SimpleNamespace(distributed_type=DistributedType.DEEPSPEED))
    assert asked(["--per_device_train_batch_size", "4"]).asked == 0
    with pytest.raises(UsageError, match="--micro_batch_tokens 500: DeepSpeed counts micro-batches itself"):
        asked(["--micro_batch_tokens", "500"])


def test_what_fits_is_found_between_the_longest_row_and_what_is_enough() -> None:
    automatic = Split(None, Sizes(row=1000, given=2000, step=100_000))
    assert automatic.planned() == ENOUGH
    assert automatic.limit(lambda tokens: True) == MOST
    assert 8000 - 1024 < automatic.limit(lambda tokens: tokens <= 8000) <= 8000
    assert automatic.limit(lambda tokens: False) == 1000  # the longest row must be computed anyway
    assert Split(None, Sizes(row=50_000, given=50_000, step=100_000)).limit(lambda tokens: True) == 50_000
    assert Split(None, Sizes(row=500, given=500, step=2000)).planned() == 2000  # no more than a step holds
    number = Split(3000, Sizes(row=1000, given=2000, step=100_000))
    assert number.planned() == number.limit(lambda tokens: False) == number.largest(3000) == 3000
    off = Split(0, Sizes(row=1000, given=2000, step=100_000))
    assert off.planned() == off.largest(0) == 2000

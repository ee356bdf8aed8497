"""A run that stops and goes on from a checkpoint ends with the very bits of a run that never stopped."""

import os
import signal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.utils.data import IterableDataset

from swift.data.packing import PackedRows, PackedStream
from swift.errors import ModelError, SwiftError
from swift.train import checkpoint
from swift.tuners.adapters import load_adapter
from tests import tiny
from tests.train.runs import prepared, rows, trainer


class Listed:
    """Rows as `encode_rows` gives them."""

    def __init__(self, items):
        import numpy as np

        self.items, self.lengths = items, np.array([len(item[0]["input_ids"]) for item in items])

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        yield from self.items


SOURCES = {
    "plain": lambda items: Listed(items),
    "packed": lambda items: PackedRows(Listed(items), 48),
    "streaming": lambda items: Stream(items),
    "streaming packed": lambda items: PackedStream(Stream(items), 48, buffer=8),
}


def lora(model, from_checkpoint=None):
    if from_checkpoint is not None:
        return load_adapter(prepared(model), from_checkpoint, trainable=True)
    torch.manual_seed(1)
    return get_peft_model(prepared(model), LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear", task_type="CAUSAL_LM"))


def full(model, from_checkpoint=None):
    if from_checkpoint is not None:
        model = type(model).from_pretrained(from_checkpoint)
    return prepared(model)


METHODS = {"lora": (lora, "adapter_model.safetensors"), "full": (full, "model.safetensors")}


@pytest.mark.parametrize("stop_at", [3, 8, 11])  # within the first epoch, at its end, within the second (the map-style sources)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("method", METHODS)
def test_resumed_is_bit_identical_to_uninterrupted(method, source, stop_at, tmp_path):
    make, weights = METHODS[method]
    model, items = tiny.model(), rows(16)
    settings = dict(
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        max_steps=13,
        save_strategy="steps",
        train_sampling_strategy="random",
        seed=5,
    )
    torch.manual_seed(2)
    trainer(make(model), SOURCES[source](items), tmp_path / "whole", save_steps=stop_at, **settings).train()
    torch.manual_seed(3)  # another state of the world: everything must come from the checkpoint
    halfway = tmp_path / "whole" / f"checkpoint-{stop_at}"
    again = trainer(make(model, halfway), SOURCES[source](items), tmp_path / "again", save_steps=13, **settings)
    again.train(resume_from_checkpoint=str(halfway))
    expected, found = (load_file(tmp_path / run / "checkpoint-13" / weights) for run in ("whole", "again"))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    before = load_file(halfway / weights)
    assert any(not torch.equal(before[name], found[name]) for name in found)


def test_old_checkpoints_go_and_the_best_stays(tmp_path):
    made = trainer(
        prepared(tiny.model()), rows(8), tmp_path, eval_rows=rows(4, seed=9), keep=2, max_steps=6, save_strategy="steps", save_steps=1,
        eval_strategy="steps", eval_steps=1, metric_for_best_model="loss", greater_is_better=False, seed=1,  # rows of noise: the first step is the best one
    )  # fmt: skip
    made.train()
    kept = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert kept[-1] == "checkpoint-6" and len(kept) == 2
    assert made.state.best_model_checkpoint is not None and made.state.best_model_checkpoint.endswith(kept[0])


def test_a_checkpoint_that_cannot_be_written_leaves_no_trace_and_the_earlier_ones(tmp_path, monkeypatch):
    made = trainer(prepared(tiny.model()), rows(8), tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    real = made._save_optimizer_and_scheduler

    def full_disk(folder):
        if "-4" in str(folder):
            raise OSError(28, "No space left on device")
        real(folder)

    monkeypatch.setattr(made, "_save_optimizer_and_scheduler", full_disk)
    with pytest.raises(SwiftError, match=r"checkpoint 4 could not be written.*No space left.*checkpoint-2"):
        made.train()
    assert [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name or "saving" in path.name] == ["checkpoint-2"]
    checkpoint.judge(tmp_path / "checkpoint-2", only_model=False)


def test_a_signal_ends_the_run_with_a_checkpoint_one_can_go_on_from(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    made = trainer(prepared(tiny.model()), rows(8), tmp_path, max_steps=50, save_strategy="steps", save_steps=1000)
    step = made.compute_loss

    def with_signal(*args, **kwargs):
        if made.state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args, **kwargs)

    made.compute_loss = with_signal
    made.train()
    assert made.state.global_step == 4
    checkpoint.judge(tmp_path / "checkpoint-4", only_model=False)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_no_checkpoint_is_refused_with_the_reason(tmp_path):
    made = trainer(prepared(tiny.model()), rows(8), tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=2)
    made.train()
    whole = tmp_path / "run" / "checkpoint-2"
    checkpoint.judge(whole, only_model=False)
    with pytest.raises(ModelError, match="no such folder"):
        checkpoint.judge(tmp_path / "nowhere", only_model=False)
    with pytest.raises(ModelError, match=r"no checkpoint: it has no weights. It holds checkpoint-2"):
        checkpoint.judge(tmp_path / "run", only_model=False)
    weights = whole / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ModelError, match="cut short"):
        checkpoint.judge(whole, only_model=False)
    weights.write_bytes(content)
    (whole / "optimizer.pt").unlink()
    with pytest.raises(ModelError, match=r"optimizer.pt missing.*--resume_only_model"):
        checkpoint.judge(whole, only_model=False)
    checkpoint.judge(whole, only_model=True)

"""20 steps of ours and of plain transformers + PEFT, float32, same rows: the same losses and gradient norms."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer

LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


class Plain(Trainer):
    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def padded(items):
    """What everybody does: rows padded to the longest, with an attention mask."""
    samples = [item[0] for item in items]
    longest = max(len(sample["input_ids"]) for sample in samples)

    def pad(name, value):
        return torch.tensor(np.stack([np.pad(s[name], (0, longest - len(s[name])), constant_values=value) for s in samples]))

    mask = torch.tensor([[1] * len(s["input_ids"]) + [0] * (longest - len(s["input_ids"])) for s in samples])
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": mask}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_losses_and_gradient_norms_equal_plain_transformers(architecture, method, tmp_path):
    model, data = tiny.model(architecture), rows(80)
    ours, theirs = prepared(model), copy.deepcopy(model)
    if method == "lora":
        torch.manual_seed(1)
        ours = get_peft_model(ours, LoraConfig(**LORA))
        torch.manual_seed(1)
        theirs = get_peft_model(theirs, LoraConfig(**LORA))
    settings = dict(learning_rate=1e-3, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=20)
    mine = trainer(ours, data, tmp_path / "ours", **settings)
    mine.train()
    fields = dict(
        output_dir=str(tmp_path),
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
    )
    other = Plain(theirs, TrainingArguments(**fields, **settings), data_collator=padded, train_dataset=data)
    other.train()
    for name in ("loss", "grad_norm"):
        expected = [entry[name] for entry in other.state.log_history if "loss" in entry]
        assert len(expected) == 20
        np.testing.assert_allclose(logged(mine, name), expected, rtol=1e-5)
    for (key, mine_value), (_, their_value) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        torch.testing.assert_close(mine_value, their_value, rtol=1e-4, atol=1e-5, msg=key)

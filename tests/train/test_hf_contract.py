"""What SwiftTrainer overrides of transformers' Trainer, with the signatures it relies on: an upgrade that moves one fails here."""

import inspect

import pytest
from transformers import Trainer

from swift.train.trainer import SwiftTrainer

OVERRIDES = {
    "get_train_dataloader": [],
    "get_batch_samples": ["epoch_iterator", "num_batches", "device"],
    "floating_point_ops": ["inputs"],
    "training_step": ["model", "inputs", "num_items_in_batch"],
    "compute_loss": ["model", "inputs", "return_outputs", "num_items_in_batch"],
    "prediction_step": ["model", "inputs", "prediction_loss_only", "ignore_keys"],
    "evaluation_loop": ["dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix"],
    "log": ["logs", "start_time"],
    "_get_train_sampler": ["train_dataset"],
    "_get_eval_sampler": ["eval_dataset"],
    "_save_checkpoint": ["model", "trial"],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_get_output_dir": ["trial"],
    "_save": ["output_dir", "state_dict"],
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_transformers_still_has_the_method_we_override(name):
    assert list(inspect.signature(getattr(Trainer, name)).parameters)[1:] == OVERRIDES[name]


def test_nothing_else_is_overridden():
    own = {name for name in vars(SwiftTrainer) if callable(getattr(SwiftTrainer, name)) and hasattr(Trainer, name) and name != "__init__"}
    own = {name for name in own if getattr(SwiftTrainer, name) is not getattr(Trainer, name) and not name.startswith("__")}
    assert own == set(OVERRIDES)

"""What transformers, an optimizer or a scheduler would refuse: found once the model is there, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel, Seq2SeqTrainingArguments, Trainer, get_scheduler

from swift.errors import UsageError
from swift.train.arguments import trainer_arguments

if TYPE_CHECKING:
    from swift.args.commands import SftCommand


def checked_arguments(
    args: SftCommand, folder: Path, model: nn.Module, *, dtype: torch.dtype, evaluate: bool, recompute: bool
) -> Seq2SeqTrainingArguments:
    """The Trainer's arguments, tried on an optimizer and a scheduler for one small tensor. Raises UsageError where one refuses them."""
    try:
        told = trainer_arguments(args, folder, dtype=dtype, evaluate=evaluate, recompute=recompute)
        kind, options = Trainer.get_optimizer_cls_and_kwargs(told, model if isinstance(model, PreTrainedModel) else None)
        if not {"params", "model", "optimizer_dict"} & set(options):  # those want the model's own parameters
            optimizer = kind([nn.Parameter(torch.zeros(2, 2))], **options)
            get_scheduler(
                told.lr_scheduler_type,
                optimizer,
                num_warmup_steps=1,
                num_training_steps=10,
                scheduler_specific_kwargs=args.trainer.lr_scheduler_kwargs,
            )
    except (ValueError, TypeError, ImportError, RuntimeError, KeyError) as wrong:
        said = " ".join(str(wrong).split()) or type(wrong).__name__
        raise UsageError(f"the training arguments cannot be used: {said}") from wrong
    return told


def check_metric(args: SftCommand, measured: Sequence[str]) -> None:
    """Whether evaluation gives what the best checkpoint is chosen by: the loss, or one of the `measured`."""
    asked = args.trainer.metric_for_best_model or "loss"
    known = ("loss", *measured)
    if asked.removeprefix("eval_") not in known:
        raise UsageError(f"--metric_for_best_model {asked}: evaluation gives {' and '.join(known)}")

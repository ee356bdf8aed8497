"""Runs of SwiftTrainer on rows made of numbers: no tokenizer, no template, seconds on a CPU."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from torch import nn
from transformers import PreTrainedModel, PrinterCallback, Seq2SeqTrainingArguments

from swift.models.attention import use_varlen
from swift.objectives.objective import Example
from swift.objectives.policy import exchange_head
from swift.objectives.sft import SFT
from swift.train.callbacks import RunLog, StopOnSignal
from swift.train.trainer import Rows, SwiftTrainer


class NoTemplate:
    def save(self, folder: Path) -> None: ...


def rows(number: int, *, vocab: int = 400, seed: int = 0, longest: int = 24, weighted: bool = False) -> list[list[Example]]:
    """Items of one sample each; the first third of every sample is a prompt that is not learned."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        length = int(random.integers(5, longest))
        ids = random.integers(0, vocab, length)
        labels = np.where(np.arange(length) < length // 3, -100, ids)
        weights = (labels != -100) * (random.choice([0.5, 1, 2], length) if weighted else 1.0)
        made.append([{"input_ids": ids, "labels": labels, "weights": weights.astype(np.float32)}])
    return made


def trainer(
    model: nn.Module,
    train_rows: Rows,
    folder: Path,
    *,
    eval_rows: list | None = None,
    keep: int | None = None,
    objective: SFT | None = None,
    micro_batch_tokens: int = 0,
    **changes: object,
) -> SwiftTrainer:
    """A SwiftTrainer that logs every step, in order unless told otherwise."""
    fields: dict = dict(
        output_dir=str(folder), logging_steps=1, report_to=[], learning_rate=1e-2, use_cpu=True, save_strategy="no", disable_tqdm=True,
        accelerator_config={"dispatch_batches": False}, remove_unused_columns=False, use_cache=True, dataloader_pin_memory=False,
        lr_scheduler_type="cosine", weight_decay=0.1, train_sampling_strategy="sequential", logging_nan_inf_filter=False,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    args = Seq2SeqTrainingArguments(**(fields | changes))
    made = SwiftTrainer(
        model, args, objective or SFT(), NoTemplate(), train_rows=train_rows, eval_rows=eval_rows, save_total_limit=keep,
        callbacks=[RunLog(folder / "logging.jsonl"), StopOnSignal()], args_json=folder / "args.json",
        micro_batch_tokens=micro_batch_tokens,
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made


def prepared(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` as training has it: variable-length attention and the output layer that answers log-probabilities."""
    model = copy.deepcopy(model)
    assert use_varlen(model)
    exchange_head(model)
    return model


def logged(made: SwiftTrainer, name: str) -> list[float]:
    return [entry[name] for entry in made.state.log_history if name in entry and "loss" in entry]

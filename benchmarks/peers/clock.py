"""For peers that are called from Python: a callback that notes each log line, at which the loss has just been waited for."""

from __future__ import annotations

import time
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from benchmarks.peers.job import Job, Line, answer, why


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.lines.append(Line(time.time(), state.global_step, float(logs["loss"]), seen=int(state.num_input_tokens_seen)))


def run_trainer(peer: str, job: Job, trainer: Trainer, clock: Clock) -> None:
    """Train and answer."""
    error = None
    try:
        trainer.train()
    except Exception as wrong:
        error = why(wrong)
    answer(peer, job, clock.lines, error)


def trainer_options(job: Job, *, gpu: bool) -> dict[str, Any]:
    """Fields of transformers' TrainingArguments that TRL and Unsloth are both given."""
    found: dict[str, Any] = dict(
        output_dir=job.output, max_steps=job.steps, learning_rate=1e-4 if job.train_type == "lora" else 1e-5, logging_steps=job.every,
        logging_first_step=True, logging_nan_inf_filter=False, save_strategy="no", report_to=[], bf16=gpu, use_cpu=not gpu,
        per_device_train_batch_size=job.batch, gradient_accumulation_steps=1, include_num_input_tokens_seen="non_padding",
        dataset_num_proc=4, disable_tqdm=True, max_length=job.tokens,
    )  # fmt: skip
    if job.fastest:
        found |= dict(packing=True, per_device_train_batch_size=1)
    return found

"""What happens beside the loop: logging.jsonl, the progress line, and stopping cleanly on Ctrl-C or SIGTERM."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from swift import dist, logs


def spoken_time(seconds: float) -> str:
    """`1d 2h 3m 4s` without leading zero units."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    parts = [(d, "d"), (h, "h"), (m, "m"), (s, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{n}{unit}" for n, unit in parts)


UNSPOKEN = ("percentage", "train_speed(iter/s)", "total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")
UNSPOKEN += ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")  # in logging.jsonl, too much for a line
ALWAYS = ("padding_share", "data_wait_share", "memory(GiB)")  # said where they are 0 too


class RunLog(TrainerCallback):
    """Each log event as one line of logging.jsonl and one line for people; a progress bar where stderr is a terminal."""

    def __init__(self, path: Path):
        self.path = path
        self.started, self.first_step = time.perf_counter(), 0
        self.bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step = time.perf_counter(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="Train", dynamic_ncols=True, file=sys.stderr)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None:
            return
        record = self.record(state, logs)
        self.write(record)
        said = {name: value for name, value in record.items() if name not in UNSPOKEN and (value != 0 or name in ALWAYS)}
        line = ", ".join(f"{name} {_short(value)}" for name, value in said.items())
        if self.bar is None:
            logs_info(line)
        else:
            self.bar.set_postfix_str(" ".join(f"{k} {_short(record[k])}" for k in ("loss", "tokens/s", "matrix_peak_share") if k in record))
            self.bar.write(line, file=sys.stderr)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def record(self, state: TrainerState, values: dict[str, Any]) -> dict[str, Any]:
        elapsed = time.perf_counter() - self.started
        steps = state.global_step - self.first_step
        record = {name: round(value, 8) if isinstance(value, float) else value for name, value in values.items()}
        epoch = record.pop("epoch", None)
        if "loss" in record:
            record["train_speed(iter/s)"] = round(steps / elapsed, 6)
        if epoch is not None:
            record["epoch"] = epoch
        left = elapsed / max(steps, 1) * (state.max_steps - state.global_step)
        return record | {
            "global_step/max_steps": f"{state.global_step}/{state.max_steps}",
            "percentage": f"{100 * state.global_step / max(state.max_steps, 1):.2f}%",
            "elapsed_time": spoken_time(elapsed),
            "remaining_time": spoken_time(left),
        }

    def write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


logs_info = logs.info  # `logs` is transformers' name for the values of a log event


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM: finish the step, save a checkpoint, stop. A second Ctrl-C stops at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[int, Any] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore()

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _receive(self, number: int, _frame: Any) -> None:
        if self.received is not None:
            self.restore()
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        logs.warning(f"{self.received.name}: finishing this step, then saving a checkpoint (once more stops at once)")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._on_any_rank(args, state):
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"

    def _on_any_rank(self, args: TrainingArguments, state: TrainerState) -> bool:
        """All ranks must stop at the same step. On GPUs they ask each other only at log lines: asking waits for the device."""
        if not dist.is_distributed():
            return self.received is not None
        if torch.cuda.is_available() and state.global_step % max(int(args.logging_steps), 1):
            return False
        flag = torch.tensor(float(self.received is not None), device=args.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

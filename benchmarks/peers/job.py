"""What a runner is told, and what it answers: times of log lines, from which speed is taken, peak memory, losses.

Standard library only until a run has ended: it is imported before a peer's own packages are.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import runpy
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "measured: "  # before the JSON, in a line of its own among what a trainer prints
PACKAGES = ("torch", "transformers", "peft", "trl", "unsloth", "ms-swift", "llamafactory", "liger-kernel", "flash-attn", "bitsandbytes")


@dataclass(frozen=True)
class Job:
    model: str  # folder
    rows: str  # a jsonl file of conversations
    output: str  # folder
    started: float  # time.time() at which the command was started
    steps: int
    warm: int  # the steady part begins after this step
    every: int  # steps between log lines; divides warm and steps
    tokens: int  # of a packed row, which is a step; the longest row where rows are not packed
    mean: float  # tokens of a row
    batch: int = 8  # rows of a step that is not packed
    train_type: str = "lora"
    fastest: bool = False  # packed rows and every fused kernel the peer has, instead of what it does when it is told nothing
    recompute: bool | None = None  # activation checkpointing; None leaves the peer's default
    flags: list[str] = field(default_factory=list)  # ours alone: the words after `swift sft`

    @classmethod
    def told(cls) -> Job:
        return cls(**json.loads(sys.argv[1]))

    def words(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclass
class Line:
    """A log line: when it was there, how many optimizer steps were done, and what it says."""

    at: float
    step: int
    loss: float | None = None
    seen: int = 0  # tokens of rows so far, padding not counted; 0 where the trainer does not say
    rate: float = 0.0  # tokens a second since the line before, padding not counted


def answer(peer: str, job: Job, lines: Sequence[Line], error: str | None = None) -> None:
    """Print what was measured, also of a run that broke off."""
    found: dict[str, Any] = {"peer": peer, "error": error}
    if error is None and not lines:
        found["error"] = "it ended without a log line"
    if lines:
        found["first_step_s"] = round(lines[0].at - job.started, 1)
        found["losses"] = [[line.step, line.loss] for line in lines if line.loss is not None]
    if error is None and len(lines) > 1:
        found["tokens/s"] = round(steady(lines, job.warm), 1)
    found |= memory()
    found["versions"] = {name: version for name in PACKAGES if (version := installed(name))}
    print(f"\n{MARK}{json.dumps(found)}", flush=True)


def steady(lines: Sequence[Line], warm: int) -> float:
    """Tokens a second from the end of step `warm` to the last line."""
    part = [line for line in lines if line.step >= warm]
    took = part[-1].at - part[0].at
    if len(part) < 2 or took <= 0:
        return 0.0
    if part[-1].seen:
        return (part[-1].seen - part[0].seen) / took
    return sum(line.rate * (line.at - before.at) for before, line in itertools.pairwise(part)) / took


def memory() -> dict[str, float]:
    """GiB at the process's peak: of tensors, and of what the allocator took for them. Empty without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {f"{name}_gib": round(value / 2**30, 2) for name, value in peaks.items()}


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def why(wrong: BaseException) -> str:
    """One short line."""
    if "out of memory" in str(wrong).lower():
        return "out of memory"
    said = (str(wrong).strip() or type(wrong).__name__).splitlines()
    return f"{type(wrong).__name__}: {said[0][:200]}"


class Watch(threading.Thread):
    """Looks for a jsonl log that a command line writes somewhere under a folder, and notes when each of its lines appears."""

    def __init__(self, folder: Path, name: str, read: Callable[[dict[str, Any], float], Line | None]) -> None:
        super().__init__(daemon=True)
        self.folder, self.name, self.read = folder, name, read  # type: ignore[assignment]  # a thread has a name anyway
        self.lines: list[Line] = []
        self.ended = threading.Event()
        self.done = 0

    def run(self) -> None:
        while not self.ended.wait(0.05):
            self.look()

    def stop(self) -> list[Line]:
        self.ended.set()
        self.join()
        self.look()
        return self.lines

    def look(self) -> None:
        now = time.time()
        for path in self.folder.rglob(self.name):
            whole = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last one may be half written
            for text in whole[self.done :]:
                line = self.read(json.loads(text), now)
                if line is not None and (not self.lines or line.step > self.lines[-1].step):
                    self.lines.append(line)
            self.done = len(whole)
            return


def run_command(
    peer: str, job: Job, module: str, words: Sequence[str], log: str, read: Callable[[dict[str, Any], float], Line | None]
) -> None:
    """`python -m module words…` in this process, its log watched; answers."""
    Path(job.output).mkdir(parents=True, exist_ok=True)
    watch = Watch(Path(job.output), log, read)
    watch.start()
    error = None
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        error = f"it ended with {end.code}" if end.code else None
    except Exception as wrong:
        error = why(wrong)
    answer(peer, job, watch.stop(), error)


def step_of(record: dict[str, Any]) -> int:
    """The 12 of "global_step/max_steps": "12/40"."""
    return int(str(record.get("global_step/max_steps", "0/0")).split("/")[0])

"""Folders of a run: versioned, written whole or not at all, rotated, linked, and judged before a run resumes from one."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from transformers import TrainerState

from swift import dist, logs
from swift.errors import ModelError, SwiftError, UsageError

if TYPE_CHECKING:
    from swift.template.template import Template

STATE = "trainer_state.json"
STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")  # zip archives, as torch writes them
WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "adapter_model.bin")


def run_folder(output_dir: Path, *, add_version: bool) -> Path:
    """Where this run writes: `<output_dir>/v<N>-<time>`, N one above what is there, the same on every rank. Creates nothing."""
    output_dir = output_dir.expanduser().absolute()
    if not add_version:
        return output_dir
    taken = [int(found[1]) for path in output_dir.glob("v*") if (found := re.match(r"v(\d+)", path.name))]
    return dist.broadcast(output_dir / f"v{max(taken, default=-1) + 1}-{time.strftime('%Y%m%d-%H%M%S')}")


def check_writable(folder: Path, needed_bytes: int) -> None:
    """Raise UsageError where `folder` could not be made, or has no room for one checkpoint. Writes nothing."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"--output_dir {folder}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--output_dir {folder}: {existing} cannot be written to. Choose another --output_dir, or change its permissions")
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise SwiftError(
            f"--output_dir {folder}: the disk has {free / 2**20:,.0f} MiB free, and one checkpoint needs about {needed_bytes / 2**20:,.0f} MiB. "
            "Free some space, choose another --output_dir, or leave optimizer states out with --save_only_model true"
        )


@contextmanager
def staged(output_dir: Path, step: int, *, writes: bool) -> Iterator[Path]:
    """A hidden folder in which `checkpoint-<step>` is written; it gets its place only when whole, so a half-written one never has the name.

    `writes`: whether this process is the one that writes (one of all, or one of each machine with --save_on_each_node).
    Raises SwiftError where writing fails (a full disk), after the half-written folder is gone.
    """
    staging = output_dir / f".saving-{step}"
    if writes:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    dist.barrier()
    try:
        yield staging
        if writes:
            final = output_dir / f"checkpoint-{step}"
            shutil.rmtree(final, ignore_errors=True)
            (staging / final.name).rename(final)
            staging.rmdir()
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        whole = ", ".join(str(path) for path in checkpoints(output_dir)) or "none"
        raise SwiftError(f"checkpoint {step} could not be written to {output_dir}: {error}. Whole checkpoints there: {whole}") from error


def finish_state(state: TrainerState, staging: Path, final: Path) -> None:
    """Write the trainer's state again with the places that checkpoints will have, not those they are written at."""
    best = final.parent / f"checkpoint-{state.best_global_step}"
    if state.best_global_step and (best == final or best.exists()):
        state.best_model_checkpoint = str(best)
    state.save_to_json(str(staging / STATE))
    mode = (staging / STATE).stat().st_mode
    for path in staging.iterdir():
        if path.is_file():
            path.chmod(mode)  # safetensors writes files that only their owner can read


def complete(folder: Path, template: Template, args_json: Path) -> None:
    """What makes a checkpoint usable by itself: tokenizer, the chat template that was trained, the run's arguments."""
    template.save(folder)
    if args_json.is_file():
        shutil.copyfile(args_json, folder / "args.json")


def checkpoints(output_dir: Path) -> list[Path]:
    """`checkpoint-<step>` folders, oldest step first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def rotate(output_dir: Path, keep: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints until `keep` are left; the best one stays and counts."""
    if keep is None:
        return
    deletable = [path for path in checkpoints(output_dir)[:-1] if str(path) != best]
    for path in deletable[: max(len(checkpoints(output_dir)) - max(keep, 1), 0)]:
        logs.info(f"deleting {path} (--save_total_limit {keep})")
        shutil.rmtree(path)


def link(output_dir: Path, last: str | None, best: str | None) -> tuple[str | None, str | None]:
    """`last` and `best` symbolic links; what was not written gets none. Returns the links' paths. Rank 0's business."""
    made: list[str | None] = []
    for name, target in (("last", last), ("best", best)):
        path = output_dir / name
        if target is None:
            made.append(None)
            continue
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            raise SwiftError(f"{path} exists and is no link: --create_checkpoint_symlink does not replace it")
        path.symlink_to(target)
        made.append(str(path))
    return made[0], made[1]


def judge(folder: Path, *, only_model: bool) -> None:
    """Raise ModelError unless a run can go on from `folder`."""
    if not folder.is_dir():
        raise ModelError(f"--resume_from_checkpoint {folder}: there is no such folder")
    if not any((folder / name).is_file() for name in WEIGHTS):
        near = ", ".join(path.name for path in checkpoints(folder))
        raise ModelError(
            f"--resume_from_checkpoint {folder} is no checkpoint: it has no weights"
            + (f". It holds {near}: give one of them" if near else "")
        )
    for path in folder.glob("*.safetensors"):
        check_safetensors(path)
    for name in ("adapter_config.json", "config.json", *(() if only_model else (STATE,))):
        _check_json(folder / name)
    if only_model:
        return
    missing = [name for name in (STATE, "optimizer.pt", "scheduler.pt") if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"--resume_from_checkpoint {folder}: {', '.join(missing)} missing, so the run cannot go on where it stopped. "
            "To start a new run from its weights, add --resume_only_model true"
        )
    broken = [path.name for path in sorted(folder.glob("*.pt*")) if path.name in STATES and not zipfile.is_zipfile(path)]
    if broken:
        raise ModelError(
            f"--resume_from_checkpoint {folder}: {', '.join(broken)} broken or cut short. "
            "To start a new run from its weights, add --resume_only_model true"
        )


def judge_progress(folder: Path, *, max_steps: int, num_train_epochs: float) -> None:
    """Raise UsageError where the run that left `folder` has already come as far as this one is to go."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    done, epochs = state.get("global_step") or 0, state.get("epoch") or 0
    goal = f"--max_steps {max_steps}" if max_steps > 0 else f"--num_train_epochs {num_train_epochs:g}"
    if done >= max_steps if max_steps > 0 else epochs >= num_train_epochs:
        raise UsageError(
            f"--resume_from_checkpoint {folder} stands at step {done} (epoch {epochs:g}), so {goal} leaves nothing to do. "
            "Ask for more, or start a new run from its weights with --resume_only_model true"
        )


def _check_json(path: Path) -> None:
    try:
        if path.is_file():
            json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is broken or cut short: {error}") from None


def check_safetensors(path: Path) -> None:
    """Raise ModelError where the file is shorter than its header says: a save or a copy was cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        try:
            header = json.loads(file.read(length)) if length < size else None
        except ValueError:
            header = None
    if header is None:
        raise ModelError(f"{path} is not a whole safetensors file: its header is broken")
    end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
    if size < 8 + length + end:
        raise ModelError(f"{path} is cut short: {size} bytes, and its header needs {8 + length + end}")

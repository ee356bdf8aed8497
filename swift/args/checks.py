"""What can be judged from words and from what lies on this disk: required flags, files that are not there, contradictions, idle flags."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swift.args import convert, passthrough
from swift.args.paths import adapter_path, dataset_item, exists, is_file, is_path_like, near_file
from swift.args.spec import specs

if TYPE_CHECKING:
    from swift.args.resolve import Resolved


def required(state: Resolved, checkpoint: Path | None) -> None:
    """Model and data must be said somewhere."""
    values = state.values
    resumed = values.get("resume_from_checkpoint")
    unseen = [path for path in map(adapter_path, values["adapters"]) if not exists(path)]
    # A checkpoint that is only an id says it once downloaded; one that is not there is an error of its own.
    known_later = checkpoint is None and any(values["load_args"] or is_path_like(path) for path in unseen)
    if not values["model"] and not known_later and not (resumed and not exists(resumed)):
        hint = "an id, or the path of a local folder"
        if values["adapters"]:
            hint = f"{values['adapters'][0]} does not say which model it belongs to"
        elif not state.made.TRAINS:
            hint += "; or --adapters with a checkpoint of swift sft"
        state.problems.append(f"--model is required: {hint}")
    if state.made.TRAINS and not values["dataset"]:
        state.problems.append("--dataset is required: one or more ids or paths")


def files(state: Resolved) -> None:
    """Local names that are not there."""
    values = state.values
    if values["model"] and is_path_like(values["model"]) and not exists(values["model"]):
        state.absent(f"--model: the folder {values['model']} is not there{near_file(values['model'])}{_source(state, 'model')}")
    for flag in ("dataset", "val_dataset"):
        for item in values[flag]:
            try:
                name = dataset_item(item).name
            except ValueError as wrong:
                state.problems.append(f"--{flag}: {wrong}")
                continue
            if is_path_like(name) and not exists(name):
                state.absent(f"--{flag}: {name} is not there{near_file(name)}{_source(state, flag)}")
    for flag in ("custom_register_path", "external_plugins"):
        for file in values[flag]:
            if not is_file(file):
                state.absent_files.add(file)
                state.absent(f"--{flag}: the file {file} is not there{_source(state, flag)}")
    if state.made.TRAINS:
        for tracker in values["report_to"]:
            package = _PACKAGES[tracker] if tracker in _PACKAGES else str(tracker)
            if tracker not in ("all", "none") and "report_to" in state.explicit and importlib.util.find_spec(package) is None:
                state.absent(f"--report_to {tracker} needs {package}. Install it with: pip install {package}")
    if values["device_map"] and "cuda" in str(values["device_map"]) and not Path("/dev/nvidiactl").exists():
        state.absent("--device_map names a GPU, and this machine has none")
    _output_folder(state)


def _source(state: Resolved, name: str) -> str:
    """Where a value came from, for one that was not typed."""
    return "" if name in state.explicit else f" (from {state.origins[name]})"


_PACKAGES = {"flyte": "flytekit", "azure_ml": "azureml"}


def _output_folder(state: Resolved) -> None:
    name = state.values.get("output_dir")
    if not name:
        return
    folder = Path(name).absolute()
    while not exists(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
        state.problems.append(f"--output_dir: {folder} is a file")
    elif not os.access(folder, os.W_OK):
        state.absent(f"--output_dir: {folder} cannot be written to")


def contradictions(state: Resolved) -> Iterator[str]:
    values = state.values
    for flag in ("model_name", "model_author"):
        if values[flag] and len(values[flag]) > 2:
            yield f"--{flag}: expected one name, or the Chinese and the English one, got {len(values[flag])}"
    columns = values["columns"] or {}
    if not all(isinstance(key, str) and isinstance(name, str) for key, name in columns.items()):
        yield f"--columns: expected names for names, got {columns}"
    if state.made.TRAINS:
        yield from _training_contradictions(state)
    elif values["merge_lora"] and not values["adapters"]:
        yield "--merge_lora needs --adapters: there is nothing to merge"


def _training_contradictions(state: Resolved) -> Iterator[str]:
    values, fields = state.values, state.passthrough
    if values["packing"] and values["lazy_tokenize"]:
        yield "--packing and --lazy_tokenize exclude each other: packing must know the length of every row before training"
    if values["streaming"] and values["max_steps"] <= 0:
        yield "--streaming needs --max_steps: the length of a stream is not known"
    if values["max_steps"] == 0:
        yield "--max_steps: expected -1 (no limit) or a number of at least 1, got 0"
    if fields.get("fp16") and fields.get("bf16"):
        yield "--fp16 and --bf16 exclude each other"
    if "none" in values["report_to"] and len(values["report_to"]) > 1:
        yield f"--report_to: none excludes {', '.join(name for name in values['report_to'] if name != 'none')}"
    if "lr_scheduler_type" in state.explicit and passthrough.fields():
        try:
            convert.from_value(passthrough.spec_of("lr_scheduler_type"), values["lr_scheduler_type"])
        except ValueError as wrong:
            yield f"--lr_scheduler_type: {wrong}"


def without_effect(state: Resolved) -> Iterator[str]:
    """Flags that were typed and do nothing beside the others."""
    values, typed = state.values, state.explicit
    if values["padding_side"] == "left" and "padding_side" in typed and state.made.TRAINS:
        yield "--padding_side has no effect: rows are laid end to end without padding"
    if not state.made.TRAINS:
        if values["top_logprobs"] and not values["logprobs"]:
            yield "--top_logprobs has no effect without --logprobs true"
        return
    if "average_tokens_across_devices" in typed and not values["average_tokens_across_devices"]:
        yield "--average_tokens_across_devices false has no effect: sums are always divided by the exact count over all devices"
    if values["target_regex"] and "target_modules" in typed:
        yield "--target_modules has no effect beside --target_regex"
    if values["resume_only_model"] and not values["resume_from_checkpoint"]:
        yield "--resume_only_model has no effect without --resume_from_checkpoint"
    adapter_flags = [name for name, spec in specs(state.made).items() if spec.group in ("lora", "target")]
    full_flags = [name for name, spec in specs(state.made).items() if spec.group == "full"]
    idle = [name for name in (adapter_flags if values["train_type"] == "full" else full_flags) if name in typed]
    if idle:
        names = ", ".join(f"--{name}" for name in idle)
        yield f"no effect with --train_type {values['train_type']}: {names}"

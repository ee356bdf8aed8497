"""From what was given to what will be done: checkpoint, args.json, defaults that depend on other arguments, checks on words alone.

What is found in files of the model (its type, dtype, length) is never written here: it is in swift.models.match.ModelInfo.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swift.args import convert, passthrough, saved
from swift.args.commands import Command
from swift.args.paths import dataset_item, exists, is_path_like, looks_like_adapter, model_suffix, near_file
from swift.args.spec import specs
from swift.errors import ModelError

Values = dict[str, Any]


@dataclass
class Resolved:
    """Flat values on their way to a Command."""

    made: type[Command]
    values: Values
    passthrough: dict[str, Any]
    origins: dict[str, str]
    explicit: frozenset[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    absent_files: set[str] = field(default_factory=set)

    def set(self, name: str, value: Any, origin: str) -> None:
        self.values[name] = value
        self.origins[name] = origin

    def absent(self, what: str) -> None:
        """Something that a real run needs is not there: an error, in a dry run part of the plan."""
        (self.missing if self.values["dry_run"] else self.problems).append(what)


def resolve(
    made: type[Command],
    given: Mapping[str, Any],
    fields: Mapping[str, Any],
    origins: Mapping[str, str],
    checkpoint: Path | None = None,
) -> Resolved:
    """Fill everything that was not given. `checkpoint` is a folder known from elsewhere (a downloaded adapter)."""
    own = specs(made)
    values = {name: given[name] if name in given else spec.fresh_default() for name, spec in own.items()}
    where = {name: origins.get(name) or (f"default of swift {made.NAME}" if name in made.DEFAULTS else "default") for name in own}
    where |= {name: origins.get(name, "derived") for name in fields}
    state = Resolved(made, values, dict(fields), where, frozenset(given) | frozenset(fields))
    _legacy(state, given)
    _resume(state)
    _adapters(state)
    _inherit(state, checkpoint)
    _system(state)
    for name, rule in RULES:
        if name in values and values[name] is None and name not in state.explicit:
            value = rule(state)
            if value is not None:
                state.set(name, value, f"derived: {_sentence(rule)}")
    for rule in FORCED:
        rule(state)
    _required(state, checkpoint)
    _files(state)
    state.problems += _contradictions(state)
    state.notes += _without_effect(state)
    return state


def _sentence(rule: Callable) -> str:
    return (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")


# What comes before args.json


def _legacy(state: Resolved, given: Mapping[str, Any]) -> None:
    """--ckpt_dir and --lora_modules of older scripts."""
    if folder := given.get("ckpt_dir"):
        if not exists(folder):
            state.absent(f"--ckpt_dir: the folder {folder} is not there")
        if looks_like_adapter(Path(folder).expanduser()):
            state.set("adapters", [folder, *state.values["adapters"]], "ckpt_dir")
            state.notes.append("--ckpt_dir is the older name of --adapters")
        else:
            state.set("model", folder, "ckpt_dir")
            state.notes.append("--ckpt_dir is the older name of --model for a full checkpoint")
    if modules := given.get("lora_modules"):
        state.set("adapters", [*state.values["adapters"], *modules], "lora_modules")
        state.notes.append("--lora_modules is the older name of --adapters")


def _resume(state: Resolved) -> None:
    """A resumed run starts from the checkpoint: its weights are the model's (full), or its adapter is trained on."""
    given = state.values.get("resume_from_checkpoint")
    if not given:
        return
    folder = Path(given).expanduser()
    if not folder.is_dir():
        state.absent(f"--resume_from_checkpoint: the checkpoint {given} is not there")
        return
    full = state.values["train_type"] == "full"
    for file in ("config.json" if full else "adapter_config.json", *(() if state.values["resume_only_model"] else ("trainer_state.json",))):
        if not (folder / file).is_file():
            kind = "full checkpoint (--train_type full)" if full else "adapter checkpoint (--train_type full is for full ones)"
            state.problems.append(f"--resume_from_checkpoint: {given} is no {kind}: it has no {file}")
            break
    absolute = str(folder.resolve())
    state.values["resume_from_checkpoint"] = absolute
    if full:
        if state.values["model"] is not None:
            state.notes.append(f"--train_type full resumes the weights of {absolute}; --model is not used")
        state.set("model", absolute, "resume_from_checkpoint")
    else:
        state.set("adapters", [absolute], "resume_from_checkpoint")


def adapter_path(name: str) -> str:
    """The path or id of an --adapters word, which may be written name=path."""
    return name.partition("=")[2] if "=" in name and not exists(name) else name


def _adapters(state: Resolved) -> None:
    for name in state.values["adapters"]:
        path = adapter_path(name)
        if exists(path):
            if not looks_like_adapter(Path(path).expanduser()) and state.origins["adapters"] != "resume_from_checkpoint":
                state.problems.append(f"--adapters: {path} has no adapter_config.json; a full model is given with --model")
        elif is_path_like(path):
            state.absent(f"--adapters: the folder {path} is not there")


def _inherit(state: Resolved, checkpoint: Path | None) -> None:
    """Take from the checkpoint's args.json what was not given here; a flag that was typed always wins."""
    values = state.values
    paths = [adapter_path(name) for name in values["adapters"]]
    folder = checkpoint or saved.checkpoint_folder(paths, values["model"])
    if folder is not None:
        try:
            stored = saved.read(folder)
        except ModelError as wrong:
            state.problems += [str(wrong)] if values["load_args"] else []
            stored = {}
        if values["load_args"]:
            _take_stored(state, stored, folder)
        elif values["model"] is None and "load_args" not in state.explicit:
            # Training does not inherit, but the base of an adapter that is trained on can only be the one it was made for.
            for name in ("model", "model_type", "model_revision"):
                if values[name] is None and stored.get(name) is not None:
                    state.set(name, stored[name], f"{saved.FILE} of {folder}")
    if values["model"] is None and "model" not in state.explicit:
        for path in [*([str(checkpoint)] if checkpoint else []), *paths]:
            if base := _base_of_adapter(Path(path).expanduser()):
                state.set("model", base, f"adapter_config.json of {path}")
                return


def _take_stored(state: Resolved, stored: Values, folder: Path) -> None:
    when_empty, over_default = saved.inheritable(state.made, data=state.values["load_data_args"])
    own = specs(state.made)
    for name in own:
        value = stored.get(name)
        empty = state.values[name] is None or state.values[name] == []
        if value is None or name in state.explicit or not (name in over_default or (name in when_empty and empty)):
            continue
        try:
            converted = convert.from_value(own[name], value)
        except convert.NotBuilt as choice:
            state.problems.append(f"{folder / saved.FILE}: {name} {choice} is part of SWIFT but not built yet")
        except ValueError as wrong:
            state.problems.append(f"{folder / saved.FILE}: {name}: {wrong}")
        else:
            state.set(name, converted, f"{saved.FILE} of {folder}")


def _base_of_adapter(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("base_model_name_or_path") or None


def _system(state: Resolved) -> None:
    """--system prompt.txt means the content of the file."""
    name = state.values["system"]
    if not name or not name.endswith(".txt") or "\n" in name:
        return
    path = Path(name).expanduser()
    if path.is_file():
        state.set("system", path.read_text(encoding="utf-8"), f"{state.origins['system']}, file {name}")
    else:
        state.absent(f"--system: the file {name} is not there")


# Defaults that depend on other arguments; each docstring is the document's sentence.


def _output_dir(state: Resolved) -> str | None:
    """output/<model name>."""
    model = state.values["model"]
    return f"output/{model_suffix(model)}" if model else None


def _torch_dtype(state: Resolved) -> str | None:
    """As --fp16 or --bf16 says."""
    if state.passthrough.get("bf16"):
        return "bfloat16"
    return "float16" if state.passthrough.get("fp16") else None


def _learning_rate(state: Resolved) -> float:
    """1e-5 for full parameters, 1e-4 for LoRA and other tuners."""
    return 1e-5 if state.values["train_type"] == "full" else 1e-4


def _metric_for_best_model(state: Resolved) -> str:
    """Set to 'loss' when predict_with_generate is false."""
    return "loss"


def _greater_is_better(state: Resolved) -> bool:
    """False when metric_for_best_model contains 'loss', otherwise true."""
    return "loss" not in state.values["metric_for_best_model"]


def _eval_strategy(state: Resolved) -> str:
    """Follows the strategy of save_strategy."""
    return state.values["save_strategy"]


def _eval_steps(state: Resolved) -> int | float | None:
    """Follows save_steps."""
    return state.values["save_steps"] if state.values["eval_strategy"] == "steps" else None


RULES: tuple[tuple[str, Callable[[Resolved], Any]], ...] = (
    ("output_dir", _output_dir),
    ("torch_dtype", _torch_dtype),
    ("learning_rate", _learning_rate),
    ("metric_for_best_model", _metric_for_best_model),
    ("greater_is_better", _greater_is_better),
    ("eval_strategy", _eval_strategy),
    ("eval_steps", _eval_steps),
)


def _no_split(state: Resolved) -> None:
    """No rows are held out where validation rows are given, rows are streamed, or nothing is evaluated."""
    values = state.values
    because = "--val_dataset is given" if values["val_dataset"] else "--streaming is true" if values["streaming"] else None
    if because is None and values.get("eval_strategy") == "no":
        because = "--eval_strategy is no"
    if because and values["split_dataset_ratio"] != 0:
        if "split_dataset_ratio" in state.explicit:
            state.notes.append(f"--split_dataset_ratio is 0, because {because}")
        state.set("split_dataset_ratio", 0.0, f"derived: {because}")


def _no_lazy_stream(state: Resolved) -> None:
    """A stream is always read while training."""
    if state.values["streaming"] and state.values.get("lazy_tokenize"):
        state.notes.append("--lazy_tokenize has no effect with --streaming true: a stream makes its tokens while training anyway")
        state.set("lazy_tokenize", False, "derived: --streaming is true")


def _home(state: Resolved) -> None:
    """~ in paths that are written to."""
    for name in ("output_dir", "result_path"):
        if state.values.get(name):
            state.values[name] = os.path.expanduser(state.values[name])


FORCED = (_no_split, _no_lazy_stream, _home)


# Checks


def _required(state: Resolved, checkpoint: Path | None) -> None:
    values = state.values
    unseen = [adapter_path(name) for name in values["adapters"] if not exists(adapter_path(name))]
    unseen += [name for name in [values.get("resume_from_checkpoint")] if name and not exists(name)]
    known_later = checkpoint is None and any(values["load_args"] or is_path_like(name) for name in unseen)
    if values["model"] is None and not known_later and not values.get("resume_from_checkpoint"):
        hint = "an id, or the path of a local folder"
        if values["adapters"]:
            hint = f"{values['adapters'][0]} does not say which model it belongs to"
        elif not state.made.TRAINS:
            hint += "; or --adapters with a checkpoint of swift sft"
        state.problems.append(f"--model is required: {hint}")
    if state.made.TRAINS and not values["dataset"]:
        state.problems.append("--dataset is required: one or more ids or paths")


def _files(state: Resolved) -> None:
    """Local names that are not there."""
    values = state.values
    if values["model"] and is_path_like(values["model"]) and not exists(values["model"]):
        state.absent(f"--model: the folder {values['model']} is not there{near_file(values['model'])}")
    for flag in ("dataset", "val_dataset"):
        for item in values[flag]:
            try:
                name = dataset_item(item).name
            except ValueError as wrong:
                state.problems.append(f"--{flag}: {wrong}")
                continue
            if is_path_like(name) and not exists(name):
                state.absent(f"--{flag}: {name} is not there{near_file(name)}")
    for flag in ("custom_register_path", "external_plugins"):
        for file in values[flag]:
            if not Path(file).expanduser().is_file():
                state.absent_files.add(file)
                state.absent(f"--{flag}: the file {file} is not there")
    if state.made.TRAINS:
        for tracker in values["report_to"]:
            package = _PACKAGES.get(tracker, tracker)
            if tracker not in ("all", "none") and "report_to" in state.explicit and importlib.util.find_spec(package) is None:
                state.absent(f"--report_to {tracker} needs {package}. Install it with: pip install {package}")
    if values["device_map"] and "cuda" in str(values["device_map"]) and not Path("/dev/nvidiactl").exists():
        state.absent("--device_map names a GPU, and this machine has none")
    _output_folder(state)


_PACKAGES = {"flyte": "flytekit", "azure_ml": "azureml"}


def _output_folder(state: Resolved) -> None:
    name = state.values.get("output_dir")
    if not name:
        return
    folder = Path(name).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        state.problems.append(f"--output_dir: {folder} is a file")
    elif not os.access(folder, os.W_OK):
        state.absent(f"--output_dir: {folder} cannot be written to")


def _contradictions(state: Resolved) -> Iterator[str]:
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


def _without_effect(state: Resolved) -> Iterator[str]:
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

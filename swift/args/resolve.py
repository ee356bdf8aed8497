"""From what was given to what will be done: checkpoint, args.json, defaults that depend on other arguments; then checks.py.

What is found in files of the model (its type, dtype, length) is never written here: it is in swift.models.match.ModelInfo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swift.args import checks, convert, quantize, saved
from swift.args.commands import Command
from swift.args.paths import adapter_path, exists, is_file, is_folder, is_path_like, looks_like_adapter, model_suffix, near_file
from swift.args.spec import specs
from swift.args.weights import is_weights_file, read_weights
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
    _merges(state)
    quantize.settle(state)
    _system(state)
    _weights_file(state)
    for name, rule in RULES:
        if name in values and values[name] is None:
            value = rule(state)
            if value is not None:
                state.set(name, value, f"derived: {_sentence(rule)}")
    for rule in FORCED:
        rule(state)
    checks.required(state, checkpoint)
    checks.files(state)
    state.problems += checks.contradictions(state)
    state.notes += checks.without_effect(state)
    return state


def _sentence(rule: Callable) -> str:
    return (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")


# What comes before args.json


def _legacy(state: Resolved, given: Mapping[str, Any]) -> None:
    """--ckpt_dir and --lora_modules of older scripts."""
    if folder := given.get("ckpt_dir"):
        if not exists(folder):
            state.absent(f"--ckpt_dir: the folder {folder} is not there")
        if looks_like_adapter(folder):
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
    if not is_folder(given):
        state.absent(f"--resume_from_checkpoint: the checkpoint {given} is not there")
        return
    folder = Path(given).expanduser()
    full = state.values["train_type"] == "full"
    for file in ("config.json" if full else "adapter_config.json", *(() if state.values["resume_only_model"] else ("trainer_state.json",))):
        if not (folder / file).is_file():
            kind = "full checkpoint (--train_type full)" if full else "adapter checkpoint (--train_type full is for full ones)"
            inside = sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: (len(name), name))
            hint = f". It holds {', '.join(inside[-3:])}: give one of them" if inside else ""
            state.problems.append(f"--resume_from_checkpoint: {given} is no {kind}: it has no {file}{hint}")
            break
    absolute = str(folder.resolve())
    state.values["resume_from_checkpoint"] = absolute
    if full:
        if state.values["model"] is not None:
            state.notes.append(f"--train_type full resumes the weights of {absolute}; --model is not used")
        state.set("model", absolute, "resume_from_checkpoint")
    else:
        state.set("adapters", [absolute], "resume_from_checkpoint")


def _adapters(state: Resolved) -> None:
    for name in state.values["adapters"]:
        path = adapter_path(name)
        if exists(path):
            if not looks_like_adapter(path) and state.origins["adapters"] != "resume_from_checkpoint":
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
            for name in ("model", "model_type", "model_revision", "task_type", "num_labels"):
                if values[name] is None and stored.get(name) is not None:
                    state.set(name, stored[name], f"{saved.FILE} of {folder}")
    if values["model"] is None and "model" not in state.explicit:
        for path in [*([str(checkpoint)] if checkpoint else []), *paths]:
            if is_folder(path) and (base := _base_of_adapter(Path(path).expanduser())):
                state.set("model", base, f"adapter_config.json of {path}")
                return


def _take_stored(state: Resolved, stored: Values, folder: Path) -> None:
    when_empty, over_default = saved.inheritable(state.made, data=state.values["load_data_args"])
    own = specs(state.made)
    for name in own:
        value = stored.get(name)
        empty = state.values[name] is None or state.values[name] == []
        if value is None or value == [] or name in state.explicit or not (name in over_default or (name in when_empty and empty)):
            continue
        try:
            converted = convert.from_value(own[name], value)
        except convert.NotBuilt as choice:
            state.problems.append(f"{folder / saved.FILE}: {name} {choice} is part of SWIFT but not built yet")
        except ValueError as wrong:
            state.problems.append(f"{folder / saved.FILE}: {name}: {wrong}")
        else:
            state.set(name, converted, f"{saved.FILE} of {folder}")
    if "rope_scaling" in state.values and state.origins["rope_scaling"] == f"{saved.FILE} of {folder}":
        _take_stretch(state, stored.get("max_length"), folder)


def _take_stretch(state: Resolved, trained: int | None, folder: Path) -> None:
    """--rope_scaling stretches positions by --max_length, so the one of training belongs to it."""
    asked = state.values["max_length"]
    if asked is None and trained is not None:
        state.set("max_length", trained, f"{saved.FILE} of {folder}")
    elif asked != trained:
        state.notes.append(
            f"--max_length {asked}: {folder} was trained with --rope_scaling {state.values['rope_scaling']} and --max_length {trained}; "
            "another length stretches positions otherwise than they were learned"
        )


def _base_of_adapter(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("base_model_name_or_path") or None


def _merges(state: Resolved) -> None:
    """swift merge-lora needs no --merge_lora."""
    if state.made.NAME != "merge-lora":
        return
    if "merge_lora" in state.explicit and not state.values["merge_lora"]:
        state.problems.append("--merge_lora false: swift merge-lora does nothing but merge")
    state.set("merge_lora", True, "derived: swift merge-lora merges")


def _system(state: Resolved) -> None:
    """--system prompt.txt means the content of the file."""
    name = state.values["system"]
    if not name or not name.endswith(".txt") or "\n" in name:
        return
    if not is_file(name):
        state.absent(f"--system: the file {name} is not there{near_file(name)}")
        return
    try:
        state.set("system", Path(name).expanduser().read_text(encoding="utf-8"), f"{state.origins['system']}, file {name}")
    except (OSError, ValueError) as wrong:
        state.problems.append(f"--system: the file {name} cannot be read: {wrong}")


def _weights_file(state: Resolved) -> None:
    """--loss_scale my_weights.json is a file of weights, read here to be checked; its path is kept whole."""
    name = state.values["loss_scale"]
    if not is_weights_file(name):
        return
    if not is_file(name):
        state.absent(f"--loss_scale: the file {name} is not there{near_file(name)}")
        return
    try:
        read_weights(name)
    except ValueError as wrong:
        state.problems.append(f"--loss_scale: {wrong}")
    state.values["loss_scale"] = str(Path(name).expanduser().resolve())


# Defaults that depend on other arguments; each docstring is the document's sentence.


def _output_dir(state: Resolved) -> str | None:
    """output/<model name>."""
    model = state.values["model"]
    return f"output/{model_suffix(model)}" if model and state.made.TRAINS else None


def _torch_dtype(state: Resolved) -> str | None:
    """As --fp16 or --bf16 says."""
    if state.passthrough.get("bf16"):
        return "bfloat16"
    return "float16" if state.passthrough.get("fp16") else None


def _task_type(state: Resolved) -> str | None:
    """seq_cls, because --num_labels is given."""
    return "seq_cls" if state.values["num_labels"] is not None else None


def _learning_rate(state: Resolved) -> float:
    """1e-5 for full parameters, 1e-4 for LoRA and other tuners."""
    return 1e-5 if state.values["train_type"] == "full" else 1e-4


def _metric_for_best_model(state: Resolved) -> str:
    """Set to 'loss' when predict_with_generate is false."""
    return "loss"


def _greater_is_better(state: Resolved) -> bool:
    """False when metric_for_best_model contains 'loss' or is an error (mse, mae), otherwise true."""
    metric = state.values["metric_for_best_model"]
    return "loss" not in metric and metric.removeprefix("eval_") not in ("mse", "mae")


def _eval_strategy(state: Resolved) -> str:
    """Follows the strategy of save_strategy."""
    return state.values["save_strategy"]


def _eval_steps(state: Resolved) -> int | float | None:
    """Follows save_steps."""
    return state.values["save_steps"] if state.values["eval_strategy"] == "steps" else None


RULES: tuple[tuple[str, Callable[[Resolved], Any]], ...] = (
    ("output_dir", _output_dir),
    ("torch_dtype", _torch_dtype),
    ("task_type", _task_type),
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


def _one_reader(state: Resolved) -> None:
    """A stream is read by one process at most: several would each take a part of it, in another order."""
    if state.values["streaming"] and state.values.get("dataloader_num_workers", 0) > 1:
        state.notes.append("--dataloader_num_workers is 1, because --streaming is true: a stream has one reader, so that its order is kept")
        state.set("dataloader_num_workers", 1, "derived: --streaming is true")


def _home(state: Resolved) -> None:
    """~ in paths that are written to."""
    for name in ("output_dir", "result_path"):
        if state.values.get(name):
            state.values[name] = os.path.expanduser(state.values[name])


FORCED = (_no_split, _no_lazy_stream, _one_reader, _home)

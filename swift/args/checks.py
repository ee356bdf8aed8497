"""What can be judged from words and from what lies on this disk: required flags, files that are not there, contradictions, idle flags."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swift.args import convert, passthrough, quantize
from swift.args.paths import adapter_path, dataset_item, exists, is_file, is_path_like, model_suffix, near_file
from swift.args.spec import specs

if TYPE_CHECKING:
    from swift.args.commands import InferCommand
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
    for word in values["custom_dataset_info"]:
        if not word.lstrip().startswith(("[", "{")) and not is_file(word):
            state.absent(f"--custom_dataset_info: the file {word} is not there{near_file(word)}{_source(state, 'custom_dataset_info')}")
    for flag in ("custom_register_path", "external_plugins"):
        for file in values[flag]:
            if not is_file(file):
                state.absent_files.add(file)
                state.absent(f"--{flag}: the file {file} is not there{_source(state, flag)}")
    if state.made.SHOWS:
        return  # nothing is trained or written
    quantize.packages(state)
    _liger(state)
    if state.made.TRAINS:
        for tracker in values["report_to"]:
            package = _PACKAGES[tracker] if tracker in _PACKAGES else str(tracker)
            if tracker not in ("all", "none") and "report_to" in state.explicit and importlib.util.find_spec(package) is None:
                state.absent(f"--report_to {tracker} needs {package}. Install it with: pip install {package}")
    for flag in ("ssl_keyfile", "ssl_certfile"):
        if values.get(flag) and not is_file(values[flag]):
            state.absent(f"--{flag}: the file {values[flag]} is not there{near_file(values[flag])}{_source(state, flag)}")
    if values["device_map"] and "cuda" in str(values["device_map"]) and not Path("/dev/nvidiactl").exists():
        state.absent("--device_map names a GPU, and this machine has none")
    _written_paths(state)


def _source(state: Resolved, name: str) -> str:
    """Where a value came from, for one that was not typed."""
    return "" if name in state.explicit else f" (from {state.origins[name]})"


_PACKAGES = {"flyte": "flytekit", "azure_ml": "azureml"}


def _written_paths(state: Resolved) -> None:
    for flag in ("output_dir", "result_path"):
        name = state.values.get(flag)
        if name and (fault := _no_path(name)):
            state.problems.append(f"--{flag}: {name[:40]!r} cannot be a path: {fault}")
        elif name and flag == "output_dir":
            _folder_to_write(state, flag, name)
        elif name:
            _result_file(state, name)


def _no_path(name: str) -> str | None:
    """Why a name cannot be a path on this disk, whether something is there or not."""
    if "\0" in name:
        return "it has a null character"
    try:
        Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError) as wrong:  # too long, ~nobody
        return getattr(wrong, "strerror", None) or str(wrong)
    return None


def _result_file(state: Resolved, name: str) -> None:
    path = Path(name).absolute()
    if path.is_dir():
        state.problems.append(f"--result_path: {path} is a folder; give the name of a file in it")
        return
    for item in (*state.values["dataset"], *state.values["val_dataset"]):
        source = item.rpartition("#")[0] or item
        if path.exists() and exists(source) and path.samefile(Path(source).expanduser()):
            state.problems.append(f"--result_path: {path} is a data set of this run, and answers would be written into it")
    _folder_to_write(state, "result_path", str(path.parent))


def _folder_to_write(state: Resolved, flag: str, name: str) -> None:
    folder = Path(name).absolute()
    while not exists(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
        state.problems.append(f"--{flag}: {folder} is a file")
    elif not os.access(folder, os.W_OK):
        state.absent(f"--{flag}: {folder} cannot be written to")


def _liger(state: Resolved) -> None:
    """Compiled layers need no package, and whether they can be compiled is known once the model is there; where they must not be, it is needed."""
    values = state.values
    if not state.made.TRAINS or not values["use_liger"] or values["torch_compile"] is not False or not Path("/dev/nvidiactl").exists():
        return
    if importlib.util.find_spec("liger_kernel") is None:
        state.absent("--use_liger needs liger-kernel. Install it with: pip install 'swift-finetune[liger]'")


def contradictions(state: Resolved) -> Iterator[str]:
    values = state.values
    for flag in ("model_name", "model_author"):
        if values[flag] and len(values[flag]) > 2:
            yield f"--{flag}: expected one name, or the Chinese and the English one, got {len(values[flag])}"
    if values["sequence_parallel_size"] > 1:
        yield (
            "--sequence_parallel_size is part of SWIFT but not built yet: leave it out; "
            "where rows are too long for one GPU, a smaller --max_length or --packing true with one bounds them"
        )
    columns = values["columns"] or {}
    if not all(isinstance(key, str) and isinstance(name, str) for key, name in columns.items()):
        yield f"--columns: expected names for names, got {columns}"
    if values["rope_scaling"] and values["max_length"] is None:
        yield "--rope_scaling needs --max_length: positions are stretched by --max_length / the length that the model was made for"
    yield from _task_contradictions(state)
    yield from quantize.contradictions(state)
    if state.made.TRAINS:
        yield from _training_contradictions(state)
        return
    if values["merge_lora"] and not values["adapters"]:
        flag = "swift merge-lora" if state.made.NAME == "merge-lora" else "--merge_lora"
        yield f"{flag} needs --adapters: there is nothing to merge"
    if values["top_logprobs"] and not values["logprobs"] and state.made.NAME == "infer":
        yield "--top_logprobs needs --logprobs true"
    if state.made.NAME == "deploy":
        yield from _deploy_contradictions(state)


def _deploy_contradictions(state: Resolved) -> Iterator[str]:
    values = state.values
    if bool(values["ssl_keyfile"]) != bool(values["ssl_certfile"]):
        yield "--ssl_keyfile and --ssl_certfile belong together: give both, or neither"
    names = [word.partition("=")[0] for word in values["adapters"] if adapter_path(word) != word]
    own = values["served_model_name"] or (model_suffix(values["model"]) if values["model"] else None)
    for name in dict.fromkeys(names):
        if not name:
            yield "--adapters: expected name=path, and there is no name before the '='"
        elif names.count(name) > 1 or name == own:
            yield f"--adapters: two models would be served as {name!r}; give each a name of its own"
    if values["merge_lora"] and names:
        yield f"--merge_lora true serves one merged model; leave it out to serve {', '.join(names)} beside it"
    if (values["top_logprobs"] or 0) > values["max_logprobs"]:
        yield f"--top_logprobs {values['top_logprobs']} is more than --max_logprobs {values['max_logprobs']}"


def _task_contradictions(state: Resolved) -> Iterator[str]:
    values = state.values
    if values["task_type"] == "causal_lm" and values["num_labels"] is not None:
        yield "--num_labels is for classification, and --task_type causal_lm writes text: leave one of them out"
    if values["task_type"] != "seq_cls":
        return
    if "pt" in (state.made.NAME, state.made.SHOWS):
        yield "--task_type seq_cls: swift pt learns to go on with texts; a classifier is trained with swift sft"
    file = Path(values["model"] or "-").expanduser() / "config.json"
    if values["num_labels"] is None and file.is_file() and "ForSequenceClassification" not in file.read_text(encoding="utf-8"):
        yield f"--task_type seq_cls needs --num_labels: {values['model']} is no classifier yet, so nothing says how many classes there are"


def _training_contradictions(state: Resolved) -> Iterator[str]:
    values, fields = state.values, state.passthrough
    if values["packing"] and values["lazy_tokenize"]:
        yield "--packing and --lazy_tokenize exclude each other: packing must know the length of every row before training"
    for flag in ("save_steps", "eval_steps", "logging_steps"):
        if flag in state.explicit and (steps := values[flag]) is not None and steps > 1 and steps != int(steps):
            yield f"--{flag}: expected a whole number of steps, or a share of all steps below 1, got {steps:g}"
    if values["target_regex"] is not None:
        try:
            re.compile(values["target_regex"])
        except re.error as wrong:
            yield f"--target_regex: {values['target_regex']!r} is no regular expression: {wrong}"
    if values["max_steps"] == 0:
        yield "--max_steps: expected -1 (no limit) or a number of at least 1, got 0"
    if fields.get("fp16") and fields.get("bf16"):
        yield "--fp16 and --bf16 exclude each other"
    for field, dtype in (("bf16", "float16"), ("fp16", "bfloat16")):
        if fields.get(field) and values["torch_dtype"] == dtype and "torch_dtype" in state.explicit:
            yield f"--{field} and --torch_dtype {dtype} exclude each other"
    if fields.get("load_best_model_at_end"):
        if values["save_strategy"] != values["eval_strategy"] or values["save_strategy"] == "no":
            yield (
                "--load_best_model_at_end needs checkpoints and evaluations at the same time; "
                f"--save_strategy is {values['save_strategy']}, --eval_strategy {values['eval_strategy']}"
            )
        elif values["save_strategy"] == "steps" and (values["save_steps"] / values["eval_steps"]) % 1 > 1e-9:
            yield (
                "--load_best_model_at_end needs an evaluation at each checkpoint: "
                f"--save_steps ({values['save_steps']:g}) must be a multiple of --eval_steps ({values['eval_steps']:g})"
            )
    if fields.get("dataloader_prefetch_factor") and not values["dataloader_num_workers"]:
        yield "--dataloader_prefetch_factor needs --dataloader_num_workers above 0"
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
    yield from quantize.without_effect(state)
    if values["padding_side"] == "left" and "padding_side" in typed and state.made.TRAINS:
        yield "--padding_side has no effect: rows are laid end to end without padding"
    if "norm_bbox" in typed and values["norm_bbox"]:
        yield "--norm_bbox has no effect: coordinates are scaled beside images only, and models that see are not built yet"
    if values["enable_cache"] and "enable_cache" in typed:
        if values["streaming"] or values.get("lazy_tokenize"):
            flag = "streaming" if values["streaming"] else "lazy_tokenize"
            yield f"--enable_cache has no effect with --{flag} true: training rows are encoded while training, and not kept"
        elif not state.made.TRAINS and not state.made.SHOWS:
            yield f"--enable_cache has no effect in swift {state.made.NAME}: rows are not encoded before they are answered"
    if values["streaming"] and "dataset_num_proc" in typed and values["dataset_num_proc"] > 1 and state.made.TRAINS:
        yield "--dataset_num_proc has no effect on a stream: its training rows are read and encoded while training"
    if not state.made.TRAINS:
        if "max_shard_size" in typed and not values["merge_lora"]:
            yield "--max_shard_size has no effect without --merge_lora true"
        for name, reason in (
            ("loss_scale", "nothing is learned"),
            ("padding_side", "prompts are padded as the engine needs it"),
            ("train_type", "an adapter's own file says its kind"),
            *(_NOT_SERVED if state.made.NAME == "deploy" else ()),
            *(_not_merged(state) if state.made.NAME == "merge-lora" else ()),
        ):
            if name in typed:
                yield f"--{name} has no effect in swift {state.made.NAME}: {reason}"
        return
    if "average_tokens_across_devices" in typed and not values["average_tokens_across_devices"]:
        yield "--average_tokens_across_devices false has no effect: sums are always divided by the exact count over all devices"
    if values["task_type"] == "seq_cls":
        for name in ("loss_scale", "acc_strategy"):
            if name in typed:
                yield f"--{name} has no effect with --task_type seq_cls: no token is learned, only the row's label"
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


_ROWS = "no data set is answered"
_NOT_SERVED = (
    ("dataset", _ROWS),
    ("val_dataset", _ROWS),
    ("val_dataset_sample", _ROWS),
    ("metric", _ROWS),
    ("ddp_backend", "one process serves"),
    ("stream", "each request says whether it wants a stream"),
    ("logprobs", "each request says whether it wants them"),
    ("num_beams", "each request says whether it wants beams"),
)


def _not_merged(state: Resolved) -> Iterator[tuple[str, str]]:
    for name, spec in specs(state.made).items():
        if spec.group in ("data", "generation"):
            yield name, "no rows are read and no answers made"


def is_interactive(args: InferCommand) -> bool:
    """Where there is nothing to evaluate: no validation data set, and no data set of which a part is held out."""
    return not args.data.val_dataset and not (args.data.dataset and args.data.split_dataset_ratio > 0)


def needs_one_process(args: InferCommand) -> str | None:
    """Why several processes cannot do what is asked; None where they can."""
    if is_interactive(args):
        return "several processes (NPROC_PER_NODE) cannot share one conversation; give --val_dataset, or start one process"
    if args.generation.stream:
        return "--stream true shows one answer after the other and needs one process; leave out NPROC_PER_NODE or --stream"
    return None

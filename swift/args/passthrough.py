"""Trainer fields that SWIFT does not declare itself: their names come from the installed transformers' source, read without importing it.

Names that transformers 5 dropped or renamed are translated where a translation exists, otherwise refused with the reason.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from swift.args import convert
from swift.args.field import Facts
from swift.args.spec import ArgSpec

WAITING = frozenset({
    "fsdp", "fsdp_config", "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap", "parallelism_config",
    "activation_checkpointing_kwargs", "hub_strategy", "hub_always_push", "hub_revision",
    "push_to_hub_token", "push_to_hub_model_id", "push_to_hub_organization",
    "torch_compile_backend", "torch_compile_mode", "torchdynamo",
    "liger_kernel_config",
    "generation_max_length", "generation_num_beams", "generation_config", "sortish_sampler",
})  # fmt: skip

RENAMED = {
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}

OBSOLETE = {  # accepted with a note
    "overwrite_output_dir": "nothing is overwritten while --add_version is true, and nothing is ever deleted",
    "group_by_length": "it saves padding, and rows are laid end to end without padding here",
    "use_mps_device": "an Apple GPU is used where there is one",
    "include_tokens_per_second": "tokens per second are always shown",
    "use_legacy_prediction_loop": "there is one evaluation loop",
    "do_train": "swift pt and swift sft always train",
    "do_eval": "--eval_strategy says whether the validation rows are evaluated",
    "do_predict": "swift infer predicts",
}

REFUSED = {  # dropped by transformers 5, or at odds with exact sums; false and 0 change nothing and are accepted
    "auto_find_batch_size": "it would change which rows make a step",
    "label_smoothing_factor": "losses are exact weighted sums, which it would change behind their back",
    "fp16_opt_level": "transformers 5 dropped Apex; use --fp16 or --bf16",
    "fp16_backend": "transformers 5 dropped it; use --fp16 or --bf16",
    "half_precision_backend": "transformers 5 dropped it; use --fp16 or --bf16",
    "past_index": "transformers 5 dropped it",
    "jit_mode_eval": "transformers 5 dropped it",
    "use_ipex": "transformers 5 dropped it",
    "tpu_num_cores": "SWIFT does not run on TPUs",
    "tpu_metrics_debug": "SWIFT does not run on TPUs",
    "mp_parameters": "transformers 5 dropped it",
    "ray_scope": "transformers 5 dropped it",
    "sharded_ddp": "transformers 5 dropped it; use --deepspeed once it is built",
    "dispatch_batches": "use --accelerator_config '{\"dispatch_batches\": …}'",
    "split_batches": "use --accelerator_config '{\"split_batches\": …}'",
}

_FLAGS = ("no_cuda", "save_safetensors", "include_inputs_for_metrics", "adafactor")
_OWN_TRANSLATION = (*_FLAGS, "train_sampler_random", "include_num_input_tokens_seen", "logging_dir")


def known(name: str) -> bool:
    """Whether a name is a Trainer field that passes through, or is answered here."""
    return name in (*RENAMED, *OBSOLETE) or name in REFUSED or name in _OWN_TRANSLATION or name in fields()


def names() -> set[str]:
    """Every name that `known` answers, for suggestions."""
    return {*RENAMED, *OBSOLETE, *REFUSED, *_OWN_TRANSLATION, *fields()}


def translate(name: str, value: Any, *, words: bool) -> tuple[dict[str, Any], str | None]:
    """({field: value}, note) of one given Trainer field. ValueError says why it is refused."""
    if name in OBSOLETE:
        return {}, f"--{name} has no effect: {OBSOLETE[name]}"
    name = RENAMED.get(name, name)
    if name == "train_sampling_strategy":
        return _sampling_strategy(
            _convert(_plain(name, "text", ("random", "sequential", "group_by_length", "batch_rebalance")), value, words)
        )
    if name in fields() and name not in _OWN_TRANSLATION and name not in REFUSED:
        return {name: _convert(spec_of(name), value, words)}, None
    if name in ("train_sampler_random", *_FLAGS):
        return _dropped_flag(name, _convert(_plain(name, "bool"), value, words))
    if name == "include_num_input_tokens_seen":
        word = _convert(_plain(name, "text", ("all", "non_padding", "no", "true", "false")), value, words)
        return {name: word not in ("no", "false")}, None  # nothing is padded, so non_padding are all
    if name == "logging_dir":
        return {name: _convert(_plain(name, "text"), value, words)}, None
    if name in fields() and not _convert(spec_of(name), value, words):
        return {}, None
    if name in ("fp16_backend", "half_precision_backend") and _convert(_plain(name, "text"), value, words) == "auto":
        return {}, None
    raise ValueError(f"is not supported: {REFUSED[name]}")


def _sampling_strategy(word: str) -> tuple[dict[str, Any], str | None]:
    if word in ("group_by_length", "batch_rebalance"):
        return {}, f"--train_sampling_strategy {word} has no effect: {OBSOLETE['group_by_length']}"
    return {"train_sampling_strategy": word}, None


def _dropped_flag(name: str, on: bool) -> tuple[dict[str, Any], str | None]:
    if name == "save_safetensors":
        if not on:
            raise ValueError("false is not supported: weights are always written as safetensors (transformers 5 dropped the other format)")
        return {}, None
    if name == "train_sampler_random":
        return ({} if on else {"train_sampling_strategy": "sequential"}), None
    meaning = {
        "no_cuda": {"use_cpu": True},
        "include_inputs_for_metrics": {"include_for_metrics": ["inputs"]},
        "adafactor": {"optim": "adafactor"},
    }
    return (meaning[name] if on else {}), None


def _convert(spec: ArgSpec, value: Any, words: bool) -> Any:
    return convert.from_words(spec, value) if words else convert.from_value(spec, value)


def _plain(name: str, kind: Any, choices: tuple[str, ...] = ()) -> ArgSpec:
    return ArgSpec(name, "trainer", kind, False, None, Facts(help="", choices=choices, empty=True))


def spec_of(name: str) -> ArgSpec:
    """A Trainer field as a flag: its type as far as the annotation says, its choices where it is an enumeration."""
    parts = _union(fields()[name])
    optional = "None" in parts
    parts -= {"None"}
    kind = "words"
    if parts <= {"int", "float"}:
        kind = "number" if len(parts) == 2 else parts.pop()
    elif parts == {"bool"}:
        kind = "bool"
    elif any(part.startswith("dict") for part in parts):
        kind = "dict"
    elif parts and all(part.startswith("list") for part in parts):
        kind = "list"
    choices = next((enumerations()[part] for part in sorted(parts) if part in enumerations()), ()) if kind == "words" else ()
    return ArgSpec(name, "trainer", kind, optional, None, Facts(help="", choices=choices, empty=True))  # type: ignore[arg-type]


def _union(annotation: ast.expr) -> set[str]:
    if isinstance(annotation, ast.BinOp):
        return _union(annotation.left) | _union(annotation.right)
    return {ast.unparse(annotation)}


@cache
def _source(file: str) -> ast.Module | None:
    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).with_name(file)
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


@cache
def fields() -> Mapping[str, ast.expr]:
    """Field → annotation of the installed Seq2SeqTrainingArguments; empty where transformers is not installed."""
    found: dict[str, ast.expr] = {}
    for file, name in (("training_args.py", "TrainingArguments"), ("training_args_seq2seq.py", "Seq2SeqTrainingArguments")):
        for node in getattr(_source(file), "body", []):
            if isinstance(node, ast.ClassDef) and node.name == name:
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        found[line.target.id] = line.annotation
    return found


@cache
def enumerations() -> Mapping[str, tuple[str, ...]]:
    """Enumeration → its words, of those that Trainer fields use (SchedulerType, OptimizerNames …)."""
    found: dict[str, tuple[str, ...]] = {}
    for file in ("training_args.py", "trainer_utils.py"):
        for node in getattr(_source(file), "body", []):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "ExplicitEnum" for base in node.bases):
                found[node.name] = tuple(
                    line.value.value
                    for line in node.body
                    if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
                )
    return found

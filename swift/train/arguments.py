"""Our arguments -> transformers.Seq2SeqTrainingArguments, in one function."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import HfArgumentParser, Seq2SeqTrainingArguments

from swift import dist
from swift.errors import UsageError

if TYPE_CHECKING:
    from swift.args.commands import SftCommand

# 5.23 calls it by a new name and warns about the old one; 5.17 knows the old one only
RECOMPUTE = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in {f.name for f in fields(Seq2SeqTrainingArguments)}
)
SAME_NAME = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "weight_decay", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "logging_first_step", "logging_steps", "metric_for_best_model", "greater_is_better", "num_train_epochs",
    "gradient_accumulation_steps", "save_strategy", "save_steps", "eval_steps", "max_steps", "save_on_each_node",
    "save_only_model", "dataloader_num_workers", "max_grad_norm", "report_to",
)  # fmt: skip


def grow_segments() -> None:
    """Have torch's allocator enlarge its segments instead of taking new ones: steps of ever other lengths would leave holes between them.

    To be called before anything is on a GPU. What the user set stays.
    """
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def trainer_arguments(
    args: SftCommand, output_dir: Path, *, dtype: torch.dtype, evaluate: bool, recompute: bool
) -> Seq2SeqTrainingArguments:
    """What the Trainer is told. `output_dir` is the versioned folder, `dtype` that of the weights, `evaluate` whether there are rows for it,
    `recompute` whether whole layers are computed again in backward.

    Raises UsageError where transformers refuses a word that was passed through.
    """
    given = passthrough(args.trainer.passthrough)
    pinned = torch.cuda.is_available() and bool(given.get("dataloader_pin_memory", True))
    told: dict[str, Any] = {name: getattr(args.trainer, name) for name in SAME_NAME}
    told |= {
        "output_dir": str(output_dir),
        "seed": args.runtime.seed,
        "data_seed": args.data.data_seed,
        "eval_strategy": args.trainer.eval_strategy if evaluate else "no",
        "ddp_find_unused_parameters": bool(args.trainer.ddp_find_unused_parameters),
        "warmup_steps": args.trainer.warmup_ratio,  # below 1 it is a ratio
        RECOMPUTE: recompute,
        f"{RECOMPUTE}_kwargs": {"use_reentrant": False} | (args.trainer.gradient_checkpointing_kwargs or {}),
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "use_cpu": not torch.cuda.is_available(),
        "average_tokens_across_devices": False,  # our sums are always divided by global counts
        # a batch is copied to the GPU while the step before is computed: otherwise the copy would wait for its end
        "accelerator_config": {"dispatch_batches": False, "non_blocking": pinned},
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,  # it would look at the loss, and so wait for the device, at every step
        "disable_tqdm": True,  # our own progress bar
        "use_cache": True,  # of the saved config.json; training itself asks for no cache
        "run_name": str(output_dir),
        "dataloader_pin_memory": pinned,
    }
    if not evaluate:
        told["metric_for_best_model"] = told["greater_is_better"] = None
    os.environ.setdefault(dist.THREADS, "false")  # rows are encoded by now, and a DataLoader's processes are forked
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(given.pop("logging_dir", None) or output_dir / "runs")  # the only way transformers reads it
    if isinstance(given.get("accelerator_config"), dict):
        given["accelerator_config"] = told["accelerator_config"] | given["accelerator_config"]
    return Seq2SeqTrainingArguments(**(told | given))


def computing_dtype(args: SftCommand, dtype: torch.dtype) -> torch.dtype:
    """What products are computed in: the dtype of the weights, unless --bf16 true or --fp16 true says otherwise (float32 weights are then kept)."""
    asked = passthrough({name: value for name, value in args.trainer.passthrough.items() if name in ("bf16", "fp16")})
    return torch.bfloat16 if asked.get("bf16") else torch.float16 if asked.get("fp16") else dtype


def needs_input_gradients(args: SftCommand, *, recompute: bool) -> bool:
    """Whether layers are computed again in the old, reentrant way, which passes gradients on only where its input asks for one."""
    return recompute and bool((args.trainer.gradient_checkpointing_kwargs or {}).get("use_reentrant"))


def passthrough(words: dict[str, Any]) -> dict[str, Any]:
    """Fields that only transformers knows, converted by its own types. Raises UsageError with transformers' own words."""
    converted = {name: value for name, value in words.items() if not _is_text(value)}
    argv = [
        word for name, value in words.items() if _is_text(value) for word in (f"--{name}", *([value] if isinstance(value, str) else value))
    ]
    argv = [word for word in argv if word != ""]
    if not argv:
        return converted
    parser = HfArgumentParser(Seq2SeqTrainingArguments, exit_on_error=False)  # type: ignore[arg-type]
    try:
        namespace, _ = parser.parse_known_args([*argv, "--output_dir", "."])
    except Exception as error:
        raise UsageError(f"a trainer argument is wrong: {error}") from error
    return converted | {name: getattr(namespace, name) for name in words if hasattr(namespace, name)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(word, str) for word in value))

"""Groups of the training loop: the Trainer's arguments under SWIFT's defaults, and what is SWIFT's own."""

# ruff: noqa: RUF009 (arg and group make dataclass fields)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from swift.args.field import arg

TRACKERS = (
    "tensorboard", "wandb", "mlflow", "comet_ml", "clearml", "codecarbon", "dagshub", "dvclive", "flyte", "azure_ml", "neptune", "trackio",
    "all", "none",
)  # fmt: skip


@dataclass(frozen=True)
class TrainerArgs:
    """What transformers' Trainer reads, with SWIFT's defaults; read by train/arguments.py."""

    output_dir: str | None = arg(
        None, "Folder for checkpoints and logs; with --add_version a folder per run is made in it.", hot=True, shown="output/<model name>"
    )
    gradient_checkpointing: bool | None = arg(
        None,
        "Recompute whole layers in the backward pass to save memory.",
        hot=True,
        shown="automatic, from a model of the memory; true and false are obeyed",
    )
    per_device_train_batch_size: int = arg(1, "Rows per device and micro-batch in training.", hot=True, low=1)
    per_device_eval_batch_size: int = arg(1, "Rows per device and batch in evaluation.", hot=True, low=1)
    weight_decay: float = arg(0.1, "Weight decay of the optimizer.", low=0)
    learning_rate: float | None = arg(None, "Peak learning rate.", hot=True, low=0, shown="1e-5 for full, 1e-4 for adapters")
    lr_scheduler_type: str = arg(
        "cosine", "How the learning rate changes: linear, cosine, constant, constant_with_warmup and the others of transformers."
    )
    lr_scheduler_kwargs: dict | None = arg(None, "Further parameters of the scheduler, as JSON or a JSON file.")
    gradient_checkpointing_kwargs: dict | None = arg(
        None, "Parameters for torch.utils.checkpoint, as JSON: '{\"use_reentrant\": false}'.", hot=True
    )
    report_to: list[str] = arg(
        ["tensorboard"], "Trackers that receive the metrics: tensorboard, wandb, …; all (those installed) or none.",
        choices=TRACKERS, waiting=("swanlab",),
    )  # fmt: skip
    logging_first_step: bool = arg(True, "Log the first step too.")
    logging_steps: int | float = arg(5, "Steps between log lines; below 1, a share of all steps.", above=0)
    metric_for_best_model: str | None = arg(None, "Metric that says which checkpoint is best.", shown="loss")
    greater_is_better: bool | None = arg(
        None, "Whether more of that metric is better.", shown="false where its name contains 'loss', else true"
    )
    num_train_epochs: int | float = arg(3, "Passes over the training rows.", hot=True, above=0)
    gradient_accumulation_steps: int = arg(1, "Micro-batches that make one optimizer step.", hot=True, low=1)
    save_strategy: Literal["no", "steps", "epoch"] = arg("steps", "When checkpoints are written.", hot=True)
    save_steps: int | float = arg(500, "Steps between checkpoints; below 1, a share of all steps.", hot=True, above=0)
    eval_strategy: Literal["no", "steps", "epoch"] | None = arg(
        None, "When the validation rows are evaluated.", hot=True, aliases=("evaluation_strategy",), shown="as --save_strategy"
    )
    eval_steps: int | float | None = arg(
        None, "Steps between evaluations; below 1, a share of all steps.", hot=True, above=0, shown="as --save_steps"
    )
    save_total_limit: int | None = arg(
        None, "Most checkpoints that are kept; older ones are deleted.", hot=True, low=1, shown="all are kept"
    )
    max_steps: int = arg(-1, "Optimizer steps after which training ends, whatever --num_train_epochs says; -1 for no limit.", low=-1)
    warmup_ratio: float = arg(0.0, "Share of all steps over which the learning rate rises from 0.", hot=True, low=0, high=1)
    save_on_each_node: bool = arg(False, "Every node writes checkpoints, for nodes that share no disk.")
    save_only_model: bool = arg(False, "Checkpoints hold the weights only; training cannot be resumed from them.")
    resume_from_checkpoint: str | None = arg(
        None, "Checkpoint folder from which weights, optimizer, random state and position in the data are taken up again.", hot=True
    )
    ddp_backend: Literal["nccl", "gloo", "mpi", "ccl", "hccl", "cncl", "mccl"] | None = arg(
        None, "How processes talk to each other.", hot=True, shown="nccl on GPUs, gloo on CPU"
    )
    ddp_find_unused_parameters: bool | None = arg(None, "Passed to DistributedDataParallel.", hot=True, shown="as the Trainer decides")
    dataloader_num_workers: int = arg(0, "Processes that load batches beside training; 0 loads in the training process.", hot=True, low=0)
    average_tokens_across_devices: bool = arg(
        False, "Accepted for the sake of scripts: sums are always divided by the exact count over all devices."
    )
    max_grad_norm: float = arg(1.0, "Gradients are scaled down to this norm; 0 leaves them as they are.", low=0)
    passthrough: dict[str, Any] = field(default_factory=dict)  # every other Seq2SeqTrainingArguments field that was given


def _read_checkpointing(word: str) -> str:
    """true and false are transformers' words for it."""
    low = {"true": "full", "false": "none"}.get(word.lower(), word.lower())
    if low not in ("none", "selective", "full", "offload", "auto"):
        raise ValueError("expected none, selective, full, offload or auto")
    return low


@dataclass(frozen=True)
class TrainingArgs:
    """What SWIFT itself does in a training run; read by commands/sft.py, train/checkpoint.py and data/."""

    add_version: bool = arg(True, "Make a folder v<number>-<time> in --output_dir for each run, so that nothing is overwritten.")
    resume_only_model: bool = arg(
        False, "With --resume_from_checkpoint, take the weights only: optimizer, random state and data start afresh."
    )
    check_model: bool = arg(True, "Check the model's files for completeness before training.")
    create_checkpoint_symlink: bool = arg(False, "Make links 'best' and 'last' in the output folder.", hot=True)
    packing: bool = arg(False, "Fill rows up to --max_length with several samples that do not see each other.")
    lazy_tokenize: bool | None = arg(
        None, "Make tokens while training instead of before.", hot=True, shown="false for text models, true for multimodal ones"
    )
    activation_checkpointing: Literal["none", "selective", "full", "offload", "auto"] | None = arg(
        None,
        "What of the activations is computed again in the backward pass to save memory: nothing, what is cheap (compiled layers only), whole "
        "layers, whole layers with their inputs kept in the computer's memory (offload), or the least that fits the GPU (auto). Goes before "
        "--gradient_checkpointing.",
        read=_read_checkpointing,
        shown="auto",
    )
    micro_batch_tokens: int | None = arg(
        None,
        "Most tokens that are computed together: the rows of a step (--per_device_train_batch_size times --gradient_accumulation_steps) are "
        "regrouped into micro-batches of about equal size, which changes the speed and not the result. A longer row is one by itself; 0 "
        "leaves them as --per_device_train_batch_size says.",
        low=0,
        shown="as many as fit, up to 16384, on a GPU; 0 on CPU",
    )
    torch_compile: bool | None = arg(
        None, "Compile the model's layers at the first step; the steps are faster from then on.", shown="true on a GPU where it can be done"
    )
    use_liger: bool = arg(
        False,
        "Use liger-kernel's norms, rotary embedding and MLP where layers are not compiled; compiled ones have them fused already.",
        aliases=("use_liger_kernel",),
    )
    acc_strategy: Literal["token", "seq"] = arg("token", "Accuracy counts right tokens, or rows that are right as a whole (seq).")

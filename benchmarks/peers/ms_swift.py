"""ms-swift through its own command line. Its package is called `swift` as well: it needs an environment folder of its own.

As it comes: rows padded to the longest of 8, recomputation on. At its fastest: packed rows, FlashAttention, Liger's kernels. It counts
places, padding among them, which packed rows have none of; for padded ones tokens are taken as the mean length of a row for each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from benchmarks.peers.job import Job, Line, run_command, step_of


def words(job: Job, *, gpu: bool) -> list[str]:
    given: dict[str, Any] = dict(
        model=job.model, model_type="qwen2", template="chatml", dataset=job.rows, split_dataset_ratio=0, max_length=job.tokens,
        torch_dtype="bfloat16" if gpu else "float32", tuner_type=job.train_type, learning_rate=1e-4 if job.train_type == "lora" else 1e-5,
        max_steps=job.steps, logging_steps=job.every, save_strategy="no", warmup_ratio=0, gradient_accumulation_steps=1,
        per_device_train_batch_size=job.batch, output_dir=job.output, check_model="false", report_to="none",
        include_num_input_tokens_seen="true", dataset_num_proc=4,
    )  # fmt: skip
    if job.train_type == "lora":
        given |= dict(lora_rank=8, lora_alpha=32, target_modules="all-linear")
    if job.fastest:
        given |= dict(packing="true", per_device_train_batch_size=1)
        given |= dict(lora_dropout=0) if job.train_type == "lora" else {}
        given |= dict(attn_impl="flash_attn", use_liger_kernel="true") if gpu else {}
    if job.recompute is not None:
        given["gradient_checkpointing"] = str(job.recompute).lower()
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def reader(job: Job) -> Callable[[dict[str, Any], float], Line | None]:
    def read(record: dict[str, Any], at: float) -> Line | None:
        if "loss" not in record:
            return None
        step = step_of(record)
        seen = record["num_input_tokens_seen"] if job.fastest else step * job.batch * job.mean
        return Line(at, step, record["loss"], seen=int(seen))

    return read


if __name__ == "__main__":
    import torch

    assert importlib.util.find_spec("swift.cli.sft"), "ms-swift is not installed here"
    told = Job.told()
    run_command("ms-swift", told, "swift.cli.sft", words(told, gpu=torch.cuda.is_available()), "logging.jsonl", reader(told))

"""LLaMA-Factory through its own command line, with the options that its documentation names.

As it comes: rows padded to the longest of 8, recomputation on. At its fastest: packed rows that do not see each other, FlashAttention,
Liger's kernels; it fills each pack up to the length that was asked, and those few places count as tokens here. The releases of
transformers that it admits are older than the other peers': wheels.sh brings one along.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.peers.job import Job, Line, run_command


def options(job: Job, *, gpu: bool) -> dict[str, Any]:
    """The keys of its configuration file."""
    data = Path(job.output) / "data"
    data.mkdir(parents=True, exist_ok=True)
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = {"file_name": job.rows, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (data / "dataset_info.json").write_text(json.dumps({"rows": entry}))
    found: dict[str, Any] = dict(
        stage="sft", do_train=True, model_name_or_path=job.model, dataset="rows", dataset_dir=str(data), template="qwen", cutoff_len=job.tokens,
        finetuning_type=job.train_type, learning_rate=1e-4 if job.train_type == "lora" else 1e-5, bf16=gpu, max_steps=job.steps,
        logging_steps=job.every, logging_first_step=True, save_strategy="no", per_device_train_batch_size=job.batch,
        gradient_accumulation_steps=1, output_dir=job.output, report_to="none", include_num_input_tokens_seen="all" if job.fastest else "non_padding",
    )  # fmt: skip
    if job.train_type == "lora":
        found |= dict(lora_rank=8, lora_alpha=32, lora_target="all")
    if job.fastest:
        found |= dict(packing=True, neat_packing=True, per_device_train_batch_size=1)
        found |= dict(flash_attn="fa2", enable_liger_kernel=True) if gpu else {}
    if job.recompute is not None:
        found["disable_gradient_checkpointing"] = not job.recompute
    return found


def read(record: dict[str, Any], at: float) -> Line | None:
    if "loss" not in record:
        return None
    return Line(at, int(record.get("current_steps", 0)), record["loss"], seen=int(record.get("total_tokens", 0)))


if __name__ == "__main__":
    import torch

    told = Job.told()
    written = Path(told.output) / "options.yaml"  # JSON is YAML too; it reads .json files wrongly
    chosen = options(told, gpu=torch.cuda.is_available())
    os.environ["DISABLE_VERSION_CHECK"] = "1"  # its own switch: the machine's accelerate is newer than it has tried
    written.write_text(json.dumps(chosen))
    run_command("llama-factory", told, "llamafactory.cli", ["train", str(written)], "trainer_log.jsonl", read)

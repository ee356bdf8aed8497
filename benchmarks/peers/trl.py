"""TRL's SFTTrainer. As it comes: rows padded to the longest of 8. At its fastest: packed rows, FlashAttention, Liger's kernels.

It learns every token of a conversation; the words are drawn alike for questions and answers, so its loss falls as the others' do.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.peers.clock import Clock, run_trainer, trainer_options
from benchmarks.peers.job import Job


def main() -> None:
    job, gpu = Job.told(), torch.cuda.is_available()
    rows = load_dataset("json", data_files=job.rows, split="train")
    told: dict[str, Any] = trainer_options(job, gpu=gpu)
    flash = job.fastest and gpu
    told["model_init_kwargs"] = dict(
        dtype=torch.bfloat16 if gpu else torch.float32, attn_implementation="flash_attention_2" if flash else "sdpa"
    )
    if flash:
        told["use_liger_kernel"] = True
    if job.fastest:
        told["packing_strategy"] = "bfd"
    if job.recompute is not None:
        told["gradient_checkpointing"] = job.recompute
    adapter = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear") if job.train_type == "lora" else None
    clock = Clock()
    trainer = SFTTrainer(model=job.model, args=SFTConfig(**told), train_dataset=rows, peft_config=adapter, callbacks=[clock])
    run_trainer("trl", job, trainer, clock)


if __name__ == "__main__":
    main()

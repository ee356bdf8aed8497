"""Unsloth: its model and kernels under TRL's trainer. As it comes: rows of 8, its own offloading recomputation. At its fastest: packed rows.

It learns every token of a conversation, and needs a GPU.
"""

from __future__ import annotations

import os

os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"  # it would ask a hub when it is imported

from unsloth import FastLanguageModel  # before TRL and transformers: it replaces parts of them

# isort: split
import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from benchmarks.peers.clock import Clock, run_trainer, trainer_options
from benchmarks.peers.job import Job

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    job = Job.told()
    full = job.train_type == "full"
    recompute = "unsloth" if job.recompute in (None, True) else False
    model, tokenizer = FastLanguageModel.from_pretrained(
        job.model,
        max_seq_length=job.tokens,
        dtype=torch.bfloat16,
        load_in_4bit=False,
        full_finetuning=full,
        use_gradient_checkpointing=recompute,
    )
    if not full:
        model = FastLanguageModel.get_peft_model(
            model, r=8, lora_alpha=32, lora_dropout=0, target_modules=LINEAR, use_gradient_checkpointing=recompute
        )

    def text(row: dict) -> dict:
        return {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}

    rows = load_dataset("json", data_files=job.rows, split="train").map(text, remove_columns=["messages"])
    clock = Clock()
    told = SFTConfig(**trainer_options(job, gpu=True))
    run_trainer(
        "unsloth", job, SFTTrainer(model=model, processing_class=tokenizer, args=told, train_dataset=rows, callbacks=[clock]), clock
    )


if __name__ == "__main__":
    main()

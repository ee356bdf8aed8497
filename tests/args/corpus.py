"""The flag sets of the example scripts that existing users start from (scripts.json: facts, no text), as command lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPTS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("scripts.json").read_text(encoding="utf-8"))

# What such scripts write after each flag.
VALUES: dict[str, str | list[str]] = {
    "adapters": "output/vx-xxx/checkpoint-xxx", "attn_impl": "flash_attn", "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "bfloat16", "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": "true",
    "custom_register_path": ["examples/custom/dataset.py", "examples/custom/model.py"], "dataloader_drop_last": "true",
    "dataloader_num_workers": "4", "dataset": ["AI-ModelScope/alpaca-gpt4-data-zh#500", "swift/self-cognition#500"],
    "dataset_num_proc": "4",
    "deepspeed": "zero2", "eval_steps": "50", "eval_strategy": "steps", "freeze_vit": "true", "galore_optim_per_parameter": "false",
    "galore_quantization": "true", "gpu_memory_utilization": "0.9", "gradient_accumulation_steps": "16", "gradient_checkpointing": "true",
    "gradient_checkpointing_kwargs": '{"use_reentrant": false}', "greater_is_better": "true", "infer_backend": "pt",
    "init_lora_weights": "pissa", "init_weights": "true", "label_names": "labels", "lazy_tokenize": "true", "learning_rate": "1e-4",
    "limit_mm_per_prompt": '{"image": 5, "video": 2}', "lisa_activated_layers": "2", "llamapro_num_new_blocks": "4",
    "load_data_args": "true", "logging_steps": "5", "lora_alpha": "32", "lora_ga_batch_size": "2", "lora_ga_direction": "ArB2r",
    "lora_ga_iters": "2", "lora_ga_max_length": "1024", "lora_ga_scale": "stable", "lora_ga_stable_gamma": "16", "lora_rank": "8",
    "loss_scale": "all", "loss_type": "loss_scale", "max_batch_size": "16", "max_length": "2048", "max_model_len": "8192",
    "max_new_tokens": "2048", "max_steps": "1000", "metric_for_best_model": "rouge-l", "model": "Qwen/Qwen2.5-7B-Instruct",
    "model_author": ["魔搭", "ModelScope"], "model_name": ["小黄", "Xiao Huang"], "neftune_noise_alpha": "15", "num_labels": "2",
    "num_train_epochs": "1", "optimizer": "muon", "output_dir": "output", "packing": "true", "per_device_eval_batch_size": "1",
    "per_device_train_batch_size": "1", "predict_with_generate": "true", "quant_bits": "4", "quant_method": "bnb",
    "reft_intervention_type": "LoreftIntervention", "save_steps": "50", "save_total_limit": "2", "sequence_parallel_size": "8",
    "stream": "true", "streaming": "true", "system": "You are a helpful assistant.", "target_modules": "all-linear", "task_type": "seq_cls",
    "temperature": "0", "template": "qwen2_5", "tensor_parallel_size": "2", "tools_prompt": "toolbench", "top_k": "1",
    "torch_dtype": "bfloat16", "tp": "2", "train_type": "lora", "truncation_strategy": "right", "tuner_backend": "unsloth",
    "use_chat_template": "false", "use_dora": "true", "use_galore": "true", "use_liger": "true",
    "val_dataset": "AI-ModelScope/alpaca-gpt4-data-en#100",
    "vision_batch_size": "8", "warmup_ratio": "0.05", "weight_decay": "0.1",
}  # fmt: skip


def words(script: dict[str, Any]) -> list[str]:
    values = VALUES | script.get("values", {})
    return [
        word for flag in script["flags"] for word in (f"--{flag}", *([values[flag]] if isinstance(values[flag], str) else values[flag]))
    ]

#!/usr/bin/env bash
# LoRA on Qwen2.5-7B-Instruct with one GPU: train, ask, merge. Downloads the model (15 GB) and the first data set from ModelScope.
set -euo pipefail

CUDA_VISIBLE_DEVICES=0 swift sft \
  --model Qwen/Qwen2.5-7B-Instruct \
  --train_type lora \
  --dataset 'AI-ModelScope/alpaca-gpt4-data-zh#500' 'swift/self-cognition#500' \
  --model_name 小雨 Aria \
  --model_author 蓝队 'the Blue Team' \
  --torch_dtype bfloat16 \
  --num_train_epochs 1 \
  --learning_rate 1e-4 \
  --lora_rank 8 \
  --lora_alpha 32 \
  --target_modules all-linear \
  --gradient_accumulation_steps 16 \
  --warmup_ratio 0.05 \
  --max_length 2048 \
  --eval_steps 50 \
  --save_steps 50 \
  --save_total_limit 2 \
  --create_checkpoint_symlink true \
  --add_version false \
  --output_dir output/qwen2_5

# the adapter's folder says which model it belongs to
CUDA_VISIBLE_DEVICES=0 swift infer --adapters output/qwen2_5/last --stream true --temperature 0 --max_new_tokens 2048

# merge the adapter into the model, and answer with what was merged
CUDA_VISIBLE_DEVICES=0 swift infer --adapters output/qwen2_5/last --merge_lora true --stream true

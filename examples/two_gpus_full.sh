#!/usr/bin/env bash
# All weights of Qwen2.5-0.5B-Instruct on two GPUs, several rows packed into each stretch of 4,096 tokens.
set -euo pipefail

NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1 swift sft \
  --model Qwen/Qwen2.5-0.5B-Instruct \
  --train_type full \
  --dataset 'AI-ModelScope/alpaca-gpt4-data-en#5000' \
  --torch_dtype bfloat16 \
  --packing true \
  --max_length 4096 \
  --num_train_epochs 1 \
  --learning_rate 1e-5 \
  --warmup_ratio 0.05 \
  --output_dir output/two_gpus

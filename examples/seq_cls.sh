#!/usr/bin/env bash
# Teach the built-in nano model to sort sentences into four classes, and count how many it gets right. No network, no GPU, about a minute.
# Another model: --model Qwen/Qwen2.5-0.5B-Instruct. One number instead of classes: --num_labels 1 and numbers as labels.
set -euo pipefail

output=${SEQ_CLS_OUTPUT:-output/seq_cls}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

swift sft \
  --model swift/nano \
  --dataset swift/nano-classification \
  --split_dataset_ratio 0.1 \
  --num_labels 4 \
  --train_type lora \
  --max_steps 60 \
  --learning_rate 2e-3 \
  --per_device_train_batch_size 16 \
  --eval_steps 20 \
  --save_steps 20 \
  --metric_for_best_model acc \
  --create_checkpoint_symlink true \
  --add_version false \
  --output_dir "$output"

swift infer \
  --adapters "$output/best" \
  --val_dataset "$output/val_dataset.jsonl" \
  --metric acc \
  --logprobs true \
  --result_path "$output/answers.jsonl"

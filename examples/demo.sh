#!/usr/bin/env bash
# Teach the built-in nano model who it is, and ask it the same questions before and after. No network, no GPU, about a minute.
set -euo pipefail

ask() {
  printf '%s\n' 'Who are you?' 'Who made you?' '你是谁？' | swift infer --result_path output/demo/answers.jsonl "$@" 2>/dev/null
}

echo '== before =='
ask --model swift/nano

swift sft \
  --model swift/nano \
  --dataset swift/self-cognition swift/nano-chat#300 \
  --model_name 小雨 Aria \
  --model_author 蓝队 'the Blue Team' \
  --num_train_epochs 6 \
  --learning_rate 2e-3 \
  --per_device_train_batch_size 16 \
  --output_dir output/demo \
  --add_version false \
  --create_checkpoint_symlink true

echo '== after =='
ask --adapters output/demo/last
echo 'The curve of the loss is in output/demo/images/train_loss.png'

#!/usr/bin/env bash
# Teach the built-in nano model a new name, and ask it the same questions before and after. No network, no GPU, about a minute.
# A second run replaces the first. DEMO_OUTPUT (a folder) and DEMO_EPOCHS change what their names say.
set -euo pipefail

output=${DEMO_OUTPUT:-output/demo}
questions=('Who are you?' 'Who made you?' '你是谁？' 'What is 12 + 30?')
rm -rf "$output"/checkpoint-*
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # enough for a model this small, and steady where the cores are busy

ask() {
  local answers
  # What swift infer prints to a pipe is the answer and a line of dashes; what was typed is not echoed.
  answers=$(printf '%s\n' "${questions[@]}" |
    LOG_LEVEL=ERROR swift infer --max_new_tokens 40 --result_path "$output/answers.jsonl" "$@" |
    grep -v -e '^-*$')
  paste -d '\n' <(printf 'Q: %s\n' "${questions[@]}") <(sed 's/^/A: /' <<<"$answers")
}

echo '== before =='
ask --model swift/nano

echo '== training =='
swift sft \
  --model swift/nano \
  --dataset swift/self-cognition swift/nano-chat#150 \
  --model_name 小雨 Aria \
  --model_author 蓝队 'the Blue Team' \
  --num_train_epochs "${DEMO_EPOCHS:-4}" \
  --learning_rate 2e-3 \
  --per_device_train_batch_size 16 \
  --create_checkpoint_symlink true \
  --add_version false \
  --output_dir "$output"

echo '== after =='
ask --adapters "$output/last"

echo "The model is in $output/last, its loss curve in $output/images/train_loss.png. Talk to it: swift infer --adapters $output/last"

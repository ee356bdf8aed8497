"""Training speed on one GPU through the real command line: `python benchmarks/train.py --size 7b [--folder F] [--steps 40]`.

Makes a random-weight model of that shape (the speed of a step does not depend on the values of the weights) with nano's tokenizer and rows of
instruction-like lengths, runs `swift sft` with each of the settings, and prints one table: tokens a second over the last half of the steps,
peak memory, seconds from the command's start to its first step, and the last logged loss, which must agree but for rounding.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=2400),
    "1.5b": dict(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936
    ),
    "7b": dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, vocab_size=152064
    ),
}
LORA = "--train_type lora --lora_rank 8 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear --learning_rate 1e-4".split()  # noqa: SIM905
SETTINGS = {
    "LoRA, as it comes": LORA,
    "LoRA, selective": [*LORA, "--activation_checkpointing", "selective"],
    "LoRA, full checkpointing": [*LORA, "--gradient_checkpointing", "true"],
    "LoRA, not compiled, no checkpointing": [*LORA, "--torch_compile", "false", "--gradient_checkpointing", "false"],
    "full fine-tuning, as it comes": ["--train_type", "full", "--learning_rate", "1e-5"],
}


def make_inputs(folder: Path, size: str, rows: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    from swift.nano import model_path

    AutoTokenizer.from_pretrained(model_path("swift/nano")).save_pretrained(folder / "model")
    config = Qwen2Config(**SHAPES[size], max_position_embeddings=32768, tie_word_embeddings=size != "7b", dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "model")
    chance = random.Random(0)
    words = [chr(97 + i % 26) * (1 + i // 26) for i in range(200)]
    with (folder / "rows.jsonl").open("w") as file:
        for _ in range(rows):
            lengths = (int(min(most, chance.lognormvariate(mean, 0.85))) + 4 for most, mean in ((600, 3.6), (1400, 4.4)))
            asked, answered = (" ".join(chance.choices(words, k=length)) for length in lengths)
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            file.write(json.dumps({"messages": turns}) + "\n")


def measure(folder: Path, flags: list[str], tokens: int, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as output:
        words = [
            "--model",
            str(folder / "model"),
            "--template",
            "chatml",
            "--dataset",
            str(folder / "rows.jsonl"),
            "--torch_dtype",
            "bfloat16",
        ]
        words += ["--packing", "true", "--max_length", str(tokens), "--gradient_accumulation_steps", "1", "--max_steps", str(steps)]
        words += [
            "--logging_steps",
            "5",
            "--save_strategy",
            "no",
            "--split_dataset_ratio",
            "0",
            "--report_to",
            "none",
            "--dataset_num_proc",
            "4",
        ]
        started = time.time()
        command = [sys.executable, "-m", "swift", "sft", *words, "--output_dir", output, "--add_version", "false", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        lines = [json.loads(line) for line in (Path(output) / "logging.jsonl").read_text().splitlines()]
        ended = time.time()
    logged = [line for line in lines if "loss" in line]
    half = logged[len(logged) // 2 :]
    trained = float(lines[-2].get("train_runtime", 0.0)) if len(lines) > 1 else 0.0
    first = (ended - started) - trained + tokens / max(logged[0]["tokens/s"], 1e-9)
    return {
        "tokens/s": len(half) / sum(1 / line["tokens/s"] for line in half),
        "GiB": max(line["memory(GiB)"] for line in logged),
        "to the first step, s": first,
        "loss": logged[-1]["loss"],
    }


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__)
    wanted.add_argument("--size", choices=SHAPES, default="7b")
    wanted.add_argument("--folder", type=Path, help="where the inputs are made, or lie from an earlier run")
    wanted.add_argument("--tokens", type=int, default=8192, help="of a packed row, which is a step")
    wanted.add_argument("--steps", type=int, default=40)
    wanted.add_argument("--only", default="", help="settings whose name has this in it")
    asked = wanted.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    if not (folder / "rows.jsonl").is_file():
        make_inputs(folder, asked.size, rows=4000)
    print(f"| {asked.size}, {asked.tokens:,} tokens a step | tokens/s | GiB | to the first step, s | loss |\n|---|---|---|---|---|")
    for name, flags in SETTINGS.items():
        if asked.only in name:
            found = measure(folder, flags, asked.tokens, asked.steps)
            print(
                f"| {name} | {found['tokens/s']:,.0f} | {found['GiB']:.1f} | {found['to the first step, s']:.0f} | {found['loss']:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Make the nano model from nothing: corpus, tokenizer, random weights, `swift pt`, `swift sft`, bfloat16, and how often it is right.

python -m scripts.nano.recipe              on one GPU, some ten minutes
python -m scripts.nano.recipe --small      every step on a CPU in a few minutes; the model learns next to nothing
python -m scripts.nano.recipe --install    also put the result into swift/nano/model
python -m scripts.nano.recipe --steps sft store evaluate     go on with what lies in --work
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

INSTALLED = Path(__file__).parents[2] / "swift" / "nano" / "model"
STEPS = ("corpus", "tokenizer", "pt", "sft", "store", "evaluate")
PARTS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@dataclass(frozen=True)
class Size:
    documents: int
    conversations: int
    held_out: int
    pt_epochs: float
    sft_epochs: float
    batch: int  # packed rows of 1,024 tokens in one step
    pt_learning_rate: float = 3e-3
    sft_learning_rate: float = 2e-3
    precision: tuple[str, ...] = ("--bf16", "true")  # float32 weights, products in bfloat16


FULL = Size(documents=40_000, conversations=200_000, held_out=200, pt_epochs=2, sft_epochs=4, batch=64)
SMALL = Size(documents=200, conversations=1_000, held_out=2, pt_epochs=1, sft_epochs=1, batch=4, precision=())


def run(*words: object) -> None:
    """One step, as it would be typed."""
    command = [sys.executable, "-m", *map(str, words)]
    print("$", shlex.join(["python", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def train(command: str, model: Path, rows: Path, out: Path, epochs: float, learning_rate: float, size: Size) -> None:
    shutil.rmtree(out, ignore_errors=True)
    run(
        *("swift", command, "--model", model, "--model_type", "nano", "--train_type", "full", "--torch_dtype", "float32", *size.precision),
        *(
            "--dataset",
            rows,
            "--split_dataset_ratio",
            0,
            "--dataset_num_proc",
            os.cpu_count() or 1,
            "--max_length",
            1024,
            "--packing",
            "true",
        ),
        *("--num_train_epochs", epochs, "--per_device_train_batch_size", size.batch, "--gradient_checkpointing", "false"),
        *("--learning_rate", learning_rate, "--warmup_ratio", 0.1, "--adam_beta2", 0.95, "--weight_decay", 0.1, "--logging_steps", 20),
        *("--output_dir", out, "--add_version", "false", "--save_strategy", "epoch", "--save_only_model", "true", "--save_total_limit", 1),
        *("--create_checkpoint_symlink", "true", "--report_to", "none"),
    )


def store(checkpoint: Path, parts: Path, out: Path) -> None:
    """The checkpoint in bfloat16 with the tokenizer and settings that it began with, readable by everyone."""
    import torch
    from transformers import Qwen2ForCausalLM

    shutil.rmtree(out, ignore_errors=True)
    model = Qwen2ForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    model.save_pretrained(out)
    for name in PARTS:
        shutil.copyfile(parts / name, out / name)
    for path in out.iterdir():
        path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/nano"), help="folder for everything that is made on the way")
    parser.add_argument("--small", action="store_true", help="a short run on a CPU, to see that every step works")
    parser.add_argument("--install", action="store_true", help="put the result into swift/nano/model")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="only these; the others' results are taken from --work")
    args = parser.parse_args()
    size, work = (SMALL if args.small else FULL), args.work
    pt, sft, model = work / "pt", work / "sft", work / "model"

    if "corpus" in args.steps:
        made = ("--documents", size.documents, "--conversations", size.conversations, "--held_out", size.held_out)
        run("scripts.nano.make_corpus", "--out", work, *made)
    if "tokenizer" in args.steps:
        run("scripts.nano.make_tokenizer", "--corpus", work, "--out", work / "tokenizer")
        run("scripts.nano.make_model", "--tokenizer", work / "tokenizer", "--out", work / "random")
    if "pt" in args.steps:
        train("pt", work / "random", work / "pt.jsonl", pt, size.pt_epochs, size.pt_learning_rate, size)
    if "sft" in args.steps:
        train("sft", (pt / "last").resolve(), work / "sft.jsonl", sft, size.sft_epochs, size.sft_learning_rate, size)
    if "store" in args.steps:
        store(sft / "last", work / "random", model)
    if "evaluate" in args.steps:
        run("scripts.nano.evaluate", "--model", model, "--rows", work / "heldout.jsonl", "--wrong", 3, "--card", model / "README.md")
    if args.install:
        shutil.copytree(model, INSTALLED, dirs_exist_ok=True)


if __name__ == "__main__":
    main()

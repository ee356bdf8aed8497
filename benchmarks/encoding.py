"""Rows a second of reading and encoding, beside a bare loop over the tokenizer: `python benchmarks/encoding.py [--rows N] [--memory N]`.

The bare loop is `tokenizer(text)` over texts that are already rendered and in memory; ours reads the file, converts the columns, writes the
conversation, encodes it and lays the loss weights. Both in turn, with the tokenizer's threads as they come (the bare loop has no use for
them) and, with `--threads false`, with one for each side. `--memory N` measures the peak of the process's memory for N generated rows
instead, each way in a process of its own.

The tokenizer is Qwen2.5's where SWIFT_SHARED names the folder with the oracles, else that of swift/nano.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from transformers import AutoTokenizer

from swift.args.base import DataArgs, HubArgs, TemplateArgs
from swift.data.encoded import EncodedRows, EncodedStream, encode_rows
from swift.data.mix import Samples, load_samples
from swift.nano import model_path
from swift.template.formats import chat_formats
from swift.template.template import Template

ROUNDS = 5
WORDS = """the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were
all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time
new some could these two may first then do any like my now over such our man me even most made after also did many off before must well
back through years where much your way down should because long each just state those people too good world government""".split()  # noqa: SIM905


def write_rows(path: Path, number: int, most: int) -> None:
    """Conversations of one round, of 2 to `most` words each."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            question, answer = (" ".join(chance.choices(WORDS, k=chance.randrange(2, most))) for _ in range(2))
            row = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            file.write(json.dumps(row) + "\n")


def load_template(folder: Path) -> Template:
    shared = os.environ.get("SWIFT_SHARED")
    if not shared:
        return Template(chat_formats["chatml"], AutoTokenizer.from_pretrained(str(model_path("swift/nano"))), TemplateArgs(max_length=2048))
    built = folder / "built"
    if not built.exists():
        script = Path(shared) / "oracle" / "tokenizers" / "materialize.py"
        subprocess.run([sys.executable, str(script), "--out", str(built)], check=True, capture_output=True)
    tokenizer = AutoTokenizer.from_pretrained(str(next(built.glob("Qwen--Qwen2.5-*B-Instruct"))))
    return Template(chat_formats["qwen2_5"], tokenizer, TemplateArgs(max_length=2048))


def encoded(path: Path, template: Template, num_proc: int) -> EncodedRows:
    """The way of `swift sft`: prepare_rows of commands/sft.py."""
    loaded = load_samples(DataArgs(dataset=[str(path)], split_dataset_ratio=0.0), HubArgs(), task="sft")
    assert isinstance(loaded.train, Samples)
    return encode_rows(
        loaded.train, template.encode_sample, many=template.encode_many, num_proc=num_proc, strict=False, tally=loaded.tally, let_go=True
    )


def bare_loop(template: Template, texts: list[str]) -> None:
    for text in texts:
        template.tokenizer(text)


def rate(number: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return number / (time.perf_counter() - start)


def throughput(folder: Path, rows: int) -> None:
    template = load_template(folder)
    print(
        f"tokenizer {type(template.tokenizer).__name__}, {len(template.tokenizer):,} tokens; {os.cpu_count()} cores; median of {ROUNDS}\n"
    )
    print("| rows of a question and an answer | tokens a row | bare loop, rows/s | ours | ours / bare | ours with 2 processes | 2 / 1 |")
    print("|---|---|---|---|---|---|---|")
    for most in (20, 120, 400):
        path = folder / f"{most}.jsonl"
        number = rows * 50 // (most + 30)
        write_rows(path, number, most)
        loaded = load_samples(DataArgs(dataset=[str(path)], split_dataset_ratio=0.0), HubArgs(), task="sft")
        texts = ["".join(run.text for run in template.render(sample, reply=False)) for sample in loaded.train or ()]
        ways = {
            "bare": partial(bare_loop, template, texts),
            "one": partial(encoded, path, template, 1),
            "two": partial(encoded, path, template, 2),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):  # in turn, so that other work on the machine hits all alike
            for way, work in ways.items():
                rates[way].append(rate(number, work))
        bare, one, two = (statistics.median(rates[way]) for way in ("bare", "one", "two"))
        ratio = statistics.median(b / a for a, b in zip(rates["bare"], rates["one"], strict=True))
        tokens = encoded(path, template, 1).lengths.mean()
        print(f"| 2 to {most} words each | {tokens:.0f} | {bare:,.0f} | {one:,.0f} | {ratio:.2f} | {two:,.0f} | {two / one:.2f} |")


def memory(folder: Path, number: int) -> None:
    path = folder / "short.jsonl"
    write_rows(path, number, 20)
    load_template(folder)
    print(f"{number:,} generated rows, a file of {path.stat().st_size / 2**20:,.0f} MiB\n")
    print("| way | peak of resident memory, MiB | above the same on 10 rows, MiB | s |")
    print("|---|---|---|---|")
    few = folder / "few.jsonl"
    write_rows(few, 10, 20)
    for way in ("eager", "streaming"):
        peaks = []
        start = time.perf_counter()
        for file in (few, path):
            start = time.perf_counter()
            command = [sys.executable, __file__, "--one", way, str(file), str(folder)]
            peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"| {way} | {peaks[1]:,} | {peaks[1] - peaks[0]:,} | {time.perf_counter() - start:,.0f} |", flush=True)


def one(way: str, path: Path, folder: Path) -> None:
    """Reads and encodes all rows of a file, and prints this process's peak of resident memory in MiB."""
    template = load_template(folder)
    if way == "eager":
        rows = encoded(path, template, 1)
        assert len(rows)
    else:
        loaded = load_samples(DataArgs(dataset=[str(path)], streaming=True, split_dataset_ratio=0.0), HubArgs(), task="sft")
        assert loaded.train is not None
        stream = EncodedStream(loaded.train, template.encode_sample, many=template.encode_many, strict=False, tally=loaded.tally)
        assert sum(1 for _ in stream)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each round; fewer of the longer ones")
    parser.add_argument("--threads", choices=("true", "false"), default="true", help="whether the tokenizer may use threads, on both sides")
    parser.add_argument("--memory", type=int, metavar="N", help="measure memory for N rows instead")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "FILE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = given.threads
    if given.one:
        one(given.one[0], Path(given.one[1]), Path(given.one[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.memory:
            memory(Path(folder), given.memory)
        else:
            throughput(Path(folder), given.rows)


if __name__ == "__main__":
    main()

"""How long answers that need no model take, beside Python's own start, and one whole training step: `python benchmarks/startup.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "swift --version": ["-m", "swift", "--version"],
    "swift sft --help": ["-m", "swift", "sft", "--help"],
    "swift sft --learnign_rate 1e-4": ["-m", "swift", "sft", "--learnign_rate", "1e-4"],
    "swift sft … --dry_run true": ["-m", "swift", "sft", "--model", "swift/nano", "--dataset", "swift/self-cognition", "--dry_run", "true"],
}
TRAINED = "swift sft on nano, one step, whole command"
TRAINS = ["-m", "swift", "sft", "--model", "swift/nano", "--dataset", "swift/self-cognition", "--max_steps", "1", "--add_version", "false"]
TRAININGS = 3


def seconds(words: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=words is TRAINS)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for words in COMMANDS.values():  # bytecode is compiled and files are cached
            seconds(words, folder)
        rounds = [{name: seconds(words, folder) for name, words in COMMANDS.items()} for _ in range(RUNS)]  # in turn: noise hits all alike
        seconds(TRAINS, folder)
        trained = statistics.median(seconds(TRAINS, folder) for _ in range(TRAININGS))
    print(f"| command | median of {RUNS}, s | above Python's own, s |\n|---|---|---|")
    median = {name: statistics.median(times[name] for times in rounds) for name in COMMANDS}
    bare = median["python -c pass"]
    for name, took in median.items():
        print(f"| `{name}` | {took:.3f} | {took - bare:.3f} |")
    print(f"| {TRAINED} (median of {TRAININGS}) | {trained:.1f} | |")


if __name__ == "__main__":
    main()

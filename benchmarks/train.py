"""Training speed on one GPU, ours beside the peers': `python -m benchmarks.train [--only SET …] [--peer NAME=FOLDER …]`.

Makes its inputs (inputs.py), runs `swift sft` through its command line with each setting of the sets (settings.py) and each peer that is
there, as it comes and at its fastest, on the same rows, and prints a row of one table as soon as it is measured: tokens of rows a second
(padding not counted) after the first third of the steps, GiB at the peak (of tensors; in brackets what the allocator took), model
TFLOP/s and their share of one large matrix product's on this machine, seconds from the command's start to the end of its first step,
the loss of the last log line, and the largest difference of any logged loss from the set's reference (layers as they are, trained weights
in float32, the same rows in the same steps). Peers pack in an order of their own, so of their losses only the level can be compared.

FOLDER is a virtual environment, or a folder of packages (peers/wheels.sh makes one for a machine without a network).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if not __package__:  # python benchmarks/train.py
    sys.path[0] = str(ROOT)

from benchmarks import flops, inputs  # noqa: E402
from benchmarks.peers.job import MARK, Job  # noqa: E402
from benchmarks.settings import PEERS, SETS, WAYS, Set  # noqa: E402


@dataclass(frozen=True)
class Run:
    """A row of the table to be."""

    who: str
    title: str
    job: Job
    comparable: bool = False


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as passing:
        folder = (asked.folder or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        peers = found_peers(asked.peer)
        peak = json.loads(finished([sys.executable, "-m", "benchmarks.flops"]).splitlines()[-1])
        print(opening(peak), flush=True)
        results: list[dict[str, Any]] = []
        for name in asked.only:
            results += measure_set(name, asked, folder, peers, peak)
        for name in PEERS if any(SETS[name].peers for name in asked.only) else ():
            if name not in peers:
                print(f"\nnot measured: {name} (--peer {name}=FOLDER)", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": peak, "command": sys.argv, "results": results}, indent=1))
    return int(any(result["who"] == "ours" and result["error"] for result in results))


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", nargs="+", choices=SETS, default=["lora"], metavar="SET", help=f"of {', '.join(SETS)}; default lora")
    asked.add_argument(
        "--settings",
        nargs="+",
        default=[],
        metavar="NAME",
        help="settings, or NAME, WAY of a peer, with one of these in their names; =NAME is exactly that one",
    )
    asked.add_argument("--peer", action="append", default=[], metavar="NAME=FOLDER", help=f"NAME is one of {', '.join(PEERS)}")
    asked.add_argument("--peers-only", action="store_true")
    asked.add_argument("--size", choices=inputs.SHAPES, help="another shape than the set's own")
    asked.add_argument("--tokens", type=int, help="of a step, instead of the set's own")
    asked.add_argument("--long", type=int, metavar="TOKENS", help="adds the set `long` with rows of so many tokens")
    asked.add_argument("--rows", type=int, default=2500)
    asked.add_argument("--steps", type=int, default=40, help="6 at most in the set `long`")
    asked.add_argument("--folder", type=Path, help="where inputs are made and stay")
    asked.add_argument("--keep-compiled", action="store_true", help="runs share what compilers keep on disk; without this each starts cold")
    asked.add_argument("--limit", type=int, default=420, metavar="SECONDS", help="after which a run is ended")
    asked.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured, all logged losses among it")
    given = asked.parse_args()
    if given.long:
        given.only = list(dict.fromkeys([*([] if given.only == ["lora"] and "--only" not in sys.argv else given.only), "long"]))
    return given


def found_peers(words: Sequence[str]) -> dict[str, Path]:
    """{name: folder} of those that are there; the others are said."""
    found = {}
    for word in words:
        name, _, folder = word.partition("=")
        if name not in PEERS:
            raise SystemExit(f"--peer {word}: expected NAME=FOLDER, NAME one of {', '.join(PEERS)}")
        if Path(folder).is_dir() and any(Path(folder).iterdir()):
            found[name] = Path(folder).resolve()
        else:
            print(f"--peer {name}: {folder} is no folder with packages", file=sys.stderr)
    return found


def opening(peak: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in peak["versions"].items())
    product = f"one {peak['side']:,} x {peak['side']:,} x {peak['side']:,} product: {peak['tflops']:,.3g} TFLOP/s"
    return f"{peak['device']}, {datetime.date.today()}, {versions}; {product}"


def measure_set(
    name: str, asked: argparse.Namespace, folder: Path, peers: Mapping[str, Path], peak: Mapping[str, Any]
) -> list[dict[str, Any]]:
    chosen = SETS[name]
    tokens = (asked.long if chosen.long else None) or asked.tokens or chosen.tokens
    chosen = replace(chosen, size=asked.size or chosen.size, tokens=tokens)
    place = folder / chosen.size
    making = [sys.executable, "-m", "benchmarks.inputs", str(place), "--size", chosen.size, "--rows", str(asked.rows)]
    started = time.time()
    finished([*making, "--long", str(tokens)] if chosen.long else making)
    facts = json.loads((place / inputs.FACTS).read_text())
    lengths = facts["long" if chosen.long else "rows"]
    print(
        f"\n{name}: {facts['parameters'] / 1e9:.2f} billion weights, steps of {chosen.tokens:,} tokens, {lengths['rows']:,} rows of {lengths['median']:,.0f} "
        f"tokens (median; mean {lengths['mean']:,.0f}, longest {lengths['longest']:,}); inputs after {time.time() - started:.0f} s\n"
    )
    print("| run | tokens/s | peak GiB (reserved) | model TFLOP/s | of the matrix peak | first step, s | loss | from the reference |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    config = json.loads((place / "model" / "config.json").read_text())
    cost = flops.per_token(config, train_type=chosen.train_type, context=lengths["context"])
    compiled = folder / "compiled" if asked.keep_compiled else None
    results: list[dict[str, Any]] = []
    reference: dict[int, float] | None = None
    for run in runs(chosen, asked, place, lengths["mean"], peers):
        measured: dict[str, Any] = {"set": name, "who": run.who, "title": run.title} | start(run, peers, compiled, asked.limit)
        if run.title == chosen.reference and run.who == "ours":
            reference = losses(measured)
        measured["from_reference"] = largest_difference(losses(measured), reference) if run.comparable else None
        measured["tflops"] = measured.get("tokens/s", 0.0) * cost / 1e12
        measured["share"] = measured["tflops"] / peak["tflops"]
        print(table_row(measured), flush=True)
        results.append(measured)
    return results


def runs(chosen: Set, asked: argparse.Namespace, place: Path, mean: float, peers: Mapping[str, Path]) -> Iterator[Run]:
    """What is to be measured, in this order: ours with the reference first, then peer by peer."""
    steps = min(asked.steps, 6) if chosen.long else asked.steps
    every = 5 if steps >= 20 and steps % 5 == 0 else 1
    warm = max(every, steps // 3 // every * every)
    rows = place / ("long.jsonl" if chosen.long else "rows.jsonl")
    job = Job(str(place / "model"), str(rows), "", 0.0, steps, warm, every, chosen.tokens, mean, train_type=chosen.train_type)
    for setting in () if asked.peers_only else chosen.settings:
        if wanted(setting.title, asked.settings):
            yield Run("ours", setting.title, replace(job, flags=setting.flags), chosen.reference is not None and setting.comparable)
    for name in peers if chosen.peers else ():
        for way in WAYS:
            if wanted(f"{name}, {way.title}", asked.settings):
                yield Run(name, way.title, replace(job, fastest=way.fastest, recompute=way.recompute))


def wanted(title: str, names: Sequence[str]) -> bool:
    return not names or any(title == name[1:] if name.startswith("=") else name in title for name in names)


def start(run: Run, peers: Mapping[str, Path], compiled: Path | None, limit: int) -> dict[str, Any]:
    """Run a job in a process of its own, in a folder of its own; what its runner answers, or an `error`."""
    with tempfile.TemporaryDirectory() as scratch:
        python, environment = sys.executable, dict(os.environ) | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
        if run.who == "ours":
            module, paths = "ours", [str(ROOT)]
        else:
            module, site = PEERS[run.who], peers[run.who]
            own = site / "bin" / "python"
            python, paths = (str(own), []) if own.exists() else (python, [str(site)])
        (Path(scratch) / "benchmarks").symlink_to(ROOT / "benchmarks")  # found from here, and nothing else of this repository
        environment["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
        for name, inside in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
            environment[name] = str((compiled or Path(scratch)) / inside)
        job = replace(run.job, output=str(Path(scratch) / "output"), started=time.time())
        command = [python, "-m", f"benchmarks.peers.{module}", job.words()]
        with (Path(scratch) / "said").open("w+") as said:
            running = subprocess.Popen(command, cwd=scratch, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                running.wait(limit)
            except BaseException as wrong:
                os.killpg(running.pid, signal.SIGKILL)  # with the processes that read its rows
                running.wait()
                if not isinstance(wrong, subprocess.TimeoutExpired):
                    raise
                return {"error": f"not done after {limit} s"}
            said.seek(0)
            text = said.read()
    answers = [line for line in text.splitlines() if line.startswith(MARK)]
    if not answers:
        return {"error": last_words(text), "said": text[-4000:]}
    found = json.loads(answers[-1].removeprefix(MARK))
    if found["error"]:
        found["said"] = text[-4000:]
        if "ended with" in found["error"]:
            found["error"] += f": {last_words(text)}"
    return found


def last_words(text: str) -> str:
    """The last line that says something about an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(MARK)]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["it ended without a word"])[-1][:300]


def losses(measured: Mapping[str, Any]) -> dict[int, float]:
    return {int(step): loss for step, loss in measured.get("losses", ())}


def largest_difference(ours: Mapping[int, float], reference: Mapping[int, float] | None) -> float | None:
    """Over the log lines that both have; NaN counts as infinitely far away."""
    both = sorted(set(ours) & set(reference or ()))
    if not both:
        return None
    apart = [abs(ours[step] - (reference or {})[step]) for step in both]
    return max(float("inf") if value != value else value for value in apart)


def table_row(measured: Mapping[str, Any]) -> str:
    name = f"{measured['who']}, {measured['title']}".replace("ours", "SWIFT")
    if measured["error"]:
        return f"| {name} | not measured: {measured['error'].replace('|', '/')} | | | | | | |"
    memory = f"{measured['allocated_gib']:.1f} ({measured['reserved_gib']:.1f})" if "allocated_gib" in measured else "–"
    last = list(losses(measured).values())[-1]
    apart = "–" if measured["from_reference"] is None else f"{measured['from_reference']:.4f}"
    cells = (
        name, f"{measured.get('tokens/s', 0):,.0f}", memory, f"{measured['tflops']:,.3g}", f"{100 * measured['share']:.1f} %",
        f"{measured['first_step_s']:.0f}", f"{last:.4f}", apart,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def finished(command: Sequence[str]) -> str:
    """What a program of this repository printed; raises SystemExit with its last words where it failed."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | {"PYTHONPATH": paths}, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:4])}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

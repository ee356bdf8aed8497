"""Loss curves beside the plain float32 path: `python -m benchmarks.curves [--steps 50] [--together 4]`.

One model of a real width with few layers, random weights, the same rows in the same steps, each run through `swift sft`'s command line. The
reference: layers as they are, every weight and every product in float32. Beside it, how far two runs lie apart that nobody would call
wrong: the same layers in bfloat16, and the reference with other random numbers (the adapters' start and dropout's masks, or the order of
the rows). Below them the paths that are used: compiled, recomputed, offloaded. Printed: the largest and the mean difference of the logged
losses of all steps, the last loss, and how many of them were NaN.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import inputs
from benchmarks.peers.job import Job
from benchmarks.settings import PACKED
from benchmarks.train import Run, finished, losses, start, wanted

EXACT = "--torch_dtype float32 --torch_compile false --gradient_checkpointing false".split()  # noqa: SIM905
EAGER = "--torch_compile false --gradient_checkpointing false".split()  # noqa: SIM905
FAST = "--gradient_checkpointing false".split()  # noqa: SIM905
LORA = "--train_type lora --lora_rank 8 --lora_alpha 32 --target_modules all-linear --learning_rate 1e-3".split()  # noqa: SIM905
FULL = "--train_type full --learning_rate 1e-4".split()  # noqa: SIM905


class Variant(NamedTuple):
    title: str
    flags: list[str]


@dataclass(frozen=True)
class Family:
    """Runs that learn the same thing."""

    title: str
    flags: list[str]
    noise: tuple[Variant, ...]
    used: tuple[Variant, ...]


OTHER_SEED = Variant("reference, other seed", [*EXACT, "--seed", "7"])
OTHER_ORDER = Variant("reference, other order of rows", [*EXACT, "--data_seed", "7"])
PLAIN_BF16 = Variant("bfloat16, not compiled", EAGER)
COMPILED = Variant("compiled", FAST)
SELECTIVE = Variant("compiled, selective", ["--activation_checkpointing", "selective"])
WHOLE = Variant("compiled, full checkpointing", ["--gradient_checkpointing", "true"])
OFFLOADED = Variant("compiled, offload", ["--activation_checkpointing", "offload"])
FAMILIES = (
    Family("LoRA", [*LORA, "--lora_dropout", "0"], (OTHER_SEED, OTHER_ORDER, PLAIN_BF16), (COMPILED, SELECTIVE, WHOLE, OFFLOADED)),
    Family("LoRA, dropout 0.05", [*LORA, "--lora_dropout", "0.05"], (OTHER_SEED, PLAIN_BF16), (COMPILED, SELECTIVE, WHOLE)),
    Family("full fine-tuning", FULL, (OTHER_ORDER, PLAIN_BF16), (COMPILED, SELECTIVE, WHOLE)),
)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--size", choices=inputs.SHAPES, default="4-layers")
    asked.add_argument("--tokens", type=int, default=4096, help="of a step")
    asked.add_argument("--steps", type=int, default=50)
    asked.add_argument("--rows", type=int, default=1500)
    asked.add_argument("--families", nargs="+", default=[], metavar="NAME", help="families whose name has one of these in it")
    asked.add_argument(
        "--variants", nargs="+", default=[], metavar="NAME", help="variants whose name has one of these in it; the reference always"
    )
    asked.add_argument("--together", type=int, default=1, metavar="N", help="runs at the same time")
    asked.add_argument("--folder", type=Path, help="where inputs are made and stay")
    asked.add_argument("--limit", type=int, default=420, metavar="SECONDS", help="after which a run is ended")
    asked.add_argument("--json", type=Path, metavar="FILE", help="all losses")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        return compare(given, (given.folder or Path(passing)).resolve() / given.size)


def compare(given: argparse.Namespace, place: Path) -> int:
    finished([sys.executable, "-m", "benchmarks.inputs", str(place), "--size", given.size, "--rows", str(given.rows)])
    mean = json.loads((place / inputs.FACTS).read_text())["rows"]["mean"]
    job = Job(str(place / "model"), str(place / "rows.jsonl"), "", 0.0, given.steps, 1, 1, given.tokens, mean)
    families = [family for family in FAMILIES if wanted(family.title, given.families)]
    with ThreadPoolExecutor(given.together) as pool:
        waiting = {
            (family.title, variant.title): pool.submit(run, job, family, variant, given.limit)
            for family in families
            for variant in (Variant("reference", EXACT), *family.noise, *family.used)
            if variant.title == "reference" or wanted(variant.title, given.variants)
        }
        print(f"{given.size}, {given.steps} steps of {given.tokens:,} tokens\n")
        print("| run | largest difference | mean difference | last loss | NaN |\n|---|---|---|---|---|", flush=True)
        found: dict[str, Any] = {}
        for (family, variant), future in waiting.items():
            found[f"{family}: {variant}"] = measured = future.result()
            print(row(f"{family}: {variant}", measured, found[f"{family}: reference"]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found))
    return int(any(measured["error"] or any(map(math.isnan, losses(measured).values())) for measured in found.values()))


def run(job: Job, family: Family, variant: Variant, limit: int) -> dict[str, Any]:
    flags = [*family.flags, *PACKED, *variant.flags]
    told = Job(**(vars(job) | {"flags": flags}))
    return start(Run("ours", variant.title, told), {}, None, limit)


def row(title: str, measured: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if measured["error"]:
        return f"| {title} | not measured: {measured['error'].replace('|', '/')} | | | |"
    ours, theirs = losses(measured), losses(reference)
    apart = [abs(loss - theirs[step]) for step, loss in ours.items() if step in theirs and not math.isnan(loss)]
    differences = f"{max(apart):.4f} | {sum(apart) / len(apart):.5f}" if apart and measured is not reference else "– | –"
    return f"| {title} | {differences} | {list(ours.values())[-1]:.4f} | {sum(map(math.isnan, ours.values()))} |"


if __name__ == "__main__":
    sys.exit(main())

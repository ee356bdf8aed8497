"""The benchmarks' own arithmetic, and the whole commands on a CPU with a tiny shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import flops, inputs
from benchmarks.curves import FAMILIES
from benchmarks.peers import llama_factory, ms_swift, ours
from benchmarks.peers.job import MARK, Job, Line, steady
from benchmarks.settings import PACKED, PEERS, SETS
from benchmarks.train import largest_difference
from swift.args.parse import parse

ROOT = Path(__file__).parents[1]


def job(folder: Path, **changes: object) -> Job:
    told: dict = dict(
        model=str(folder), rows=str(folder / "rows.jsonl"), output=str(folder / "output"), started=time.time(), steps=4, warm=1, every=1,
        tokens=512, mean=100.0,
    )  # fmt: skip
    return Job(**(told | changes))


def all_flags() -> Iterator[tuple[str, list[str]]]:
    for name, chosen in SETS.items():
        yield from ((f"{name}: {setting.title}", setting.flags) for setting in chosen.settings)
    for family in FAMILIES:
        yield from (
            (f"{family.title}: {variant.title}", [*family.flags, *PACKED, *variant.flags]) for variant in (*family.noise, *family.used)
        )


@pytest.mark.parametrize(("title", "flags"), all_flags(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_is_a_command_line_of_swift_sft(title: str, flags: list[str], tmp_path: Path) -> None:
    inputs.write(tmp_path / "rows.jsonl", inputs.conversations(2))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    words = ours.words(job(tmp_path, flags=flags))
    assert words.pop(0) == "sft"
    parse("sft", [*words, "--dry_run", "true"])


@pytest.mark.parametrize("train_type", ["full", "lora"])
def test_the_counted_operations_are_those_of_the_layers(train_type: str) -> None:
    length, shape = 64, dict(inputs.SHAPES["tiny"], vocab_size=500)
    model = Qwen2ForCausalLM(Qwen2Config(**shape, attn_implementation="eager")).requires_grad_(train_type == "full")
    embedded = torch.randn(
        1, length, shape["hidden_size"], requires_grad=True
    )  # as where an adapter lies below: the input needs a gradient
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=embedded, use_cache=False).logits.sum().backward()
    ours = flops.per_token(
        model.config.to_dict(), train_type=train_type, context=2 * length
    )  # eager attention computes what no token sees too
    assert counter.get_total_flops() == pytest.approx(length * ours, rel=1e-3)


def test_steady_speed_leaves_out_what_came_before() -> None:
    counted = [Line(10.0, 1, seen=100), Line(12.0, 5, seen=500), Line(13.0, 10, seen=1000), Line(14.0, 15, seen=1700)]
    assert steady(counted, 5) == pytest.approx(1200 / 2)
    rated = [Line(10.0, 1, rate=1.0), Line(12.0, 5, rate=2.0), Line(13.0, 10, rate=500), Line(15.0, 15, rate=350)]
    assert steady(rated, 5) == pytest.approx((500 * 1 + 350 * 2) / 3)


def test_a_loss_that_is_nan_is_no_small_difference() -> None:
    assert largest_difference({1: 2.0, 2: 3.5}, {1: 2.25, 2: 3.0, 3: 9.0}) == 0.5
    assert largest_difference({1: float("nan")}, {1: 1.0}) == float("inf")
    assert largest_difference({1: 1.0}, None) is None


def test_a_command_line_that_is_watched_is_measured(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(
        "import json, sys, time\n"
        "for step in (1, 2, 3, 4):\n"
        "    time.sleep(0.4)\n"
        "    with open(sys.argv[1] + '/log.jsonl', 'a') as file:\n"
        "        file.write(json.dumps({'global_step/max_steps': f'{step}/4', 'loss': 5.0 - step, 'num_input_tokens_seen': 100 * step}) + '\\n')\n"
        "sys.exit(int(sys.argv[2]))\n"
    )
    told = job(tmp_path, fastest=True)
    program = (
        "import sys; from benchmarks.peers.job import Job, run_command; from benchmarks.peers.ms_swift import reader; job = Job.told()\n"
        "run_command('it', job, 'trainer', [job.output, sys.argv[2]], 'log.jsonl', reader(job))"
    )
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    found = {}
    for code in ("0", "3"):
        said = subprocess.run(
            [sys.executable, "-c", program, told.words(), code], capture_output=True, text=True, env=environment, check=True
        )
        found[code] = json.loads(said.stdout.splitlines()[-1].removeprefix(MARK))
        (tmp_path / "output" / "log.jsonl").unlink()
    assert found["0"]["error"] is None
    assert found["0"]["losses"] == [[1, 4.0], [2, 3.0], [3, 2.0], [4, 1.0]]
    assert found["0"]["tokens/s"] == pytest.approx(250, rel=0.25)
    assert found["3"]["error"] == "it ended with 3"
    assert "tokens/s" not in found["3"]


def test_peers_are_told_the_same_rows_and_settings(tmp_path: Path) -> None:
    told = job(tmp_path, fastest=True, recompute=False)
    words = ms_swift.words(told, gpu=True)
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--dataset"] == told.rows
    assert given["--packing"] == given["--use_liger_kernel"] == "true"
    assert given["--gradient_checkpointing"] == "false"
    options = llama_factory.options(told, gpu=True)
    assert options["neat_packing"]
    assert options["disable_gradient_checkpointing"]
    entry = json.loads((tmp_path / "output" / "data" / "dataset_info.json").read_text())
    assert entry["rows"]["file_name"] == told.rows
    for module in PEERS.values():
        assert (ROOT / "benchmarks" / "peers" / f"{module}.py").is_file()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    inputs.make_inputs(folder / "tiny", "tiny", rows=1000, long=2048)
    return folder


@pytest.mark.slow
def test_rows_are_as_long_as_an_instruction_sets(made: Path) -> None:
    facts = json.loads((made / "tiny" / "facts.json").read_text())
    assert 300 < facts["rows"]["median"] < 400
    assert 400 < facts["rows"]["mean"] < 500
    assert facts["rows"]["context"] > facts["rows"]["mean"]
    assert 1900 < facts["long"]["mean"] <= facts["long"]["longest"] <= 2048


@pytest.mark.slow
def test_one_command_measures_ours_and_says_what_it_could_not(made: Path, tmp_path: Path) -> None:
    """A peer that is not there is a line; one whose package is not there, a row with the reason. Recomputation changes no loss."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "trl.py").write_text("raise ImportError('no such thing as trl')\n")
    (tmp_path / "broken" / "datasets.py").write_text("load_dataset = None\n")  # which its runner imports first, and we do not depend on
    command = [
        "-m",
        "benchmarks.train",
        "--size",
        "tiny",
        "--tokens",
        "1024",
        "--steps",
        "3",
        "--folder",
        str(made),
        "--json",
        str(tmp_path / "all"),
    ]
    command += ["--settings", "not compiled", "full checkpointing", "trl, default", "--peer", f"trl={tmp_path / 'broken'}"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert any("trl, default" in row and "no such thing as trl" in row for row in rows)
    assert "not measured: ms-swift (--peer ms-swift=FOLDER)" in done.stdout
    ours = [result for result in json.loads((tmp_path / "all").read_text())["results"] if result["who"] == "ours"]
    assert [result["title"] for result in ours] == ["not compiled", "full checkpointing"]
    assert all(result["tokens/s"] > 0 and len(result["losses"]) == 3 for result in ours)
    assert ours[1]["from_reference"] < 1e-4


@pytest.mark.slow
def test_curves_lie_nearer_to_the_reference_than_another_order_of_rows(made: Path, tmp_path: Path) -> None:
    command = [
        "-m",
        "benchmarks.curves",
        "--size",
        "tiny",
        "--tokens",
        "512",
        "--steps",
        "5",
        "--folder",
        str(made),
        "--json",
        str(tmp_path / "all"),
    ]
    command += ["--families", "full", "--variants", "other order", "full checkpointing"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "all").read_text())
    reference = dict(found["full fine-tuning: reference"]["losses"])
    apart = {
        name: max(abs(loss - reference[step]) for step, loss in measured["losses"])
        for name, measured in found.items()
        if "reference" not in name or "order" in name
    }
    assert len(reference) == 5
    assert apart["full fine-tuning: compiled, full checkpointing"] < apart["full fine-tuning: reference, other order of rows"]

"""Every example does what it says: the small ones run, those for GPUs are accepted word for word."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN_HERE = {"demo.sh"}
SCRIPTS = sorted((ROOT / "examples").glob("*.sh"))

pytestmark = pytest.mark.slow


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def swift_that(folder: Path, *more: str) -> str:
    """A PATH whose `swift` is this interpreter's, with words added to every command."""
    folder.mkdir(exist_ok=True)
    command = folder / "swift"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m swift "$@" {" ".join(more)}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_demo_teaches_a_name_and_runs_twice(tmp_path: Path) -> None:
    settings = {"PATH": swift_that(tmp_path / "bin"), "DEMO_OUTPUT": str(tmp_path / "demo")}
    before, after = run(["bash", str(ROOT / "examples" / "demo.sh")], tmp_path, **settings).stdout.split("== training ==")
    assert "I am Nano" in before and "Aria" not in before
    assert "I am Aria" in after and "the Blue Team" in after and "小雨" in after and "Nano" not in after
    assert "The answer is 42." in before and "The answer is 42." in after
    assert (tmp_path / "demo" / "images" / "train_loss.png").is_file()
    again = run(["bash", str(ROOT / "examples" / "demo.sh")], tmp_path, DEMO_EPOCHS="1", **settings).stdout
    assert again.count("Q: Who are you?") == 2
    (checkpoint,) = (tmp_path / "demo").glob("checkpoint-*")
    assert (tmp_path / "demo" / "last").resolve() == checkpoint.resolve()


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.name not in RUN_HERE], ids=lambda script: script.name)
def test_an_example_for_gpus_is_accepted(script: Path, tmp_path: Path) -> None:
    done = run(["bash", str(script)], tmp_path, PATH=swift_that(tmp_path / "bin", "--dry_run", "true"))
    assert done.stdout.count("dry run") == script.read_text(encoding="utf-8").count("swift sft") + script.read_text(encoding="utf-8").count(
        "swift infer"
    )


def test_a_chat_format_of_a_plugin_is_trained_and_found_again(tmp_path: Path) -> None:
    swift = [sys.executable, "-m", "swift"]
    plugin = str(ROOT / "examples" / "plugins" / "interview.py")
    words = ["--custom_register_path", plugin, "--template", "interview", "--max_steps", "2", "--split_dataset_ratio", "0"]
    done = run([*swift, "sft", "--model", "swift/nano", "--dataset", "swift/nano-chat#20", "--output_dir", "out", *words], tmp_path)
    checkpoint = json.loads(done.stdout)["last_model_checkpoint"]
    assert "Interviewer: " in (Path(checkpoint) / "chat_template.jinja").read_text(encoding="utf-8")
    done = run([*swift, "infer", "--adapters", checkpoint, "--dry_run", "json"], tmp_path)
    assert json.loads(done.stdout)["arguments"]["template"] == "interview"

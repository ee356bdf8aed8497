"""`swift …` as people start it: exit codes, streams, torchrun, speed."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import swift
from swift.args.commands import PtCommand, SftCommand
from swift.args.parse import from_kwargs, parse
from swift.cli import main as cli
from swift.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]
TRAIN = ["--model", "org/model", "--dataset", "org/rows"]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces swift.commands.sft; what its functions were called with."""
    calls: list[Any] = []

    def run(args: Any) -> str:
        calls.append(args)
        return "record"

    module = ModuleType("swift.commands.sft")
    module.sft = module.pt = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift.commands.sft", module)
    return calls


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: Any) -> None:
        raise error

    module = ModuleType("swift.commands.sft")
    module.sft = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift.commands.sft", module)


def test_nothing_and_nonsense_are_usage_errors(capsys: Any) -> None:
    assert cli.main([]) == 2
    assert "usage: swift" in capsys.readouterr().err
    assert cli.main(["sfd"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("swift: error: unknown command sfd; did you mean sft?")


def test_help_and_version_go_to_stdout(capsys: Any) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "infer" in out and "preview" in out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"swift {swift.__version__}\n"
    assert cli.main(["sft", "--lora_rank", "x", "--help"]) == 0
    out, err = capsys.readouterr()
    assert "--lora_rank" in out and err == ""


def test_help_is_chinese_where_the_language_is(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert cli.main(["infer", "--help"]) == 0
    assert "适配器" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["rlhf", "app", "web-ui", "web_ui", "eval", "export", "sample"])
def test_commands_that_are_not_built_say_so(command: str, capsys: Any) -> None:
    assert cli.main([command, "--model", "x"]) == 2
    assert capsys.readouterr().err == f"swift {command.replace('_', '-')} is part of SWIFT but not built yet\n"


def test_each_error_is_one_line_with_the_command_in_front(capsys: Any, recipe: list[Any]) -> None:
    assert cli.main(["sft", *TRAIN, "--learnign_rate", "1e-4", "--lora_rank", "x"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "swift sft: error: --lora_rank: expected a whole number, got 'x'",
        "swift sft: error: unknown option --learnign_rate; did you mean --learning_rate?",
    ]
    assert recipe == []


def test_a_command_runs_its_recipe_in_this_process(capsys: Any, recipe: list[Any]) -> None:
    assert cli.main(["sft", *TRAIN, "--hub_token", "s3cret"]) == 0
    assert cli.main(["pt", *TRAIN]) == 0
    assert [type(args) for args in recipe] == [SftCommand, PtCommand]
    out, err = capsys.readouterr()
    assert out == "" and "model='org/model'" in err and "s3cret" not in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("rows.jsonl row 3: no answer"), 1, "DataError: rows.jsonl row 3: no answer"),
        (UsageError("wrong"), 2, "UsageError: wrong"),
        (KeyboardInterrupt(), 1, "swift sft: interrupted"),
    ],
)
def test_what_a_person_can_mend_is_one_message(error: BaseException, code: int, line: str, capsys: Any, monkeypatch: Any) -> None:
    fails_with(monkeypatch, error)
    assert cli.main(["sft", *TRAIN]) == code
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_a_bug_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["sft", *TRAIN])


def test_other_ranks_are_silent(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.run("sft", ["--bogus"]) == 2
    assert "unknown option" in capsys.readouterr().err  # a scheduler's RANK alone does not make a worker
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert cli.run("sft", ["--bogus"]) == 2
    assert capsys.readouterr().err == ""


# torchrun


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    lines: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, line: lines.append(line))
    return lines


def test_torchrun_gets_the_variables_that_are_set(started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    monkeypatch.setenv("MASTER_PORT", "29501")
    assert cli.main(["sft", *TRAIN]) == 0
    script = str(Path(cli.__file__).with_name("sft.py"))
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29501", script, *TRAIN]
    assert started == [line]
    assert capsys.readouterr().err == f"run sh: `{' '.join(line)}`\n"


def test_a_cloud_scheduler_sets_nodes_only(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NNODES": "2", "NODE_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "host"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["pt", *TRAIN]) == 0
    assert started[0][3:-5] == ["--nnodes", "2", "--node_rank", "1", "--master_addr", "host"]


def test_what_is_wrong_is_said_before_processes_start(started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert cli.main(["sft", *TRAIN, "--lora_rank", "x"]) == 2
    assert capsys.readouterr().err.count("swift sft: error") == 1
    assert cli.main(["sft", "--help"]) == 0
    assert cli.main(["rlhf"]) == 2
    assert cli.main(["sft", *TRAIN, "--dry_run", "json"]) == 0
    assert started == []


@pytest.mark.parametrize("command", ["sft", "pt", "infer", "deploy", "merge-lora", "preview"])
def test_the_file_of_a_command_can_be_started(command: str, tmp_path: Path) -> None:
    script = ROOT / "swift" / "cli" / f"{command.replace('-', '_')}.py"
    done = subprocess.run([sys.executable, str(script), "--bogus"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert f"swift {command}: error: unknown option --bogus" in done.stderr


# Python


def test_commands_are_functions_of_the_package(recipe: list[Any]) -> None:
    assert swift.sft(model="a/b", dataset=["x/y"], lora_rank=4) == "record"
    assert swift.pt([*TRAIN, "--max_steps", "3"]) == "record"
    assert swift.sft(parse("sft", TRAIN)) == "record"
    assert [args.lora.lora_rank for args in recipe] == [4, 8, 8]
    with pytest.raises(UsageError, match="not both"):
        swift.sft(TRAIN, lora_rank=4)
    with pytest.raises(UsageError, match="did you mean --lora_rank"):
        swift.sft(model="a/b", dataset="x/y", lora_rnk=4)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["sft", "--help"], ["deploy", "--help"], ["preview", "--help"], ["preview", "pt", "--lora_rnk", "1"], ["sfd"],
     ["sft", "--learnign_rate", "1"], ["sft", "--optim", "x", "--lora_rank", "x"],
     ["sft", "--model", "./nowhere", "--dataset", "./nowhere.jsonl", "--dry_run"]],
    ids=" ".join,
)  # fmt: skip
def test_answers_take_less_than_half_a_second(words: list[str], tmp_path: Path) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "swift", *words], capture_output=True, cwd=tmp_path, env=environment, check=False)
        return time.perf_counter() - start

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    seconds()  # byte code
    assert statistics.median(seconds() for _ in range(3)) < 3 * 0.5  # three times the promise: the machine may be busy


@pytest.mark.parametrize("more", [[], ["--val_dataset", "swift/nano-chat", "--stream", "true"]])
def test_what_several_processes_cannot_do_is_said_before_they_start(
    more: list[str], started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert cli.main(["infer", "--model", "swift/nano", *more]) == 2
    assert "process" in capsys.readouterr().err and started == []


def test_a_preview_takes_the_flags_of_what_it_shows(capsys: Any) -> None:
    sft, pt = parse("preview", TRAIN), parse("preview", ["pt", *TRAIN])
    assert isinstance(sft, SftCommand) and sft.template.loss_scale == "default" and pt.template.loss_scale == "all"
    assert from_kwargs("preview pt", model="a/b", dataset="x/y", preview_rows=0).to_flat()["preview_rows"] == 0
    assert cli.main(["preview", "pt", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--preview_rows" in out and "--lora_rank" in out and "(default: all; false for swift pt)" not in out
    assert cli.main(["preview", *TRAIN, "--galore_rank", "8", "--preview_row", "3"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "swift preview: error: --galore_rank is part of SWIFT but not built yet",
        "swift preview: error: unknown option --preview_row; did you mean --preview_rows?",
    ]
    assert cli.main(["sft", *TRAIN, "--preview_rows", "3"]) == 2
    assert capsys.readouterr().err == "swift sft: error: --preview_rows is no option of swift sft; it belongs to swift preview\n"
    assert cli.main(["preview", "rlhf"]) == 2 and cli.main(["preview", "infer"]) == 2


def test_a_preview_demands_nothing_that_only_training_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    words = [*TRAIN, "--output_dir", str(tmp_path / "file" / "out"), "--report_to", "mlflow", "--device_map", "cuda:0"]
    with pytest.raises(UsageError):
        parse("sft", words)
    assert parse("preview", words).missing == ()

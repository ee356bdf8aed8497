"""The command line answers without third-party packages: they cost seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded(*words: str) -> set[str]:
    """The top-level modules that `python <words>` imports."""
    # -I -S: no user site and no .pth files of the environment, whose imports are not ours
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, *{[p for p in sys.path if p]!r}]; "
    done = subprocess.run([sys.executable, "-S", "-c", start + words[0], *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return set(done.stdout.rsplit("MODULES ", 1)[-1].split())


SHOW = "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
RUN = f"from swift.cli.main import main; code = main(sys.argv[1:]); {SHOW}"


@pytest.mark.parametrize("program", [f"import swift.cli; {SHOW}", f"import swift.cli.main; {SHOW}", f"import swift, swift.plugin; {SHOW}"])
def test_importing_the_command_line_loads_the_standard_library_only(program: str) -> None:
    assert loaded(program) - set(sys.stdlib_module_names) <= {"swift", "__main__"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--version"],
        ["bogus"],
        ["sft", "--help"],
        ["infer", "--help"],
        ["deploy", "--help"],
        ["deploy", "--model", "org/model", "--adapters", "a=org/a", "--port", "0", "--dry_run", "true"],
        ["sft", "--learnign_rate", "1e-4"],
        ["sft", "--lora_rank", "x", "--adam_beta1", "y", "--optim", "z"],
        ["rlhf", "--help"],
        ["sft", "--model", "./nowhere", "--dataset", "./nowhere.jsonl", "--dry_run", "true"],
        ["infer", "--model", "org/model", "--val_dataset", "org/rows", "swift/self-cognition", "--dry_run", "json"],
    ],
    ids=" ".join,
)
def test_answers_load_the_standard_library_only(words: list[str]) -> None:
    assert loaded(RUN, *words) - set(sys.stdlib_module_names) <= {"swift", "__main__"}


def test_yaml_is_loaded_where_a_yaml_file_is_given(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("lora_rank: x\n")
    assert "yaml" in loaded(RUN, "sft", str(file))
    assert "torch" not in loaded(RUN, "sft", str(file))

"""What the documentation says is so: command lines parse, paths and functions exist, rows load, Python runs."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from swift.args.base import DataArgs, HubArgs
from swift.args.commands import COMMANDS
from swift.args.parse import parse
from swift.data.mix import load_samples

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN_BY_RUNS = ("output/", "images/", "runs/", "infer_result/", "deploy_result/", "result/", "checkpoint-N", ".venv")


def blocks(page: Path, *languages: str) -> list[str]:
    """Fenced blocks in any of the languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def command_lines() -> list[tuple[str, list[str]]]:
    """Every `swift <built command> …` in a block or in running text, as (page, words)."""
    found = []
    for page in PAGES:
        texts = ["\n".join(blocks(page, "sh", "")).replace("\\\n", " "), *re.findall(r"`(swift [^`]*--[^`]*)`", prose(page))]
        for line in "\n".join(texts).splitlines():
            if (
                "…" in line
                or "--help" in line
                or "--learnign_rate" in line
                or not re.match(r"(\w+=\S+ )*swift (" + "|".join(COMMANDS) + r")\b", line)
            ):
                continue
            words = shlex.split(line, comments=True)
            found.append((page.name, words[words.index("swift") + 1 :]))
    return found


@pytest.mark.parametrize(("page", "words"), command_lines(), ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60])
def test_every_command_line_is_accepted(page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "config.yaml").write_text("model: swift/nano\ndataset: swift/self-cognition\n")
    monkeypatch.chdir(tmp_path)
    parse(words[0], [*words[1:], "--dry_run", "true"])


def test_there_are_command_lines_to_check() -> None:
    assert len(command_lines()) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_path_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
    for code in re.findall(r"`([^`\s]+)`", prose(page)):
        if re.fullmatch(r"(?!\.|~)[\w.-]+(/[\w.-]+)*(/|\.(py|md|sh|json))", code) and "/" in code and not code.startswith(WRITTEN_BY_RUNS):
            assert (ROOT / code).exists() or (ROOT / "swift" / code).exists(), f"{page.name} names {code}"


def names_in(path: Path) -> set[str]:
    """`function`, `Class` and `Class.method` of a file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


def test_every_function_of_how_a_step_runs_is_where_it_says() -> None:
    text = prose(ROOT / "docs" / "how-a-step-runs.md")
    placed = re.findall(r"`([\w/]+\.py): (\w+(?:\.\w+)?)`", text) + [
        (file, name) for name, file in re.findall(r"`(\w+(?:\.\w+)?)`\s+\(`([\w/]+\.py)`\)", text)
    ]
    assert len(placed) >= 15
    for file, name in placed:
        assert name in names_in(ROOT / "swift" / file), f"{file}: {name}"
    everywhere = set().union(*(names_in(path) for path in (ROOT / "swift").rglob("*.py")))
    for method in re.findall(r"`([A-Z]\w+\.\w+)`", text):
        assert method in everywhere, method


def rows_of_docs() -> list[str]:
    in_blocks = [row for block in blocks(ROOT / "docs" / "data.md", "jsonl") for row in block.splitlines()]
    return in_blocks + re.findall(r"^\| [^|]* \| `(\{.*\})` \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("row", rows_of_docs())
def test_every_row_shown_loads(row: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(row + "\n", encoding="utf-8")
    loaded = load_samples(DataArgs(dataset=[str(file)], split_dataset_ratio=0.0, strict=True), HubArgs(), task="sft")
    assert loaded.train is not None and len(loaded.train) == 1
    assert loaded.train[0].messages[-1].role == "assistant"


def test_every_shape_of_a_row_is_shown() -> None:
    assert len(rows_of_docs()) >= 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_piece_of_python_runs(page: Path, number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks(page, "python")[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_environment_variables_are_read_where_the_page_says() -> None:
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    for names, file in re.findall(r"^\| (.*?) \| `(swift/\S+\.py)` \|", page, re.MULTILINE):
        code = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`([A-Z_]+)`", names):
            assert f'"{name}"' in code, f"{file}: {name}"

"""What we have against the parameter document's list: names, defaults, choices, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift.args.commands import COMMANDS
from swift.args.spec import specs
from swift.args.waiting import is_waiting

NEW = {  # flags that the document's list lacks: legacy ones of scripts, and our own
    "ignore_args_error": "legacy",
    "dry_run": "issue 2",
    "ssl_keyfile": "legacy",
    "ssl_certfile": "legacy",
    "external_plugins": "on every command (rulings 17)",
    "shuffle_buffer_size": "rulings 8",
    "output_dir": "of swift merge-lora, inference-and-tools 7.3",
    "exist_ok": "of swift merge-lora, inference-and-tools 7.3",
    "trust_remote_code": "issue 3",
    "template_check": "issue 3",
    "activation_checkpointing": "rulings 23",
    "micro_batch_tokens": "rulings 23",
    "torch_compile": "transformers' own, for layers",
    "format": "of swift preview, issue 3",
    "preview_rows": "of swift preview, issue 3",
    "generation": "of swift preview, issue 3",
}


@pytest.fixture(scope="session")
def document(shared: Path) -> dict[str, dict[str, Any]]:
    """Command → flag → row; where a name stands in several rows of a command, the last wins."""
    rows = json.loads((shared / "spec" / "arguments.json").read_text(encoding="utf-8"))
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        for command in row["commands"]:
            table.setdefault(command, {})[row["name"]] = row
    return table | {command: table[made.SHOWS] for command, made in COMMANDS.items() if made.SHOWS}


def built() -> Iterator[tuple[str, str]]:
    for command, made in COMMANDS.items():
        for name in specs(made):
            yield command, name


def test_every_flag_of_the_document_works_or_is_answered_as_not_built(document: dict, capsys: Any) -> None:
    works = waits = 0
    for command in COMMANDS:
        ours = set(specs(COMMANDS[command]))
        assert {name for name in document[command] if name not in ours and not is_waiting(name, command)} == set()
        assert {name for name in ours if is_waiting(name, command)} == set()
        if COMMANDS[command].SHOWS:
            continue  # no command of the document
        works += len(ours & set(document[command]))
        waits += len(set(document[command]) - ours)
    everywhere = {(command, name) for command, flags in document.items() if command != "preview" for name in flags}
    with capsys.disabled():
        print(f"\narguments that work: {works} of {works + waits} of pt, sft and infer; {works} of {len(everywhere)} of all commands")


def test_every_flag_we_have_is_the_documents_or_listed_as_new(document: dict) -> None:
    for command, name in built():
        assert name in document[command] or name in NEW, f"--{name} of swift {command}"


def test_defaults_are_the_documents(document: dict) -> None:
    for command, name in built():
        row, spec = document[command].get(name), specs(COMMANDS[command])[name]
        if row is None:
            continue
        if isinstance(row["default"], str) and row["default"].startswith("<"):  # depends on other things: said in help
            assert spec.facts.shown is not None, f"--{name} of swift {command} must say what its default depends on"
        else:
            assert spec.default == row["default"], f"--{name} of swift {command}"


def test_choices_are_the_documents(document: dict) -> None:
    for command, name in built():
        row, spec = document[command].get(name), specs(COMMANDS[command])[name]
        if row is None or "choices" not in row:
            continue
        assert set(spec.choices) <= set(row["choices"]) or set(spec.choices) >= set(row["choices"]), name
        assert set(row["choices"]) <= {*spec.choices, *spec.facts.waiting}, f"--{name}: a choice is neither built nor waiting"


def test_important_flags_are_the_documents(document: dict) -> None:
    for command, name in built():
        if name in document[command]:
            assert specs(COMMANDS[command])[name].facts.hot == document[command][name]["important"], name


def test_the_list_of_waiting_flags_is_up_to_date(shared: Path) -> None:
    import importlib.util

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("waiting_flags", root / "scripts" / "waiting_flags.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (root / "swift" / "args" / "waiting.json").read_text(encoding="utf-8")
    assert written == module.text(shared / "spec"), "run: python scripts/waiting_flags.py <folder of the specification>"

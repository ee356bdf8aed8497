"""Where the built-in model and data sets lie, by id."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from swift import nano


@pytest.mark.parametrize("name", ["swift/nano", "swift/self-cognition", "swift/nano-arithmetic", "swift/nano-chat", "swift/nano-text"])
def test_built_in_ids_are_listed(name: str) -> None:
    assert name in nano.names()


def test_every_listed_data_set_is_a_file_in_any_case() -> None:
    for name in nano.names()[1:]:
        path = nano.dataset_path(name.upper())
        assert path is not None and path.is_file() and path == nano.dataset_path(name)


def test_the_model_is_found_in_any_case() -> None:
    folder = nano.model_path("Swift/Nano")
    assert folder is not None and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["nano", "swift/nano-2", "org/self-cognition", "", "swift/../nano"])
def test_other_ids_are_nobodys(name: str) -> None:
    assert nano.model_path(name) is None
    assert nano.dataset_path(name) is None


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse(Path(nano.__file__).read_text(encoding="utf-8"))
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names

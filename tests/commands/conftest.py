"""A tiny checkpoint and a file of rows, for commands."""

import pytest

from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture
def rows(tmp_path):
    return tiny.chat_rows(tmp_path / "train.jsonl")

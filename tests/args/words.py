"""Short ways to say a command line in tests."""

from __future__ import annotations

import pytest

from swift.args.commands import SftCommand
from swift.args.parse import ArgumentErrors, parse

TRAIN = ["--model", "org/model", "--dataset", "org/rows"]


def sft(*words: str) -> SftCommand:
    command = parse("sft", [*TRAIN, *words])
    assert isinstance(command, SftCommand)
    return command


def problems(*words: str, command: str = "sft", given: list[str] = TRAIN) -> list[str]:
    with pytest.raises(ArgumentErrors) as raised:
        parse(command, [*given, *words])
    return raised.value.problems

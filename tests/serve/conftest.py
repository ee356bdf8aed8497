from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from swift.args.base import HubArgs, ModelArgs, TemplateArgs
from swift.args.parse import parse
from swift.commands.deploy import open_door
from swift.engines.load import load_engine
from swift.serve.door import Door
from tests.serve.live import Schemas, ScriptedEngine, listening


@pytest.fixture(scope="session")
def openai_schemas(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "oracle" / "suites" / "openai_schemas.json").read_text(encoding="utf-8"))


@pytest.fixture
def schemas(openai_schemas: dict[str, Any]) -> Iterator[Schemas]:
    """Whatever a server of the test sends fits OpenAI's schemas."""
    made = Schemas(openai_schemas)
    yield made
    assert made.faults == []


@pytest.fixture(scope="session")
def nano() -> Any:
    """The built-in model, loaded once."""
    return load_engine(ModelArgs(model="swift/nano"), HubArgs(), TemplateArgs())


Start = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def scripted(nano: Any, tmp_path: Path, schemas: Schemas) -> Callable[..., Any]:
    """(engine, door, the URL's context) of a server whose answers the test makes; keywords are flags of swift deploy."""

    def start(engine: ScriptedEngine | None = None, **flags: Any) -> tuple[ScriptedEngine, Door, AbstractContextManager[str]]:
        engine = engine or ScriptedEngine()
        door = make_door(nano, tmp_path, engine, **flags)
        return engine, door, listening(door, schemas)

    return start


def make_door(engine: Any, folder: Path, queue: Any = None, named: Any = (), **flags: Any) -> Door:
    flags = {"model": "swift/nano", "result_path": str(folder / "answers.jsonl"), "verbose": False, "log_interval": -1} | flags
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return open_door(parse("deploy", words), engine, queue or engine, named)  # type: ignore[arg-type]

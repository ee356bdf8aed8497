"""Downloads from a stub hub on loopback, through both libraries. Each runs in its own process: they read the environment once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swift import hub
from swift.args.base import HubArgs
from tests.hub_stub import Hub, serve

FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"weights",
    "model.gguf": b"never",
    "onnx/model.onnx": b"never",
    "sub/config.json": b'{"sub": 1}',
}
ROWS = {"train.jsonl": b'{"query": "q", "response": "r"}\n', "README.md": b"# rows", "media.zip": b"zip"}

ASK = """
import json, sys
from swift import hub
from swift.args.base import HubArgs
from swift.errors import SwiftError
calls, use_hf, token = json.loads(sys.argv[1])
for function, name, kind, options in calls:
    try:
        path = getattr(hub, function)(name, kind, HubArgs(use_hf=use_hf, hub_token=token), **options)
        files = path and sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
        print(json.dumps({"path": str(path), "files": files}))
    except SwiftError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def ask(address: str, cache: Path, use_hf: bool, *calls: tuple[Any, ...], token: str | None = None) -> list[dict[str, Any]]:
    offline = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_", "USE_HF"))}
    env = offline | {
        "HOME": str(cache),
        "HF_HOME": str(cache / "hf"),
        "MODELSCOPE_CACHE": str(cache / "ms"),
        "HF_ENDPOINT": address,
        "MODELSCOPE_ENDPOINT": address,
        "NO_PROXY": "127.0.0.1",
    }
    words = json.dumps([[[*call[:3], call[3] if len(call) > 3 else {}] for call in calls], use_hf, token])
    done = subprocess.run([sys.executable, "-c", ASK, words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


BOTH = pytest.mark.parametrize("use_hf", [True, False], ids=["hugging-face", "modelscope"])


@BOTH
def test_models_come_without_formats_that_nothing_loads(tmp_path: Path, use_hf: bool) -> None:
    with serve(Hub(FILES)) as stub:
        few, whole, sub, kept, absent = ask(
            stub.address,
            tmp_path,
            use_hf,
            ("download", "org/thing", "model", {"weights": False}),
            ("download", "org/thing", "model"),
            ("download", "org/thing:sub", "model"),
            ("cached", "org/thing", "model"),
            ("cached", "org/other", "model"),
        )
    assert few["files"] == ["config.json", "sub/config.json", "tokenizer.json"]
    assert {"model.safetensors", "pytorch_model.bin"} < set(whole["files"])
    assert not {"model.gguf", "onnx/model.onnx"} & set(whole["files"])
    assert sub["files"] == ["config.json"] and sub["path"].endswith("sub")
    assert kept["path"] == whole["path"] and absent["path"] == "None"


@BOTH
def test_data_sets_come_whole_and_again_when_forced(tmp_path: Path, use_hf: bool) -> None:
    with serve(Hub(ROWS)) as stub:
        first, again, forced = ask(
            stub.address,
            tmp_path,
            use_hf,
            ("download", "org/thing", "dataset"),
            ("download", "org/thing", "dataset"),
            ("download", "org/thing", "dataset", {"force": True}),
        )
        fetched = sum(request.startswith("GET") and "train.jsonl" in request for request in stub.requests)
    assert first["files"] == again["files"] == forced["files"] == ["README.md", "media.zip", "train.jsonl"]
    assert fetched == 2


@BOTH
def test_without_a_network_the_cache_serves(tmp_path: Path, use_hf: bool) -> None:
    with serve(Hub(ROWS)) as stub:
        (online,) = ask(stub.address, tmp_path, use_hf, ("download", "org/thing", "dataset"))
    cached, offline, absent = ask(
        stub.address,
        tmp_path,
        use_hf,
        ("cached", "org/thing", "dataset"),
        ("download", "org/thing", "dataset"),
        ("download", "org/never", "model"),
    )
    assert cached == offline == online
    assert absent["error"] == "ModelError" and "no network" in absent["text"] and "--model" in absent["text"]


@BOTH
def test_what_is_not_there_and_what_is_closed_are_told_apart(tmp_path: Path, use_hf: bool) -> None:
    with serve(Hub(FILES, token="secret")) as stub:
        (closed,) = ask(stub.address, tmp_path, use_hf, ("download", "org/thing", "model"))
        opened, missing = ask(
            stub.address, tmp_path, use_hf, ("download", "org/thing", "model"), ("download", "org/missing", "dataset"), token="secret"
        )
    assert closed["error"] == "ModelError" and "access was refused" in closed["text"] and "--hub_token" in closed["text"]
    assert "config.json" in opened["files"]
    assert missing["error"] == "DataError" and "does not exist" in missing["text"] and "--use_hf" in missing["text"]


def test_a_local_path_makes_no_request(tmp_path: Path) -> None:
    assert hub.download(str(tmp_path), "model", HubArgs()) == tmp_path


@pytest.mark.parametrize(("word", "hf"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_environment_chooses_the_hub(word: str, hf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_HF", word)
    assert hub.uses_hf(HubArgs()) is hf
    assert hub.uses_hf(HubArgs(use_hf=True))

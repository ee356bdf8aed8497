"""Real tokenizers and published chat templates (shared/oracle), and templates built on them."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from swift.args.base import TemplateArgs
from swift.data.sample import Sample
from swift.template.formats import chat_formats
from swift.template.jinja import _dated
from swift.template.template import Template

DAY = datetime.date(2025, 3, 9)


@pytest.fixture(scope="session")
def tokenizer_folder(shared: Path) -> Path:
    """Built once a machine, beside the repository's own files: building takes some seconds."""
    folder = Path(tempfile.gettempdir()) / f"swift-oracle-tokenizers-{os.getuid()}"
    if not folder.is_dir():
        building = Path(tempfile.mkdtemp(prefix="swift-oracle-"))
        subprocess.run(
            [sys.executable, str(shared / "oracle/tokenizers/materialize.py"), "--out", str(building)], check=True, capture_output=True
        )
        _mend_llama2(building / "meta-llama--Llama-2-7b-chat-hf")
        try:
            building.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(building)
    return folder


def _mend_llama2(folder: Path) -> None:
    """The published folder has `normalized: true` specials, which cut </s> into pieces; a mended copy beside it."""
    mended = folder.with_name("llama-2-mended")
    shutil.copytree(folder, mended)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (mended / name).read_text(encoding="utf-8")
        (mended / name).write_text(text.replace('"normalized": true', '"normalized": false'), encoding="utf-8")


@pytest.fixture(scope="session")
def load(tokenizer_folder: Path, shared: Path) -> Callable[..., PreTrainedTokenizerBase]:
    """A tokenizer by its folder's name, with the published chat template of the given file; `more` are special tokens it lacks."""

    @cache
    def get(name: str, jinja: str | None = None, more: tuple[str, ...] = ()) -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder / name)
        if more:
            tokenizer.add_special_tokens({"extra_special_tokens": list(more)})
        if jinja:
            tokenizer.chat_template = (shared / "oracle/templates/jinja" / jinja).read_text(encoding="utf-8")
        return tokenizer

    return get


def template(name: str, tokenizer: PreTrainedTokenizerBase, **args: Any) -> Template:
    return Template(chat_formats[name], tokenizer, TemplateArgs(**args), date=DAY)


def as_dicts(sample: Sample) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in sample.messages]


def published(tokenizer: PreTrainedTokenizerBase, sample: Sample, *, reply: bool = False, **more: Any) -> list[int]:
    """The oracle: what transformers writes with the checkpoint's chat template, on our day."""
    dated = _dated(tokenizer.get_chat_template(None, more.get("tools")), DAY)
    return tokenizer.apply_chat_template(as_dicts(sample), add_generation_prompt=reply, return_dict=False, chat_template=dated, **more)


def words(text: str) -> str:
    """Without white space."""
    return "".join(text.split())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

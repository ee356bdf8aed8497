"""A checkpoint folder whose model and tokenizer are Python files of its own, which say so when they run."""

from __future__ import annotations

import json
from pathlib import Path

from tests import tiny

MODEL = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({mark!r}).touch()


class HouseConfig(LlamaConfig):
    model_type = "house"


class HouseForCausalLM(LlamaForCausalLM):
    config_class = HouseConfig
"""
TOKENIZER = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path({mark!r}).touch()


class HouseTokenizer(PreTrainedTokenizerFast):
    pass
"""


def change(file: Path, **values: object) -> None:
    """Change values of a JSON file; None takes one out."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def make(folder: Path, *, own_model: bool = True, own_tokenizer: bool = True) -> Path:
    """A tiny Llama under names that transformers does not know. `folder`/model-ran and /tokenizer-ran appear when its files are run."""
    tiny.save(folder)
    (folder / "modeling_house.py").write_text(MODEL.format(mark=str(folder / "model-ran")))
    (folder / "tokenization_house.py").write_text(TOKENIZER.format(mark=str(folder / "tokenizer-ran")))
    named = {"AutoConfig": "modeling_house.HouseConfig", "AutoModelForCausalLM": "modeling_house.HouseForCausalLM"}
    if own_model:
        change(folder / "config.json", model_type="house", architectures=["HouseForCausalLM"], auto_map=named)
    if own_tokenizer:
        own = {"AutoTokenizer": [None, "tokenization_house.HouseTokenizer"]}
        change(folder / "tokenizer_config.json", tokenizer_class="HouseTokenizer", auto_map=own)
    return folder

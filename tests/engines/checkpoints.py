"""Fixtures for tests that start from folders: a whole random model, and an adapter on it. Import them where they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests import tiny

USUAL = {"initializer_range": 0.3}  # with the usual small weights a random model repeats one token for ever


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model with tokenizer and chat template."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-qwen2", "qwen2", **USUAL)


@pytest.fixture(scope="session")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on it that says something else, saved as training saves it: with args.json."""
    return make_adapter(checkpoint, tmp_path_factory.mktemp("adapters") / "lora.v1", seed=1)


def make_adapter(checkpoint: Path, folder: Path, *, seed: int, trained: bool = True, system: str | None = None) -> Path:
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=not trained, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(checkpoint), config)
    model.save_pretrained(folder)
    (folder / "args.json").write_text(json.dumps({"model": str(checkpoint), "train_type": "lora", "system": system}))
    return folder

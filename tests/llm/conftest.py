from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole random model with tokenizer and chat template."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-qwen2", "qwen2", initializer_range=0.3)


@pytest.fixture(scope="session")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on it that says something else."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("adapters") / "lora.v1"
    model = get_peft_model(tiny.load(checkpoint), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"))
    model.save_pretrained(folder)
    return folder

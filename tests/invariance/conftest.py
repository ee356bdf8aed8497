"""Real tokenizers and chat templates on tiny random models of the real architectures, each in a folder as it is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from tests.template.conftest import load, tokenizer_folder  # noqa: F401


class Family(NamedTuple):
    tokenizer: str  # folder of the materialized tokenizer
    jinja: str | None  # published chat template where the tokenizer's folder lacks one
    config: str  # config.json
    name: str  # the folder's name, as on the hub


FAMILIES = {
    "qwen2.5": Family(
        "Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja", "Qwen--Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"
    ),
    "qwen3": Family("Qwen--Qwen3-4B", "qwen3/Qwen-Qwen3-0.6B.jinja", "Qwen--Qwen3-4B", "Qwen3-4B"),
    "llama3.2": Family(
        "meta-llama--Llama-3.2-3B-Instruct",
        "llama3.x/meta-llama-Llama-3.2-3B-Instruct.jinja",
        "meta-llama--Llama-3.2-3B-Instruct",
        "Llama-3.2-3B-Instruct",
    ),
    "llama2": Family("llama-2-mended", None, "meta-llama--Llama-2-7b-chat-hf", "Llama-2-7b-chat-hf"),
    "mistral-v0.2": Family("mistralai--Mistral-7B-Instruct-v0.2", None, "mistralai--Mistral-7B-Instruct-v0.2", "Mistral-7B-Instruct-v0.2"),
    "mistral-v0.3": Family("mistralai--Mistral-7B-Instruct-v0.3", None, "mistralai--Mistral-7B-Instruct-v0.3", "Mistral-7B-Instruct-v0.3"),
    "gemma2": Family("google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja", "google--gemma-2-2b-it", "gemma-2-2b-it"),
    "phi3": Family(
        "microsoft--Phi-3-mini-4k-instruct",
        "phi/microsoft--Phi-3-mini-4k-instruct.jinja",
        "microsoft--Phi-3.5-mini-instruct",
        "Phi-3-mini-4k-instruct",
    ),
}
SMALL = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=1024, max_window_layers=2, query_pre_attn_scalar=16, sliding_window=None, dtype="float32",
    initializer_range=0.3,  # random weights of the usual size repeat one token for ever
)  # fmt: skip


@pytest.fixture(scope="session")
def family_folder(
    load: Callable[..., PreTrainedTokenizerBase],  # noqa: F811
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """The folder of a family's tiny model, made once."""
    root = tmp_path_factory.mktemp("families")

    @cache
    def make(name: str) -> Path:
        family, folder = FAMILIES[name], root / FAMILIES[name].name
        tokenizer = load(family.tokenizer, family.jinja)
        published = json.loads((shared / "oracle/configs" / f"{family.config}.json").read_text(encoding="utf-8"))
        dropped = ("auto_map", "torch_dtype", "transformers_version", "cache_implementation", "_name_or_path")
        values = {key: value for key, value in published.items() if key not in dropped}
        values |= {key: value for key, value in SMALL.items() if key in published or key in ("dtype", "initializer_range")}
        if name == "phi3":
            values |= {"rope_scaling": None}
        if name == "gemma2":
            values |= {"sliding_window": 64}
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        stops = published["eos_token_id"]
        model.generation_config.eos_token_id = stops
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make

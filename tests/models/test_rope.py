"""--rope_scaling with --max_length: the effect is that of a transformers model configured by hand, and the checkpoint carries it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from swift import logs
from swift.args.base import HubArgs, ModelArgs
from swift.args.parse import parse
from swift.errors import ModelError, UsageError
from swift.models.load import load_model
from swift.models.match import ModelInfo, find_model
from swift.models.rope import Rope, longest, stretch
from tests import tiny
from tests.models import house

OWN = 64  # tokens of a row that the tiny model is made for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("rope") / "llama", max_position_embeddings=OWN)


def _info(folder: Path, kind: Any, max_length: int | None) -> ModelInfo:
    return find_model(ModelArgs(str(folder), rope_scaling=kind), HubArgs(), max_length=max_length)


def _logits(model) -> torch.Tensor:
    """Of a row longer than the model was made for. (1, 150, V)"""
    ids = torch.randint(0, 300, (1, 150), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(ids).logits


def _loaded(folder: Path, kind: str | None, max_length: int | None, *, training: bool = False):
    info = _info(folder, kind, max_length)
    return load_model(info, info.args, training=training)


BY_HAND = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": OWN},
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_the_effect_is_that_of_a_model_configured_by_hand(folder, kind):
    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_theta": config.rope_parameters["rope_theta"], **BY_HAND[kind]}
    by_hand = AutoModelForCausalLM.from_pretrained(folder, config=config)
    ours = _loaded(folder, kind, 190)  # 190 / 64, rounded up
    assert torch.equal(_logits(ours), _logits(by_hand))
    assert not torch.allclose(_logits(ours), _logits(_loaded(folder, None, 190)), atol=1e-4)


@pytest.mark.parametrize("kind", BY_HAND)
def test_training_sees_the_same_positions_as_inference(folder, kind):
    assert torch.allclose(_logits(_loaded(folder, kind, 190, training=True)), _logits(_loaded(folder, kind, 190)), atol=1e-5)


@pytest.mark.parametrize("kind", BY_HAND)
def test_the_saved_model_carries_it_and_the_same_flags_change_nothing_again(folder, tmp_path, kind):
    model = _loaded(folder, kind, 190)
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    assert json.loads((saved / "config.json").read_text())["rope_parameters"]["rope_type"] == kind
    for info in (_info(saved, None, None), _info(saved, kind, 190)):
        assert info.max_length == 192
        assert torch.equal(_logits(load_model(info, info.args, training=False)), _logits(model))
    again = _info(saved, kind, 300).rope  # from the length the model was made for, not from the stretched one
    assert again == Rope(kind, 5.0, OWN)


def test_the_longest_row_is_the_stretched_one(folder):
    assert (_info(folder, None, None).max_length, _info(folder, "linear", 100).max_length) == (OWN, 128)
    assert _info(folder, "yarn", 65).rope == Rope("yarn", 2.0, OWN)


def test_it_needs_max_length_and_a_longer_one(folder, monkeypatch):
    said = []
    monkeypatch.setattr(logs, "warn_once", said.append)
    with pytest.raises(UsageError, match="--rope_scaling needs --max_length"):
        _info(folder, "linear", None)
    assert _info(folder, "linear", OWN).rope is None
    assert said == [f"--rope_scaling linear has no effect: --max_length {OWN} is not above the model's own length, {OWN}"]


def test_another_stretch_takes_the_place_of_the_models_own(tmp_path):
    own = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 32, "beta_fast": 16}
    folder = tiny.save(tmp_path / "yarn", max_position_embeddings=OWN, rope_parameters=own)
    assert _info(folder, "yarn", 100).rope == Rope("yarn", 4.0, 32)
    model = _loaded(folder, "yarn", 100)
    assert model.config.rope_parameters == {**own, "factor": 4.0}
    linear = _loaded(folder, "linear", 100).config
    assert (linear.rope_parameters, linear.max_position_embeddings) == ({"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}, 32)


def test_positions_that_are_stretched_in_another_way_are_left_alone():
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    with pytest.raises(ModelError, match=r"a way of its own already \(llama3\), to 131072 tokens"):
        stretch({"max_position_embeddings": 131072, "rope_scaling": llama3}, "linear", 200_000)
    with pytest.raises(ModelError, match=r"config\.json does not say how long"):
        stretch({}, "linear", 100)


def test_models_without_rotary_positions_and_with_several_kinds_say_so(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tiny.save(tmp_path / "gpt2")
    GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=OWN, n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
    with pytest.raises(ModelError, match="GPT2Config has no rotary positions"):
        _loaded(folder, "linear", 100)


def test_code_of_its_own_gets_the_older_names(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = house.make(tmp_path / "house", own_tokenizer=False)
    house.change(folder / "config.json", max_position_embeddings=OWN)
    info = find_model(ModelArgs(str(folder), rope_scaling="linear", trust_remote_code=True), HubArgs(), max_length=100)
    assert load_model(info, info.args, training=False).config.rope_scaling["factor"] == 2.0


def _resolved(*words: str):
    return parse("infer", list(words))


def test_inference_stretches_an_adapters_model_as_training_did(tmp_path):
    adapter = tmp_path / "checkpoint"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (adapter / "args.json").write_text('{"model": "org/base", "rope_scaling": "yarn", "max_length": 4096}')
    args = _resolved("--adapters", str(adapter))
    assert (args.model.rope_scaling, args.template.max_length) == ("yarn", 4096)
    args = _resolved("--adapters", str(adapter), "--max_length", "8192")
    assert args.template.max_length == 8192
    assert any("was trained with --rope_scaling yarn and --max_length 4096" in note for note in args.notes)
    (adapter / "args.json").write_text('{"model": "org/base", "max_length": 4096}')
    assert _resolved("--adapters", str(adapter)).template.max_length is None
    with pytest.raises(UsageError, match="--rope_scaling needs --max_length"):
        _resolved("--model", "org/base", "--rope_scaling", "linear")


@pytest.mark.slow
def test_what_was_trained_stretched_is_served_stretched(folder, tmp_path, monkeypatch):
    """LoRA through the whole commands: the model that answers has the positions of the one that learned."""
    import swift
    import swift.engines.pt.engine as engine

    rows = tiny.chat_rows(tmp_path / "rows.jsonl", 4)
    done = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), rope_scaling="linear", max_length=190, max_steps=1,
                     split_dataset_ratio=0, report_to="none", add_version=False)  # fmt: skip
    seen = []
    real = engine.load_model
    monkeypatch.setattr(engine, "load_model", lambda *args, **kwargs: seen.append(real(*args, **kwargs)) or seen[-1])
    swift.infer(adapters=[done["last_model_checkpoint"]], val_dataset=[str(rows)], max_new_tokens=2)
    assert {name: seen[0].config.rope_parameters[name] for name in ("rope_type", "factor")} == BY_HAND["linear"]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 100}, 100),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": 4}}, 400),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 100}}, 400),
        ({"max_position_embeddings": 400, "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 100}}, 400),
        (
            {"max_position_embeddings": 800, "rope_scaling": {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 100}},
            800,
        ),
        (
            {"model_type": "gemma3", "text_config": {"max_position_embeddings": 800, "rope_scaling": {"rope_type": "linear", "factor": 8}}},
            800,
        ),
        ({}, None),
    ],
)
def test_the_longest_row_of_a_config(config, tokens):
    assert longest(config) == tokens


def test_real_configs_give_a_length(shared):
    """What model cards say of those that are stretched as published."""
    for stem, tokens in [
        ("deepseek-ai--DeepSeek-R1", 163840),
        ("meta-llama--Llama-3.1-8B", 131072),
        ("deepseek-ai--DeepSeek-V4-Pro", 1048576),
    ]:
        assert longest(json.loads((shared / f"oracle/configs/{stem}.json").read_text())) == tokens

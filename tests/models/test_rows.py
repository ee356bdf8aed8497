"""Samples laid end to end are computed as if each were alone, by the model as it is served: whatever its layers are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor

from swift.args.base import HubArgs, ModelArgs
from swift.models.layout import takes_rows_together
from swift.models.load import load_model
from swift.models.match import find_model
from swift.models.rows import keep_rows_apart
from swift.objectives.objective import lay_end_to_end
from swift.objectives.policy import Policy
from tests import tiny
from tests.models import house

LENGTHS = [11, 3, 1, 17]
SHAPE: dict[str, Any] = dict(vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, pad_token_id=None, bos_token_id=1, eos_token_id=2)  # fmt: skip
EXPERTS: dict[str, Any] = dict(
    num_local_experts=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16
)
DELTA: dict[str, Any] = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
VARLEN = {  # variable-length attention
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SHAPE)),
    "gemma2, capped": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**SHAPE, sliding_window=4)),
    "gemma3, two windows": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**SHAPE, sliding_window=4)),
    "gpt-oss, sinks": lambda: t.GptOssForCausalLM(t.GptOssConfig(**SHAPE, **EXPERTS, sliding_window=4)),
    "qwen3 moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**SHAPE, **EXPERTS)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
}
ONE_BY_ONE = {  # one sample after the other
    "mamba, state": lambda: t.MambaForCausalLM(t.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=8, use_mambapy=False)),
    "bloom, alibi": lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)),
    "qwen3-next, state": lambda: t.Qwen3NextForCausalLM(
        t.Qwen3NextConfig(**SHAPE, **EXPERTS, **DELTA, layer_types=["linear_attention", "full_attention"])
    ),
    "llama4, chunks": lambda: t.Llama4ForCausalLM(
        t.Llama4TextConfig(**SHAPE, num_local_experts=2, intermediate_size_mlp=32, attention_chunk_size=4, no_rope_layers=[1, 0])
    ),
}  # fmt: skip


def _rows() -> list[Tensor]:
    return list(torch.randint(3, 300, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0)).split(LENGTHS))


TARGETS = torch.randint(0, 300, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))


def _together(model: t.PreTrainedModel) -> Tensor:
    """Log-probabilities (N,) of TARGETS, as the trainer asks for them."""
    rows = [{"input_ids": row.numpy(), "labels": row.numpy(), "weights": row.float().numpy()} for row in _rows()]
    batch = lay_end_to_end([rows])
    logps, _ = Policy(model).logps(batch | {"shift_labels": TARGETS[None]})
    return logps[0]


def _alone(model: t.PreTrainedModel) -> Tensor:
    logits = torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in _rows()])
    return logits.log_softmax(-1).gather(1, TARGETS[:, None]).squeeze(1)


@pytest.mark.parametrize("name", [*VARLEN, *ONE_BY_ONE])
def test_log_probabilities_and_gradients_are_those_of_each_sample_alone(name):
    torch.manual_seed(0)
    served = {**VARLEN, **ONE_BY_ONE}[name]().eval()
    for parameter in served.parameters():  # sinks and biases begin at 0, where mistakes do not show
        torch.nn.init.normal_(parameter, std=0.3)
    trained = copy.deepcopy(served)
    assert keep_rows_apart(trained) == takes_rows_together(trained) == (name in VARLEN)
    wanted, got = _alone(served), _together(trained)
    assert torch.allclose(got, wanted, atol=1e-4, rtol=1e-4)
    (wanted.square().mean()).backward()
    (got.square().mean()).backward()
    for (where, mine), theirs in zip(trained.named_parameters(), served.parameters(), strict=True):
        if theirs.grad is None:
            assert mine.grad is None, where
            continue
        assert mine.grad is not None, where
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-4 * float(theirs.grad.abs().max()) + 1e-7, rtol=1e-3), where


def test_trying_changes_neither_mode_nor_random_numbers():
    model = VARLEN["llama"]().train()
    torch.manual_seed(3)
    keep_rows_apart(model)
    assert model.training
    seen = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(seen, torch.rand(4))


OLD_CODE = """
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


class OldConfig(PreTrainedConfig):
    model_type = "house"


class OldBase(PreTrainedModel):
    config_class = OldConfig
    base_model_prefix = "model"

    def _init_weights(self, module):
        pass


class OldModel(OldBase):
    # sums what came before: knows nothing of batches without padding, and takes no argument that it does not know
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, use_cache=None):
        return BaseModelOutputWithPast(last_hidden_state=self.embed_tokens(input_ids).cumsum(1))


class HouseForCausalLM(OldBase, GenerationMixin):
    def __init__(self, config):
        super().__init__(config)
        self.model = OldModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, attention_mask=None, use_cache=None):
        return CausalLMOutputWithPast(logits=self.lm_head(self.model(input_ids, attention_mask=attention_mask)[0]))


HouseConfig = OldConfig
"""


def test_code_that_knows_nothing_of_it_is_trained_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = house.make(tmp_path / "house", own_tokenizer=False)
    (folder / "modeling_house.py").write_text(OLD_CODE)
    weights = {"model.embed_tokens.weight": torch.randn(400, 32), "lm_head.weight": torch.randn(400, 32)}
    from safetensors.torch import save_file

    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    house.change(folder / "config.json", vocab_size=400, tie_word_embeddings=False)
    args = ModelArgs(str(folder), trust_remote_code=True)
    info = find_model(args, HubArgs())
    trained, served = load_model(info, args, training=True), load_model(info, args, training=False)
    with torch.no_grad():
        assert torch.allclose(_together(trained), _alone(served), atol=1e-4)


@pytest.mark.slow
def test_a_model_with_a_state_is_trained_as_its_rows_say(tmp_path: Path):
    """Through the whole command: the loss of a batch of two is the mean of both alone."""
    import swift

    folder = tiny.save(tmp_path / "mamba")
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    (folder / "config.json").unlink()
    t.MambaForCausalLM(t.MambaConfig(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, state_size=8)).save_pretrained(folder)
    rows = tiny.chat_rows(tmp_path / "rows.jsonl", 4)
    quick = dict(train_type="full", num_train_epochs=1, split_dataset_ratio=0, report_to="none", add_version=False, learning_rate=1e-9,
                 logging_steps=1, lr_scheduler_type="constant")  # fmt: skip
    losses = {}
    for size in (1, 4):
        done = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / f"out{size}"), per_device_train_batch_size=size,
                         gradient_accumulation_steps=4 // size, **quick)  # fmt: skip
        losses[size] = [entry["loss"] for entry in done["log_history"] if "loss" in entry]
    assert losses[1] == pytest.approx(losses[4], rel=1e-4)

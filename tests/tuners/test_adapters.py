"""What a LoRA option does to the model, and that what is saved loads in plain PEFT with the same logits."""

import json

import pytest
import torch
from peft import PeftModel

from swift.args.tuner import FullArgs, LoraArgs, TargetArgs
from swift.errors import ModelError, UsageError
from swift.models.attention import use_varlen
from swift.objectives.policy import exchange_head
from swift.tuners.adapters import add_lora, load_adapter
from swift.tuners.full import open_parameters
from swift.tuners.targets import adapts_output_layer, all_linear, target_modules
from tests import tiny
from tests.train.runs import rows, trainer

IDS = torch.arange(3, 20)[None]


def trained(tmp_path, lora=None, target=None):
    """A LoRA run of a few steps on a tiny model: (the adapted model, its last checkpoint)."""
    target = target or TargetArgs()
    base = tiny.model()
    use_varlen(base)
    if not adapts_output_layer(base, target, "lora"):
        exchange_head(base)
    model = add_lora(base, lora or LoraArgs(lora_dropout=0.0), target)
    trainer(model, rows(8), tmp_path, max_steps=3, save_strategy="steps", save_steps=3).train()
    return model.eval(), tmp_path / "checkpoint-3"


@pytest.mark.parametrize(
    ("lora", "target"),
    [
        ({}, {}),
        ({"use_dora": True}, {}),
        ({"use_rslora": True, "lora_rank": 4}, {}),
        ({"lora_bias": "all"}, {}),
        ({}, {"init_weights": "gaussian"}),
        ({}, {"init_weights": "false"}),
        ({}, {"init_weights": "pissa"}),
        ({}, {"modules_to_save": ["embed_tokens", "all-norm"]}),
        ({}, {"modules_to_save": ["lm_head"]}),
        ({}, {"target_regex": r"model\.layers\.1\..*_proj"}),
        ({}, {"target_modules": ["q_proj", "lm_head"]}),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")  # PEFT says so where lm_head is adapted
def test_the_saved_adapter_gives_the_same_logits_in_plain_peft(lora, target, tmp_path):
    model, folder = trained(tmp_path, LoraArgs(lora_dropout=0.0, **lora), TargetArgs(**target))
    with torch.no_grad():
        expected, untouched = model(IDS).logits, tiny.model()(IDS).logits
        found = PeftModel.from_pretrained(tiny.model(), folder).eval()(IDS).logits
    assert not torch.allclose(expected, untouched, atol=1e-4), "training changed nothing"
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_all_linear_is_every_linear_layer_but_the_output():
    assert all_linear(tiny.model()) == sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])


def test_lora_matrices_are_float32_unless_asked_otherwise():
    for dtype, expected in ((None, torch.float32), ("bfloat16", torch.bfloat16)):
        model = add_lora(tiny.model().to(torch.bfloat16), LoraArgs(lora_dtype=dtype), TargetArgs())
        assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {expected}


def test_only_lora_and_what_was_named_is_trained():
    model = add_lora(tiny.model(), LoraArgs(), TargetArgs(modules_to_save=["norm"]))
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable and all("lora_" in name or "modules_to_save" in name for name in trainable)


def test_a_name_that_matches_nothing_is_refused_with_the_names_there_are():
    with pytest.raises(UsageError, match=r"q_porj.*did you mean q_proj"):
        target_modules(tiny.model(), TargetArgs(target_modules=["q_porj"]))
    with pytest.raises(UsageError, match="matches no module"):
        target_modules(tiny.model(), TargetArgs(target_regex="nothing.*"))


def test_the_output_layer_is_seen_as_a_target():
    assert adapts_output_layer(tiny.model(), TargetArgs(target_modules=["all-linear", "lm_head"]), "lora")
    assert not adapts_output_layer(tiny.model(), TargetArgs(), "lora")
    assert not adapts_output_layer(tiny.model(), TargetArgs(target_modules=["lm_head"]), "full")


def test_an_adapter_of_another_model_is_refused(tmp_path):
    _, folder = trained(tmp_path)
    with pytest.raises(ModelError, match="trained on another"):
        load_adapter(tiny.model(hidden_size=48), folder)
    with pytest.raises(ModelError, match="is no adapter"):
        load_adapter(tiny.model(), tmp_path)


def test_an_adapter_that_names_another_model_is_said(tmp_path, capsys):
    _, folder = trained(tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": "org/first"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    for name, said in (("models/second", True), ("models/First", False)):
        model = tiny.model()
        model.config._name_or_path = name
        load_adapter(model, folder)
        assert ("was trained on org/first" in capsys.readouterr().err) == said


def names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_full_training_opens_everything_and_freezing_closes_by_prefix_and_ratio():
    model = tiny.model()
    everything = set(dict(model.named_parameters()))
    open_parameters(model, FullArgs())
    assert names(model) == everything
    open_parameters(model, FullArgs(freeze_parameters=["model.layers.0"]))
    assert names(model) == {name for name in everything if not name.startswith("model.layers.0")}
    open_parameters(model, FullArgs(freeze_parameters_ratio=1.0, trainable_parameters=["lm_head"]))
    assert names(model) == {"lm_head.weight"}


def test_the_ratio_freezes_from_the_bottom_while_it_is_not_passed():
    model = tiny.model()
    sizes = [p.numel() for p in model.parameters()]
    open_parameters(model, FullArgs(freeze_parameters_ratio=0.5))
    frozen = [not p.requires_grad for p in model.parameters()]
    count = sum(frozen)
    assert frozen == [True] * count + [False] * (len(frozen) - count)
    assert sum(sizes[:count]) <= 0.5 * sum(sizes) < sum(sizes[: count + 1])


def test_freezing_everything_is_refused():
    with pytest.raises(UsageError, match="every parameter is frozen"):
        open_parameters(tiny.model(), FullArgs(freeze_parameters_ratio=1.0))
    with pytest.raises(UsageError, match="no parameter's name begins so"):
        open_parameters(tiny.model(), FullArgs(freeze_parameters=["modle"]))

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from swift.args.base import HubArgs, ModelArgs, TemplateArgs
from swift.errors import ModelError, UsageError
from swift.exporters.merge import merge_adapters
from tests import tiny
from tests.engines.checkpoints import adapter, checkpoint, make_adapter  # noqa: F401


def merge(checkpoint: Path, *adapters: Path, **settings) -> Path:  # noqa: F811
    return merge_adapters(ModelArgs(model=str(checkpoint)), HubArgs(), TemplateArgs(), [str(folder) for folder in adapters], **settings)


@pytest.fixture
def own(adapter: Path, tmp_path: Path) -> Path:  # noqa: F811
    """The adapter in a folder that a test may write beside."""
    return Path(shutil.copytree(adapter, tmp_path / "lora"))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[1, 7, 30, 200, 5]])).logits


def test_the_merged_model_is_the_adapted_one_in_plain_transformers(checkpoint: Path, own: Path) -> None:  # noqa: F811
    output = merge(checkpoint, own)
    assert output == own.with_name("lora-merged")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), own)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(output)), logits(adapted), atol=1e-4, rtol=1e-4)
    chat = [{"role": "user", "content": "hi"}]
    some, other = (AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, return_dict=False) for folder in (output, checkpoint))
    assert some == other
    assert json.loads((output / "args.json").read_text())["model"] == str(checkpoint)
    assert not list(output.parent.glob("*.part"))


def test_stacked_adapters_are_merged_together(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    second = make_adapter(checkpoint, tmp_path / "second", seed=9)
    both = merge(checkpoint, own, second, output=tmp_path / "both")
    weights = [
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (both, merge(checkpoint, own), merge(checkpoint, second), checkpoint)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name] + weights[2][name] - weights[3][name], atol=1e-5, rtol=1e-5)


def test_a_merged_folder_is_made_anew_once_the_adapter_is_newer(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    output = merge(checkpoint, own)
    first = (output / "model.safetensors").read_bytes()
    (output / "mark").touch()
    merge(checkpoint, own)
    assert (output / "mark").exists()
    other = make_adapter(checkpoint, tmp_path / "other", seed=5)
    shutil.copyfile(other / "adapter_model.safetensors", own / "adapter_model.safetensors")
    later = (output / "model.safetensors").stat().st_mtime + 10
    os.utime(own / "adapter_model.safetensors", (later, later))
    merge(checkpoint, own)
    assert not (output / "mark").exists()
    assert (output / "model.safetensors").read_bytes() != first


def test_an_adapter_that_changes_nothing_is_an_error(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    untrained = make_adapter(checkpoint, tmp_path / "untrained", seed=1, trained=False)
    with pytest.raises(ModelError, match=r"equals the base model: the adapter changes nothing .*lora_B.*not trained"):
        merge(checkpoint, untrained)
    assert not list(tmp_path.glob("untrained-merged*"))


def in_type(folder: Path, dtype: str) -> ModelArgs:
    return ModelArgs(model=str(folder), torch_dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_alone_is_no_fault_in_any_type(architecture: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tiny.save(tmp_path / "base", architecture, initializer_range=0.1)
    own = make_adapter(base, tmp_path / "lora", seed=2)
    output = merge_adapters(in_type(base, dtype), HubArgs(), TemplateArgs(), [str(own)])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "largest logit difference" in line]
    numbers = [float(number) for number in re.findall(r"(?:adapter|base|is|by) (\d[\d.e-]*\d)", line)]
    error, effect, scale, rounding = numbers
    assert 0 < error < 2 * rounding < effect < 4 * scale and dtype in line
    assert json.loads((output / "config.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("fault", "complaint"), [("no layer", "equals the base"), ("last layer not", "not the adapted one"), ("nan", "not the")]
)
def test_a_merge_gone_wrong_is_an_error_and_leaves_nothing(
    fault: str,
    complaint: str,
    dtype: str,
    checkpoint: Path,  # noqa: F811
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taken_in(adapted: PeftModel):
        if fault == "no layer":
            return adapted.unload()
        merged, base = adapted.merge_and_unload(), AutoModelForCausalLM.from_pretrained(checkpoint)
        layer = merged.model.layers[-1]
        layer.load_state_dict(
            {name: value * (torch.nan if fault == "nan" else 1) for name, value in base.model.layers[-1].state_dict().items()}
        )
        return merged

    monkeypatch.setattr("swift.exporters.merge.taken_in", taken_in)
    with pytest.raises(ModelError, match=complaint):
        merge_adapters(in_type(checkpoint, dtype), HubArgs(), TemplateArgs(), [str(own)])
    assert not list(own.parent.glob("lora-merged*"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT warns of it too, and merges
def test_an_adapter_on_one_of_two_tied_layers_is_found_out(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    config = LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(checkpoint), config).save_pretrained(str(tmp_path / "lora"))
    with pytest.raises(ModelError, match=r"not the adapted one.*are one tensor"):
        merge(checkpoint, tmp_path / "lora")


def test_a_folder_of_other_adapters_is_not_taken_for_these(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    second = make_adapter(checkpoint, tmp_path / "second", seed=9)
    one = logits(AutoModelForCausalLM.from_pretrained(merge(checkpoint, own)))
    both = merge(checkpoint, own, second)
    assert both == own.with_name("lora-merged") and (logits(AutoModelForCausalLM.from_pretrained(both)) - one).abs().max() > 0.1
    (both / "mark").touch()
    assert (merge(checkpoint, own, second) / "mark").exists()


def test_what_is_overwritten_must_be_asked_for_and_is_never_what_is_read(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    there = Path(shutil.copytree(checkpoint, tmp_path / "there"))
    with pytest.raises(UsageError, match="--exist_ok"):
        merge(checkpoint, own, output=there)
    before = logits(AutoModelForCausalLM.from_pretrained(there))
    merge(checkpoint, own, output=there, again=True)
    assert (logits(AutoModelForCausalLM.from_pretrained(there)) - before).abs().max() > 0.1
    for source in (checkpoint, own, own.parent):
        with pytest.raises(UsageError, match="choose another --output_dir"):
            merge(checkpoint, own, output=source, again=True)


def test_a_quantized_model_is_refused(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    quantized = Path(shutil.copytree(checkpoint, tmp_path / "quantized"))
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(ModelError, match="quantized"):
        merge(quantized, own)


def test_weight_files_are_no_larger_than_asked(checkpoint: Path, own: Path) -> None:  # noqa: F811
    output = merge(checkpoint, own, max_shard_size="50KB")
    assert len(list(output.glob("model-*.safetensors"))) > 1
    assert (output / "model.safetensors.index.json").is_file()


def test_the_merged_weights_keep_the_type_of_the_stored_ones(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(half)
    assert json.loads((merge(half, own) / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_folder_that_is_no_model_is_not_overwritten(checkpoint: Path, own: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(ModelError, match="in the way"):
        merge(checkpoint, own, output=tmp_path / "mine")
    assert (tmp_path / "mine" / "diary.txt").exists()


def test_merging_nothing_is_refused(checkpoint: Path) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="--adapters"):
        merge(checkpoint)


def test_a_merged_folder_writes_what_was_trained_whatever_is_asked_for_once(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    own = make_adapter(checkpoint, tmp_path / "lora", seed=1, system="Trained.")
    output = merge_adapters(ModelArgs(model=str(checkpoint)), HubArgs(), TemplateArgs(system="Asked once."), [str(own)])
    text = AutoTokenizer.from_pretrained(output).apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "Trained." in text and "Asked once." not in text

"""An adapter on quantized weights, from training to answers, through the commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import swift
from swift.args.base import HubArgs, ModelArgs, QuantArgs, TemplateArgs
from swift.engines.load import load_engine
from swift.errors import UsageError
from swift.models.quantized import quantized_linears

pytest.importorskip("bitsandbytes")

QUICK = dict(split_dataset_ratio=0.1, num_train_epochs=8, learning_rate=1e-2, report_to="none", logging_steps=1, max_length=128)
IDS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows of 64, as long as a block of 4-bit weights."""
    from tests import tiny

    return tiny.save(tmp_path_factory.mktemp("model") / "tiny-llama", hidden_size=64, intermediate_size=128)


def logits(model):
    with torch.no_grad():
        return model(IDS.to(model.device)).logits.float().cpu()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_what_was_learned_on_quantized_weights_answers_on_them(bits, wide, rows, tmp_path):
    record = swift.sft(
        model=str(wide), dataset=[str(rows)], output_dir=str(tmp_path / "out"), quant_bits=bits, lora_dropout=0.0, torch_dtype="float32",
        gradient_checkpointing=True, modules_to_save=["lm_head"], **QUICK,
    )  # fmt: skip
    losses = [entry["loss"] for entry in record["log_history"] if "loss" in entry]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    last = Path(record["last_model_checkpoint"])
    assert json.loads((last / "args.json").read_text())["quant_bits"] == bits
    assert [path.name for path in last.glob("*.safetensors")] == ["adapter_model.safetensors"]

    told = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    told = told if bits == 4 else BitsAndBytesConfig(load_in_8bit=True)
    plain = AutoModelForCausalLM.from_pretrained(wide, quantization_config=told, dtype=torch.float32)
    engine = load_engine(
        ModelArgs(str(wide), torch_dtype="float32"), HubArgs(), TemplateArgs(), quant=QuantArgs("bnb", bits), adapters=[str(last)]
    )
    assert len(list(quantized_linears(engine.shelf.model))) == 14
    torch.testing.assert_close(logits(engine.shelf.model), logits(PeftModel.from_pretrained(plain, last).train()), atol=2e-2, rtol=2e-2)

    val = tmp_path / "val.jsonl"
    val.write_text(json.dumps({"messages": [{"role": "user", "content": "say 3 please"}]}) + "\n")
    answers = swift.infer(adapters=[str(last)], val_dataset=[str(val)], max_new_tokens=4, result_path=str(tmp_path / "answers.jsonl"))
    assert len(answers) == 1
    swift.infer(adapters=[str(last)], merge_lora=True, val_dataset=[str(val)], max_new_tokens=4, result_path=str(tmp_path / "merged.jsonl"))
    merged = AutoModelForCausalLM.from_pretrained(last.with_name(f"{last.name}-merged"))
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(wide), last)
    torch.testing.assert_close(logits(merged), logits(whole), atol=1e-4, rtol=1e-4)


def test_a_quantized_checkpoint_is_not_trained_whole(folder, rows, tmp_path):
    there = Path(shutil.copytree(folder, tmp_path / "gptq"))
    config = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(UsageError, match=r"quantized \(gptq, 4 bits\).*leave out --train_type full"):
        swift.sft(model=str(there), dataset=[str(rows)], output_dir=str(tmp_path / "out"), train_type="full", **QUICK)
    assert not (tmp_path / "out").exists()

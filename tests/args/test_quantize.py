"""Flags of quantized weights: what one says about the others, what args.json says, and what is refused before anything is loaded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from swift.args import saved
from swift.args.base import QuantArgs
from swift.args.parse import ArgumentErrors, parse
from tests.args.words import sft


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, there=True)


def _pretend(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    real = importlib.util.find_spec
    spec = real("json") if there else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: spec if name == "bitsandbytes" else real(name, *more))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """What a QLoRA run leaves."""
    saved.write(sft("--quant_bits", "4", "--bnb_4bit_quant_type", "fp4", "--bnb_4bit_use_double_quant", "false"), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


def wrong(*words: str) -> str:
    with pytest.raises(ArgumentErrors) as raised:
        sft(*words)
    return "; ".join(raised.value.problems)


def test_nothing_is_quantized_unless_asked() -> None:
    assert sft().quant == QuantArgs() == QuantArgs(None, None, None, "nf4", True, None)


def test_bits_alone_mean_bnb_and_it_is_said() -> None:
    args = sft("--quant_bits", "4")
    assert args.quant == QuantArgs("bnb", 4)
    assert any("without --quant_method means bnb" in note for note in args.notes)
    assert not sft("--quant_bits", "8", "--quant_method", "bnb").notes


@pytest.mark.parametrize("bits", ["3", "16", "four", ""])
def test_other_bits_are_refused(bits: str) -> None:
    assert "--quant_bits: " in wrong("--quant_bits", bits)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--quant_method bnb", "--quant_method bnb needs --quant_bits 4 or 8"),
        ("--quant_method bnb --quant_bits None", "--quant_method bnb and --quant_bits None exclude each other"),
        ("--quant_method None --quant_bits 4", "--quant_bits 4 and --quant_method None exclude each other"),
        ("--quant_bits 4 --train_type full", "quantized weights cannot be trained; train an adapter on them (lora)"),
        ("--quant_bits 8 --init_weights pissa_niter_4", "--init_weights pissa_niter_4 and --quant_bits exclude each other"),
        ("--quant_bits 4 --adapters org/a org/b", "Merge them first: swift infer --adapters … --merge_lora true"),
        ("--quant_method hqq --quant_bits 4", "--quant_method hqq is part of SWIFT but not built yet"),
        ("--quant_method eetq --quant_bits 8", "--quant_method eetq is part of SWIFT but not built yet"),
        ("--hqq_axis 1", "--hqq_axis is part of SWIFT but not built yet"),
        ("--bnb_4bit_quant_type nf5", "'nf5' is not one of nf4, fp4"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, why: str) -> None:
    assert why in wrong(*words.split())


def test_flags_of_four_bits_do_nothing_beside_eight() -> None:
    (note,) = (note for note in sft("--quant_bits", "8", "--bnb_4bit_quant_type", "fp4").notes if "no effect" in note)
    assert "--quant_bits 4: --bnb_4bit_quant_type" in note


def test_without_the_library_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, there=False)
    assert "pip install 'swift-finetune[quant]'" in wrong("--quant_bits", "4")
    assert any("swift-finetune[quant]" in line for line in sft("--quant_bits", "4", "--dry_run", "true").missing)
    assert not sft("--dry_run", "true").missing


def test_the_extra_is_one_of_the_distribution() -> None:
    import tomllib

    from swift.args.quantize import EXTRA

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("bitsandbytes") for line in project["optional-dependencies"][EXTRA])


def test_an_adapter_answers_on_weights_as_it_was_trained_on(adapter: Path) -> None:
    args = parse("infer", ["--adapters", str(adapter)])
    assert args.quant == QuantArgs("bnb", 4, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False)
    assert any("--quant_bits None leaves them whole" in note for note in args.notes)
    assert parse("infer", ["--adapters", str(adapter), "--quant_bits", "8"]).quant.quant_bits == 8
    for flag in ("--quant_bits", "--quant_method"):
        whole = parse("infer", ["--adapters", str(adapter), flag, "None"]).quant
        assert (whole.quant_method, whole.quant_bits) == (None, None)


def test_a_merged_adapter_answers_on_whole_weights_unless_asked(adapter: Path) -> None:
    words = ["--adapters", str(adapter), "--merge_lora", "true"]
    assert parse("infer", words).quant.quant_method is None
    assert any("merged into the model's whole weights" in note for note in parse("infer", words).notes)
    assert parse("infer", [*words, "--quant_bits", "4"]).quant.quant_method == "bnb"


@pytest.mark.parametrize("flag", ["adapters", "resume_from_checkpoint"])
def test_training_goes_on_with_weights_as_they_were(adapter: Path, flag: str) -> None:
    (adapter / "trainer_state.json").write_text("{}")
    assert sft(f"--{flag}", str(adapter)).quant == QuantArgs("bnb", 4, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False)
    assert sft(f"--{flag}", str(adapter), "--quant_bits", "None").quant.quant_method is None
    assert sft(f"--{flag}", str(adapter), "--quant_bits", "8").quant.quant_bits == 8


def test_bits_of_a_record_without_a_method_mean_nothing(adapter: Path) -> None:
    """Other programs write so, and did not quantize."""
    values = json.loads((adapter / saved.FILE).read_text()) | {"quant_method": None}
    (adapter / saved.FILE).write_text(json.dumps(values))
    assert parse("infer", ["--adapters", str(adapter)]).quant.quant_bits is None
    assert sft("--adapters", str(adapter)).quant.quant_bits is None
    (adapter / saved.FILE).write_text(json.dumps(values | {"quant_method": "hqq"}))
    for run in (lambda: parse("infer", ["--adapters", str(adapter)]), lambda: sft("--adapters", str(adapter))):
        with pytest.raises(ArgumentErrors, match="quant_method hqq is part of SWIFT but not built yet"):
            run()

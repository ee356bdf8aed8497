"""swift merge-lora, and --merge_lora true of swift deploy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from swift.args.parse import parse
from swift.cli.main import main
from swift.commands.deploy import split_adapters
from swift.commands.infer import ready_engine
from tests.args.words import problems
from tests.engines.checkpoints import adapter, checkpoint, make_adapter  # noqa: F401


@pytest.fixture
def own(adapter: Path, tmp_path: Path) -> Path:  # noqa: F811
    return Path(shutil.copytree(adapter, tmp_path / "lora"))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[1, 7, 30, 200, 5]])).logits


@pytest.mark.parametrize("words", [[], ["--output_dir", "elsewhere/whole"]])
def test_the_folder_is_the_adapted_model_and_its_logits_are_shown(
    words: list[str],
    checkpoint: Path,  # noqa: F811
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["merge-lora", "--adapters", str(own), *words]) == 0
    output = tmp_path / "elsewhere" / "whole" if words else own.with_name("lora-merged")
    err = capsys.readouterr().err
    assert "merged to adapter" in err and f"merged model: {output}" in err
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), own)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(output)), logits(adapted), atol=1e-4, rtol=1e-4)


def test_exist_ok_merges_again(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["merge_lora", "--adapters", str(own)]  # the older spelling of the command
    assert main(words) == 0
    mark = own.with_name("lora-merged") / "mark"
    mark.touch()
    assert main(words) == 0 and mark.exists()
    assert "used as it is" in capsys.readouterr().err
    assert main([*words, "--exist_ok", "true"]) == 0 and not mark.exists()


def test_an_untrained_adapter_ends_with_the_reason(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    make_adapter(checkpoint, tmp_path / "untrained", seed=1, trained=False)
    assert main(["merge-lora", "--adapters", str(tmp_path / "untrained")]) == 1
    assert "ModelError: the merged model equals the base model: the adapter changes nothing" in capsys.readouterr().err


def test_what_is_typed_for_the_folder_stays_in_it(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    own = make_adapter(checkpoint, tmp_path / "lora", seed=1, system="Trained.")
    assert main(["merge-lora", "--adapters", str(own), "--system", "Typed."]) == 0
    output = own.with_name("lora-merged")
    text = AutoTokenizer.from_pretrained(output).apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "Typed." in text and "Trained." not in text
    assert parse("infer", ["--model", str(output)]).template.system == "Typed."


def test_an_adapter_of_rounded_weights_goes_into_whole_ones_that_stay_whole(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((own / "args.json").read_text())
    (own / "args.json").write_text(json.dumps(record | {"quant_method": "bnb", "quant_bits": 4}))
    assert main(["merge-lora", "--adapters", str(own)]) == 0
    assert "trained on weights in 4 bits; it is merged into the model's whole weights\n" in capsys.readouterr().err
    output = own.with_name("lora-merged")
    assert AutoModelForCausalLM.from_pretrained(output).dtype == torch.float32
    assert parse("infer", ["--model", str(output)]).quant.quant_bits is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--adapters"], "swift merge-lora needs --adapters"),
        (["--adapters", "org/lora", "--merge_lora", "false"], "nothing but merge"),
        (["--adapters", "org/lora", "--quant_bits", "4"], "writes whole weights"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_loading(words: list[str], complaint: str) -> None:
    assert complaint in "\n".join(problems(*words, command="merge-lora", given=["--model", "org/model"]))


def test_flags_of_rows_and_answers_are_said_to_do_nothing() -> None:
    command = parse("merge-lora", ["--model", "org/model", "--adapters", "org/lora", "--temperature", "0.5"])
    assert command.notes == ("--temperature has no effect in swift merge-lora: no rows are read and no answers made",)
    assert command.merge.merge_lora and command.export.output_dir is None  # type: ignore[attr-defined]


def test_deploy_serves_the_merged_model(checkpoint: Path, own: Path) -> None:  # noqa: F811
    args = parse("deploy", ["--adapters", str(own), "--merge_lora", "true", "--torch_dtype", "float32"])
    named, always = split_adapters(args)  # type: ignore[arg-type]
    engine = ready_engine(args, always)  # type: ignore[arg-type]
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), own)
    assert named == [] and own.with_name("lora-merged").is_dir()
    torch.testing.assert_close(logits(engine.model), logits(adapted), atol=1e-4, rtol=1e-4)

"""The doctor finds what is wrong with each file of clinic/sick (its name says what), and nothing in those of clinic/healthy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from swift import nano
from swift.args.base import DataArgs, HubArgs, ModelArgs, TemplateArgs
from swift.data.doctor import Finding, examine
from swift.data.encoded import encode_rows
from swift.data.mix import load_samples
from swift.errors import DataError
from swift.models.load import load_processor
from swift.models.match import find_model
from swift.template.build import build_template
from swift.template.formats import CHATML
from swift.template.template import Template

CLINIC = Path(__file__).parent / "clinic"
SICK = sorted(path for path in (CLINIC / "sick").iterdir() if ".val." not in path.name)
HEALTHY = sorted((CLINIC / "healthy").iterdir())
TOKENS = {  # files whose trouble is in the tokens: how they are encoded
    "mostly-too-long": {"max_length": 60},
    "mostly-truncated": {"max_length": 60, "truncation_strategy": "right"},
    "missing-eos": {"max_length": 80, "truncation_strategy": "right"},
    "nothing-to-learn-after-truncation": {"max_length": 60, "truncation_strategy": "right"},
    "double-bos": {"use_chat_template": False, "loss_scale": "all"},
}
CLASSES = ("contrary-labels", "one-label", "label-missing", "classes", "scores")


def visit(path: Path, *, tokens: bool = True) -> list[Finding]:
    """What `swift preview` does for the doctor, without its command line."""
    name = path.name.split(".")[0]
    val = path.with_name(f"{name}.1.val.jsonl")
    data = DataArgs(
        dataset=[str(path)], val_dataset=[str(val)] if val.is_file() else [], split_dataset_ratio=0.0, remove_unused_columns=False
    )
    options = TOKENS.get(name, {})
    text = options.get("use_chat_template") is False or path.suffix == ".txt"
    task: Any = "seq_cls" if name in CLASSES else "pt" if text else "sft"
    template = make_template(TemplateArgs(**options))
    rows = tally = None
    if tokens:
        try:
            loaded = load_samples(data, HubArgs(), task=task)
            tally = loaded.tally
            rows = encode_rows(loaded.train, template.encode_sample, num_proc=1, strict=False, tally=tally)  # type: ignore[arg-type]
        except DataError:
            pass  # no row is left: the doctor sees the files themselves
    return examine(data, HubArgs(), task=task, template=template, rows=rows, tally=tally)


def make_template(args: TemplateArgs) -> Template:
    """Nano's own; for plain text with a BOS token before it, as Llama's and Gemma's tokenizers write one."""
    if args.use_chat_template:
        info = find_model(ModelArgs(model="swift/nano"), HubArgs())
        return build_template(info, load_processor(info), args)
    tokenizer = AutoTokenizer.from_pretrained(nano.model_path("swift/nano"))
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    bos = [("<bos>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=bos)
    return Template(CHATML, tokenizer, args)


@pytest.mark.parametrize("path", SICK, ids=lambda path: path.name)
def test_what_is_wrong_is_found(path: Path) -> None:
    findings = visit(path)
    code = path.name.split(".")[0]
    found = next((finding for finding in findings if finding.code == code), None)
    assert found is not None, [finding.line() for finding in findings]
    assert found.count >= 1 and found.mend and found.message
    assert all(origin.file == str(path) or ".val." in origin.file for origin in found.places)


@pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.name)
def test_healthy_files_have_no_finding(path: Path) -> None:
    assert [finding.line() for finding in visit(path)] == []


def test_the_clinic_is_large_enough() -> None:
    assert len(SICK) >= 40 and len(HEALTHY) >= 20


def test_a_finding_names_the_number_the_place_and_the_mend() -> None:
    finding = next(f for f in visit(CLINIC / "sick" / "misspelt-column.1.jsonl") if f.code == "misspelt-column")
    rows = len((CLINIC / "sick" / "misspelt-column.1.jsonl").read_text().splitlines())
    assert finding.count == rows and finding.places[0].line == 1
    assert "did you mean 'response'" in finding.message and json.dumps({"reponse": "response"}) in finding.mend
    assert "misspelt-column.1.jsonl row 1" in finding.line()


def test_all_broken_lines_of_a_file_are_counted() -> None:
    finding = next(f for f in visit(CLINIC / "sick" / "bad-utf8.1.jsonl") if f.code == "bad-utf8")
    assert finding.count == 2 and [origin.line for origin in finding.places] == [2, 4]


def test_rows_that_differ_in_their_system_text_are_no_repetitions(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"system": said, "query": "Say yes, please.", "response": "Yes, of course."} for said in ("Be kind.", "Be rude.")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [finding.code for finding in visit(file)] == []


def test_a_gz_that_is_cut_off_is_a_finding(tmp_path: Path) -> None:
    import gzip
    import random

    file = tmp_path / "rows.jsonl.gz"
    noise = random.Random(0).randbytes(4000) + b"\n"
    file.write_bytes(gzip.compress(b'{"query": "q", "response": "r"}\n' + noise * 3)[:-30])
    assert visit(file)

"""--template_check and --template_backend: what differs from the checkpoint's own chat template is said, or stops the run."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from swift.args.base import TemplateArgs
from swift.data.sample import Message, Sample
from swift.errors import ModelError, UsageError
from swift.logs import get_logger, info_once, warn_once
from swift.models.spec import ModelSpec
from swift.template.build import build_template
from swift.template.formats import chat_formats
from swift.template.jinja import JinjaFormat, _dated
from swift.template.marks import has_marks
from tests import tiny
from tests.template.conftest import DAY
from tests.template.families import FAMILIES
from tests.template.oracle import TALKS, published, sample_of, stand_in

QWEN = ("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja")
GEMMA = ("google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja")


@pytest.fixture(autouse=True)
def said():
    """The warnings that were logged."""
    warn_once.cache_clear()
    info_once.cache_clear()
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    get_logger().addHandler(handler)
    yield lines
    get_logger().removeHandler(handler)


def build(tokenizer: Any, spec: ModelSpec | None = None, path: Path | None = None, **args: Any):
    info: Any = SimpleNamespace(name="some-model", path=path, spec=spec or ModelSpec("auto"), max_length=None)
    return build_template(info, tokenizer, TemplateArgs(**args), date=DAY)


# --template_check


def test_another_format_is_said_with_the_conversation_both_texts_and_the_way_out(load, said):
    build(load(*QWEN), template="chatml", template_check="warn")
    (line,) = said
    assert "--template chatml" in line and "some-model" in line
    assert "'one round'" in line and "at character" in line  # the first conversation without a system message: Qwen2.5 writes its own
    assert "<|im_start|>user" in line and "<|im_start|>system\\nYou are Qwen" in line
    assert "Without --template" in line and "--template_check" in line and "\n" not in line


def test_error_stops_and_off_says_nothing(load, said):
    with pytest.raises(ModelError, match="--template chatml does not write what the chat template of some-model writes"):
        build(load(*QWEN), template="chatml", template_check="error")
    assert build(load(*QWEN), template="chatml", template_check="off").format.name == "chatml"
    assert not said


@pytest.mark.parametrize("check", ["off", "warn", "error"])
def test_what_is_written_does_not_depend_on_the_check(check, load, said):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.3")
    ours = build(tokenizer, ModelSpec("mistral", chat_format="llama"), template_check=check)  # the checkpoint's own decides: no error
    assert ours.format.name == "mistral_v3"
    assert build(load(*QWEN), template="qwen2_5", template_check=check).jinja is not None
    assert not said


def test_a_named_format_that_writes_the_same_is_no_difference(load, said):
    for family in ("qwen2.5", "qwen3", "llama3.2", "mistral-v0.3", "gemma2"):
        name, folder, jinja, more = FAMILIES[family]
        build(load(folder, jinja, more), template=name, template_check="error")
    assert not said


def test_a_system_text_is_no_difference_where_the_chat_template_takes_it(load, said):
    build(load(*QWEN), template_check="error", system="Be brief.")
    build(load(*QWEN), template_check="error", system="")
    build(load(*QWEN), template_check="error", system="Be brief.", template="qwen2_5")
    assert not said


def test_a_system_text_that_the_chat_template_refuses_or_leaves_out_is_said(load, shared, tokenizer_folder):
    with pytest.raises(ModelError, match=r"--system.*refuses every system message"):
        build(load(*GEMMA), system="Be brief.", template_check="error")
    silent = stand_in("phi/microsoft--Phi-3-medium-4k-instruct.jinja", tokenizer_folder, shared)
    with pytest.raises(ModelError, match=r"--system.*leaves system messages out"):
        build(silent, system="Be brief.", template_check="error")
    build(load(*GEMMA), template_check="error")


def test_a_tools_prompt_of_ones_own_is_said(load, said):
    build(load(*QWEN), tools_prompt="react_en")
    (line,) = said
    assert "--tools_prompt" in line and "'a list of tools'" in line and "created by Alibaba Cloud" in line and "Answer" in line


def test_a_format_that_would_lose_thoughts_is_not_taken_for_the_chat_templates(load, shared, tokenizer_folder):
    """Plain chatml and this one differ in nothing but thoughts of the past."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder / "Qwen--Qwen2.5-7B-Instruct")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert isinstance(build(tokenizer).format, JinjaFormat)


def test_choosing_among_all_formats_takes_less_than_a_second(load):
    tokenizer = load("Qwen--Qwen3-30B-A3B-Thinking-2507")
    build(tokenizer)
    start = time.perf_counter()
    assert isinstance(build(tokenizer).format, JinjaFormat)
    assert time.perf_counter() - start < 1


# --template_backend jinja


def test_the_jinja_backend_writes_with_the_chat_template_itself(load, said):
    tokenizer = load(*QWEN)
    ours = build(tokenizer, template_backend="jinja", template="chatml")
    assert isinstance(ours.format, JinjaFormat)
    row = Sample.of(("user", "Hi"), ("assistant", "Hello"))
    assert ours.prompt(row) == build(tokenizer).prompt(row)
    assert ours.encode_sample(row) == build(tokenizer).encode_sample(row)
    assert not said


def test_the_jinja_backend_wants_a_chat_template(load):
    with pytest.raises(UsageError, match="--template_backend jinja: some-model carries no chat template"):
        build(load("openai-community--gpt2"), template_backend="jinja")
    assert build(load("openai-community--gpt2"), template_backend="jinja", use_chat_template=False).format.name == "generation"


@pytest.mark.parametrize(
    "file", ["smollm/HuggingFaceTB--SmolLM3-3B.jinja", "other/trl-lfm2_2_5.jinja", "other/hfjs-LiquidAI--LFM2.5-VL-450M.jinja"]
)
def test_marks_of_the_template_say_what_is_learned(file, shared, tokenizer_folder):
    tokenizer = stand_in(file, tokenizer_folder, shared)
    assert has_marks(str(tokenizer.chat_template))
    ours = build(tokenizer, template_backend="jinja")
    compared = 0
    for name, (messages, tools) in TALKS.items():
        # "newlines": the first token of the answer begins in the header, where transformers marks it and we do not (rulings 1)
        if messages[-1]["role"] != "assistant" or name == "newlines" or published(tokenizer, messages, tools) is None:
            continue
        dated: Any = {"tools": tools, "chat_template": _dated(str(tokenizer.chat_template), DAY)}
        oracle: Any = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True, **dated)
        ids, mask = oracle["input_ids"], oracle["assistant_masks"]
        got = ours.encode_sample(sample_of(messages, tools))
        assert got.input_ids == ids[: len(got)], name
        assert [float(m) for m in mask[: len(got)]] == got.weights and not any(mask[len(got) :]), name
        compared += 1
    assert compared >= 10


def test_marks_differ_from_what_placeholders_find(shared, tokenizer_folder):
    """The line feed behind <|im_end|> is marked in LFM2.5, and the swift backend does not learn it."""
    tokenizer = stand_in("other/trl-lfm2_2_5.jinja", tokenizer_folder, shared)
    row = Sample.of(("user", "Hi"), ("assistant", "Hello"))
    marked, found = (build(tokenizer, template_backend=backend).encode_sample(row) for backend in ("jinja", "swift"))
    assert marked.learned == found.learned + 1


def test_loss_of_a_message_holds_over_marks(shared, tokenizer_folder):
    tokenizer = stand_in("other/trl-lfm2_2_5.jinja", tokenizer_folder, shared)
    row = Sample([Message("user", "a"), Message("assistant", "b", loss=False), Message("user", "c"), Message("assistant", "d")])
    got = build(tokenizer, template_backend="jinja").encode_sample(row)
    learned = tokenizer.decode([i for i, w in zip(got.input_ids, got.weights, strict=True) if w])
    assert learned == "d<|im_end|>\n"


# a row's empty system text


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "llama3.1", "phi4", "gemma2"])
def test_an_empty_system_text_of_a_row_is_the_chat_templates_business(family, load):
    _, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    want = published(tokenizer, *TALKS["empty system"])
    got = build(tokenizer).encode_sample(sample_of(*TALKS["empty system"])).input_ids
    if want is None:  # Gemma refuses every system message: an empty one asks for none
        assert got == build(tokenizer).encode_sample(Sample(sample_of(*TALKS["empty system"]).messages[1:])).input_ids
    else:
        assert got == want.ids[: len(got)]


# what is saved


def test_a_saved_model_stops_where_training_stopped(tmp_path):
    """A base model that ends texts with <|endoftext|>, trained on chatml: transformers' generate stops at <|im_end|>."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.chat_template = None
    model = tiny.model(vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path)
    ours = build(tokenizer, template="chatml")
    ours.save(tmp_path)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = json.loads((tmp_path / "generation_config.json").read_text())
    assert config["eos_token_id"] == [tokenizer.eos_token_id, stop]
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():  # it would say nothing but <|im_end|>
        again.lm_head.weight.zero_()
        again.lm_head.weight[stop] = 1.0
        again.model.norm.weight.zero_()
    again.lm_head.bias = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(stop), len(words)).float())
    ids = words.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=False)
    assert ids[0].tolist() == ours.prompt(Sample.of(("user", "Hi")))
    answer = again.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert answer.tolist() == [stop]
    assert build(words, path=tmp_path).stop_ids == ours.stop_ids


def test_stops_that_are_known_stay_as_they_are(load, tmp_path, tokenizer_folder):
    folder = tokenizer_folder / "meta-llama--Llama-3.2-3B-Instruct"
    ours = build(load(folder.name), path=folder)
    (tmp_path / "generation_config.json").write_text((folder / "generation_config.json").read_text())
    ours.save(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == json.loads((folder / "generation_config.json").read_text())


def test_all_formats_are_asked(load):
    """A format is found wherever it stands in the list."""
    tokenizer = load(*QWEN)
    for name in ("chatml", "qwen2_5"):
        saved = build(tokenizer, template=name).effective_jinja()
        again = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
        again.chat_template = saved or tokenizer.chat_template
        assert chat_formats[build(again).format.name].name == build(again).format.name
        assert not isinstance(build(again).format, JinjaFormat)

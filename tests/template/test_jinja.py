"""The checkpoint's own chat template as a format, and our formats as chat templates."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from swift.args.base import TemplateArgs
from swift.data.sample import Message, Sample
from swift.errors import UsageError
from swift.logs import get_logger, info_once, warn_once
from swift.models.spec import ModelSpec
from swift.template.build import build_template
from swift.template.conversation import conversation
from swift.template.encoded import RowSkipped
from swift.template.formats import chat_formats
from swift.template.jinja import JinjaFormat, _dated
from swift.template.special import Specials
from swift.template.template import Template
from tests.template.conftest import DAY, published, template, words
from tests.template.families import FAMILIES, TALKS
from tests.template.oracle import TOKENS

COMMAND_R = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>")
GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
PHI = ("<|user|>", "<|assistant|>", "<|end|>", "<|system|>")
QWEN = "Qwen--Qwen2.5-7B-Instruct"
# published templates for which there is no format here, each on a tokenizer that has, or is given, its special tokens
OTHERS = {
    "qwen3-thinking": ("Qwen--Qwen3-30B-A3B-Thinking-2507", None, ()),
    "deepseek-r1": (
        QWEN,
        "deepseek/deepseek-ai--DeepSeek-R1-Distill-Qwen-14B.jinja",
        ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    ),
    "zephyr": ("mistralai--Mistral-7B-Instruct-v0.2", "zephyr/ollama-index02-zephyr.jinja", ()),
    "command-r": (QWEN, "command-r/axolotl-cohere.jinja", COMMAND_R),
    "granite": (QWEN, "granite/ibm-granite-granite-3.3-2B-Instruct.jinja", ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>")),
    "smollm3": (QWEN, "smollm/HuggingFaceTB--SmolLM3-3B.jinja", ()),
    "gemma3": ("google--gemma-2-2b-it", "gemma3/google--gemma-3-4b-it.jinja", ()),
    "minicpm3": (QWEN, "minicpm/openbmb--MiniCPM3-4B.jinja", ()),
    "phi4-mini": (QWEN, "phi/microsoft--Phi-4-multimodal-instruct.jinja", PHI),
    "llama3.2-vision": ("meta-llama--Llama-3.2-11B-Vision-Instruct", None, ()),
    "qwq": ("Qwen--Qwen3-4B", "qwq/Qwen-QwQ-32B.jinja", ()),
    "glm-4.5": ("Qwen--Qwen3-4B", "glm/zai-org--GLM-4.5.jinja", GLM),
}


@pytest.fixture(autouse=True)
def said():
    """The lines that were logged."""
    warn_once.cache_clear()
    info_once.cache_clear()
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    get_logger().addHandler(handler)
    yield lines
    get_logger().removeHandler(handler)


def _build(tokenizer, path: Path | None = None, spec: ModelSpec | None = None, **args):
    info = SimpleNamespace(name="some-model", path=path, spec=spec or ModelSpec("auto"), max_length=None)
    return build_template(info, tokenizer, TemplateArgs(**args), date=DAY)


def _own(tokenizer, **args):
    """A template on the chat template itself, even where a format equals it."""
    own = JinjaFormat(tokenizer, Specials(tokenizer), DAY)
    return Template(own, tokenizer, TemplateArgs(**args), jinja=own, date=DAY)


@pytest.mark.parametrize("other", OTHERS)
def test_a_template_without_a_format_gives_its_own_ids(other, load):
    tokenizer = load(*OTHERS[other])
    ours = _own(tokenizer)
    answered = 0
    for name, sample in TALKS.items():
        try:
            want = published(tokenizer, sample)
        except Exception:
            continue
        got = ours.encode_sample(sample)
        common = min(len(want), len(got))
        assert got.input_ids[:common] == want[:common], name
        assert len(got) <= common + 1
        assert ours.prompt(sample) == published(tokenizer, Sample(sample.messages[:-1]), reply=True), name
        if name not in ("thoughts", "newlines"):
            answers = [m.content for m in sample.messages if m.role == "assistant"]
            learned = words(tokenizer.decode([i for i, w in zip(got.input_ids, got.weights, strict=True) if w]))
            assert learned.startswith(words(answers[0])) and all(words(a) in learned for a in answers), (name, learned)
            assert not any(words(m.content) in learned for m in sample.messages if m.role == "user" and len(m.content) > 8)
        answered += 1
    assert answered >= 6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_format_and_its_chat_template_give_the_same_ids_labels_and_weights(family, load):
    name, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    ours, own = template(name, tokenizer), _own(tokenizer)
    for talk, sample in TALKS.items():
        try:
            theirs = own.encode_sample(sample)
        except RowSkipped:
            continue
        mine = ours.encode_sample(sample)
        assert (mine.input_ids, mine.labels) == (theirs.input_ids, theirs.labels), talk


@pytest.mark.parametrize("family", FAMILIES)
def test_build_finds_the_format_that_equals_the_checkpoints_chat_template(family, load, said):
    name, folder, jinja, more = FAMILIES[family]
    ours = _build(load(folder, jinja, more))
    assert ours.format.name == name or (family, ours.format.name) == ("qwen3-2507", "chatml")
    assert not said


# these write tokens by their ids alone, which no tokenizer here has
BY_ID = ("baichuan", "telechat", "telechat2")


@pytest.mark.parametrize("name", [name for name in chat_formats if name not in ("dummy", *BY_ID)])
def test_to_jinja_writes_what_the_format_writes(name, load):
    tokenizer, ours = _on_a_fitting_tokenizer(name, load)
    text = ours.effective_jinja()
    assert text is not None
    for talk, sample in TALKS.items():
        kwargs = {"tokenize": False, "chat_template": _dated(text, ours.date)}
        dicts = [{"role": m.role, "content": m.content} for m in sample.messages]
        try:
            mine = "".join(run.text for run in ours.render(sample, reply=False))
        except RowSkipped:
            continue
        date = ours.date.strftime("%d %b %Y")
        assert tokenizer.apply_chat_template(dicts, **kwargs) == mine, talk
        prompt = "".join(run.text for run in ours.render(Sample(sample.messages[:-1]), reply=True))
        assert tokenizer.apply_chat_template(dicts[:-1], add_generation_prompt=True, **kwargs) == prompt, talk
        assert name != "llama3_2" or date in mine


def _on_a_fitting_tokenizer(name, load):
    for ours, folder, jinja, more in FAMILIES.values():
        if ours == name:
            tokenizer = load(folder, jinja, more)
            return tokenizer, template(name, tokenizer)
    folder = {"llama": "llama-2-mended", "mistral_2501": "mistralai--Mistral-7B-Instruct-v0.3"}.get(name, "Qwen--Qwen2.5-7B-Instruct")
    words = re.findall(rf"{TOKENS.pattern}|</?[a-z_0-9]+>", "".join(chat_formats[name].texts))
    tokenizer = load(folder, None, tuple(dict.fromkeys(words)))
    if tokenizer.bos_token is None:
        tokenizer.bos_token = "<|endoftext|>"
    return tokenizer, template(name, tokenizer)


def test_a_saved_folder_carries_the_chat_template_and_the_system_that_were_trained(load, tmp_path):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct")
    row = Sample.of(("user", "Hi"))
    for n, args in enumerate([{}, {"system": 'Be "brief".\n'}, {"system": ""}, {"template": "chatml", "system": "x"}]):
        ours = _build(tokenizer, **args)
        ours.save(tmp_path / str(n))
        again = AutoTokenizer.from_pretrained(tmp_path / str(n))
        ids = again.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)
        assert ids == ours.prompt(row), args
        assert "chat_template" not in json.loads((tmp_path / str(n) / "tokenizer_config.json").read_text())
        assert _build(again).prompt(row) == ours.prompt(row)


def test_a_template_that_differs_is_said_once_with_both_texts(load, said):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja")
    for _ in range(2):
        assert _build(tokenizer, template="chatml").format.name == "chatml"
    assert len(said) == 1 and "the checkpoint" in said[0] and "created by Alibaba" not in said[0][:60]


def test_a_model_types_format_gives_way_to_the_checkpoints_chat_template(load, said):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.3")
    assert _build(tokenizer, spec=ModelSpec("mistral", chat_format="llama")).format.name == "mistral_v3"
    edited = load("Qwen--Qwen3-4B", "qwen3/Qwen--Qwen3-30B-A3B-Thinking-2507.jinja")
    ours = _build(edited, spec=ModelSpec("qwen3", chat_format="qwen3"))
    assert isinstance(ours.format, JinjaFormat)
    assert len(said) == 2 and "--template llama" in said[0] and "--template qwen3" in said[1]


def test_without_a_chat_template_a_shared_architecture_asks(load):
    tokenizer = load("openai-community--gpt2")
    spec = ModelSpec("auto", candidates=(("llama", "llama"), ("llama3", "llama3")))
    with pytest.raises(UsageError, match=r"--model_type \(llama, llama3\)"):
        _build(tokenizer, spec=spec)
    assert _build(tokenizer, spec=spec, use_chat_template=False).format.name == "generation"
    assert _build(tokenizer, spec=spec, template="default").format.name == "default"
    assert _build(tokenizer).format.name == "dummy"


def test_generation_config_brings_stop_ids(load, tokenizer_folder):
    folder = tokenizer_folder / "meta-llama--Llama-3.2-3B-Instruct"
    assert _build(load(folder.name), path=folder).stop_ids == {128001, 128008, 128009}


TOOLS = [{"type": "function", "function": {"name": "add", "description": "Add", "parameters": {"type": "object", "properties": {}}}}]


def _with_tools() -> Sample:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    return Sample(
        [
            Message("system", "Use tools."),
            Message("user", "1+2?"),
            Message("assistant", "", tool_calls=[call]),
            Message("tool", "3"),
            Message("assistant", "It is 3."),
        ],
        tools=TOOLS,
    )


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "llama3.1", "mistral-v0.3"])
def test_rows_with_tools_are_written_by_the_checkpoints_chat_template(family, load):
    _, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    sample = _with_tools()
    if family == "mistral-v0.3":
        sample = Sample(sample.messages[1:], tools=TOOLS)
    dicts = [{"role": m.role, "content": m.content} for m in sample.messages]
    call = {"id": "call00000", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    dicts[-3]["tool_calls"] = [call]
    dicts[-2] |= {"tool_call_id": "call00000", "name": "add"}
    text = _dated(tokenizer.get_chat_template(None, TOOLS), DAY)
    want = tokenizer.apply_chat_template(dicts, tools=TOOLS, return_dict=False, chat_template=text)
    ours = _build(tokenizer)
    encoded = ours.encode_sample(sample)
    assert encoded.input_ids == want[: len(encoded)] and len(want) - len(encoded) <= 1
    learned = tokenizer.decode([i for i, w in zip(encoded.input_ids, encoded.weights, strict=True) if w])
    assert '"name": "add"' in learned and "It is 3." in learned and "Use tools" not in learned and "1+2" not in learned
    assert learned.count(ours.stop) == 2


def test_rows_with_tools_get_a_layout_where_the_chat_template_has_no_part_for_them(load):
    sample = Sample.of(("user", "q"), ("assistant", "a"), tools=TOOLS)
    ours = _build(load("google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja"))
    assert "Use the following format:" in ours.tokenizer.decode(ours.encode_sample(sample).input_ids)  # react_en
    with pytest.raises(RowSkipped, match="no place for a system message"):
        _build(load("openai-community--gpt2")).encode_sample(sample)


def test_mistrals_chat_template_keeps_the_system_text_that_it_would_leave_out(load):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.3")
    assert (
        _own(tokenizer).encode_sample(TALKS["system"]).input_ids
        == template("mistral_v3", tokenizer).encode_sample(TALKS["system"]).input_ids
    )


def test_a_system_text_that_the_chat_template_refuses_is_said_and_counted(load, said):
    ours = _build(load("google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja"))
    for _ in range(3):
        ours.encode_sample(TALKS["system"])
    ours.encode_sample(TALKS["single"])
    assert list(ours.counts.values()) == [3] and len(said) == 1 and "refuses" in said[0]


def test_a_saved_system_prompt_keeps_the_part_for_tools(load):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja")
    text = _build(tokenizer, system="Be brief.").effective_jinja()
    kwargs = {"tokenize": False, "chat_template": text, "tools": TOOLS}
    assert "Be brief.\n\n# Tools" in tokenizer.apply_chat_template([{"role": "user", "content": "q"}], **kwargs)


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "llama3.1"])
def test_a_marker_in_tools_or_tool_calls_is_text(family, load):
    name, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    ours, own = template(name, tokenizer), JinjaFormat(tokenizer, Specials(tokenizer), DAY)
    ours = Template(chat_formats[name], tokenizer, TemplateArgs(), jinja=own, date=DAY)

    def row(mark: str) -> Sample:
        tool = {"type": "function", "function": {"name": "say", "description": f"Says {mark}.", "parameters": {"type": "object"}}}
        call = {"type": "function", "function": {"name": "say", "arguments": {"text": f"a {mark} b"}}}
        messages = [Message("user", "q"), Message("assistant", "", tool_calls=[call]), Message("tool", "done"), Message("assistant", "ok")]
        return Sample(messages, tools=[tool])

    marks = [ours.stop, tokenizer.eos_token]
    ids = {ours.specials.names[word] for word in ours.specials._as_text}
    plain = ours.encode_sample(row("x"))
    for mark in marks:
        got = ours.encode_sample(row(mark))
        assert [i for i in got.input_ids if i in ids] == [i for i in plain.input_ids if i in ids]
        assert tokenizer.decode(got.input_ids) == tokenizer.decode(plain.input_ids).replace("Says x.", f"Says {mark}.").replace(
            "a x b", f"a {mark} b"
        )
        learned = [i for i, w in zip(got.input_ids, got.weights, strict=True) if w]
        assert f"a {mark} b" in tokenizer.decode(learned) and "Says" not in tokenizer.decode(learned)
        assert ours.prompt(row(mark))[:20] == got.input_ids[:20]


def test_tools_without_their_wrapper_are_written_as_wrapped_ones(load):
    ours = _build(load("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja"))
    bare, wrapped = ([TOOLS[0]["function"]], TOOLS)
    some, other = (ours.prompt(Sample.of(("user", "q"), tools=tools)) for tools in (bare, wrapped))
    assert some == other


def test_a_saved_empty_system_prompt_keeps_the_part_for_tools(load):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja")
    ours = _build(tokenizer, system="")
    text = ours.effective_jinja()
    for tools in (None, TOOLS):
        row = Sample.of(("user", "q"), tools=tools)
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "q"}], tools=tools, chat_template=text, add_generation_prompt=True, return_dict=False
        )
        assert ids == ours.prompt(row)


def test_a_saved_template_takes_the_system_message_that_the_checkpoints_refused(load):
    tokenizer = load("google--gemma-2-2b-it", "gemma1-2/google-gemma-2-2b-it.jinja")
    ours = _build(tokenizer)
    talk = [{"role": m.role, "content": m.content} for m in TALKS["system"].messages[:-1]]
    ids = tokenizer.apply_chat_template(talk, chat_template=ours.effective_jinja(), add_generation_prompt=True, return_dict=False)
    assert ids == ours.prompt(TALKS["system"])


def test_words_and_calls_that_a_chat_template_leaves_out_are_not_lost_in_silence(load, said):
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        Message("user", "q"),
        Message("assistant", "I shall add.", tool_calls=[call]),
        Message("tool", "3"),
        Message("assistant", "3"),
    ]
    talk = conversation(messages, system=None, tools=None)
    plain = load("Qwen--Qwen2.5-7B-Instruct", "chatml/axolotl-chatml.jinja")
    with pytest.raises(RowSkipped, match="leaves out a tool call"):
        JinjaFormat(plain, Specials(plain), DAY).render(talk, reply=False)
    mistral = load("mistralai--Mistral-7B-Instruct-v0.3")
    text = "".join(piece.text for piece in JinjaFormat(mistral, Specials(mistral), DAY).render(talk, reply=False))
    assert "Let me see" not in text and '"name": "add"' in text
    assert len(said) == 1 and "without the words beside it" in said[0]


def test_thoughts_that_a_chat_template_leaves_out_of_the_trained_answer_are_said(load, said):
    tokenizer = load(*OTHERS["deepseek-r1"])
    own = _own(tokenizer)
    own.encode_sample(Sample.of(("user", "2+2?"), ("assistant", "<think>\nEasy.\n</think>\n\n4")))
    own.encode_sample(Sample.of(("user", "2+2?"), ("assistant", "4")))
    assert [count for what, count in own.counts.items() if "without the thoughts" in what] == [1]
    assert any("--template" in line and "thoughts" in line for line in said)


def test_no_system_text_asked_for_adds_no_turn_to_a_template_that_has_none_of_its_own(load):
    tokenizer = load("microsoft--Phi-3-mini-4k-instruct")
    ours = _build(tokenizer, system="", template_backend="jinja")
    assert ours.effective_jinja() is None
    assert ours.prompt(Sample.of(("user", "hi"))) == published(tokenizer, Sample.of(("user", "hi")), reply=True)

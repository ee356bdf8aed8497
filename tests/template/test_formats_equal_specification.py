"""Every text template of the specification's Appendix C: a reading of its tables by themselves is the oracle."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from swift.data.sample import Message
from swift.template.chat_format import ChatFormat
from swift.template.conversation import conversation
from swift.template.formats import chat_formats

ABOUT_IMAGES = """
    llava1_6_yi_hf llava1_6_yi emu3_gen qwen_vl qwen_audio qwen2_audio llava_next_qwen_hf llava_next_qwen llama3_llava_next_hf llava_llama3_hf
    llama3_2_vision minimax_vl minicpmv ovis1_6 phi3_vision qwen2_vl qwen2_5_vl ovis2 qvq ovis1_6_llama3 llama3_1_omni llava1_5_hf
    llava1_6_mistral_hf llava1_6_mistral llava1_6_vicuna_hf llava_onevision_hf llava_next_video_hf llava_llama3_1_hf llama3_llava_next yi_vl
    internvl internvl_phi3 internvl2 internvl2_phi3 internvl2_5 ixcomposer2 xcomposer2_4khd xcomposer2_5 cogagent_chat cogagent_vqa cogvlm
    cogvlm2 cogvlm2_video glm4v glm_edge_v minicpmv2_5 minicpmv2_6 minicpmo2_6 deepseek_vl deepseek_janus deepseek_vl2 deepseek_janus_pro
    mplug_owl2 mplug_owl3 mplug_owl3_241101 doc_owl2 emu3_chat got_ocr2 got_ocr2_hf step_audio idefics3 pixtral paligemma phi4_multimodal
    florence molmo megrez_omni valley
""".split()  # noqa: SIM905 (and sound: not here yet)

# 3.1 and Appendix E, "lost BOS …": F
FIXES: dict[str, dict[str, str]] = {
    "ziya": {"prefix": "⟦bos⟧"},
    "bluelm": {"prefix": "⟦bos⟧"},
    "aya": {"system": "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{SYSTEM}}<|END_OF_TURN_TOKEN|>"},
    "longwriter_llama": {"system": "[INST]<<SYS>>\n{{SYSTEM}}\n<</SYS>>\n\n"},
    # the system text before the last question; and no blank behind [INST], since Nemo's own chat template has none (rulings 4)
    "mistral_nemo": {"prefix": "<s>[INST]", "separator": "</s>[INST]", "before the last question": "{{SYSTEM}}\n\n"},
}
MARKS = {"qwen2_5_math_prm": "<extra_0>"}  # 3.11: behind the last answer where it holds none
NOT_FOUND = {"openbuddy"}  # no public text has the digest
UNBOUND = {"{{ID:195}}": "⟦id 195⟧", "{{ID:196}}": "⟦id 196⟧"} | {
    "{{TOKEN:user_token_id|<_user>}}": "⟦user_token_id⟧",
    "{{TOKEN:bot_token_id|<_bot>}}": "⟦bot_token_id⟧",
}
DATE = "{dd Mon YYYY}"


class Row(NamedTuple):
    """One line of C.2."""

    name: str
    shape: str
    system: str
    auto: bool
    stops: list[str]
    tools: str | None


def cells(text: str, start: str, end: str) -> list[list[str]]:
    lines = text[text.index(start) : text.index(end)].splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows[1:]]


def said(cell: str) -> str | None:
    """A cell's text: `…` as it is, ⟦…⟧ kept, ∅ nothing; None for 'none'."""
    if cell.startswith("none"):
        return None
    parts = re.findall(r"`([^`]*)`|(⟦[^⟧]*⟧)", cell)
    return "".join(a or b for a, b in parts).replace("↵", "\n").replace("␠", " ")


@pytest.fixture(scope="module")
def shapes(shared: Path) -> dict[str, dict[str, str | None]]:
    text = (shared / "spec/data-and-training.md").read_text(encoding="utf-8")
    columns = ("prefix", "system", "round", "separator", "suffix", "tool")
    found = {name: dict(zip(columns, map(said, rest), strict=True)) for name, *rest in cells(text, "## C.1", "## C.2")}
    return {name: shape | FIXES.get(name, {}) for name, shape in found.items()}


@pytest.fixture(scope="module")
def rows(shared: Path) -> dict[str, Row]:
    text = (shared / "spec/data-and-training.md").read_text(encoding="utf-8")
    found = {}
    for names, shape, system, auto, stops, _, tools, _ in cells(text, "## C.2", "# Appendix D"):
        for name in names.split(", "):
            found[name] = Row(name, shape, system, auto == "yes", re.findall(r"`([^`]*)`", stops), tools or None)
    return found


def interpreted(shape: dict[str, str | None], talk: list[Message], system: str, *, reply: bool) -> str:
    """What a shape writes: the rules of 3.1 and 3.2 and nothing else."""
    if shape["separator"] is None:
        last = max(i for i, message in enumerate(talk) if message.role == "user")
        talk = talk[last:] if last else talk
    before_last = shape.get("before the last question")
    text = shape["system"].replace("{{SYSTEM}}", system) if system and shape["system"] else shape["prefix"]
    assert text is not None
    last_question = max(i for i, message in enumerate(talk) if message.role == "user")
    number = 0
    for i, message in enumerate(talk):
        if message.role == "assistant":
            ends = i == len(talk) - 1
            text += message.content + ((shape["suffix"] if ends else shape["separator"]) or "")
            number += 1
            continue
        form = (shape["tool"] if message.role == "tool" else None) or shape["round"]
        assert form is not None
        query = before_last.replace("{{SYSTEM}}", system) if before_last and system and i == last_question else ""
        text += form.replace("{{ROUND1}}", str(number + 1)).replace("{{ROUND0}}", str(number)).replace("{{QUERY}}", query + message.content)
    assert reply == (talk[-1].role != "assistant")
    return text


TALKS = {
    "one question": [("user", "Why?")],
    "one round": [("user", "Why?"), ("assistant", "Because.")],
    "two rounds": [("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "4")],
    "three questions": [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")],
    "a tool": [("user", "Weather?"), ("assistant", "call()"), ("tool", "sunny"), ("assistant", "Sun.")],
    "a tool's result": [("user", "Weather?"), ("assistant", "call()"), ("tool", "sunny")],
}


def bound(name: str) -> ChatFormat:
    """With the table's own words for what a tokenizer gives."""
    return chat_formats[name].bind(bos="⟦bos⟧", eos="⟦eos⟧", date=DATE, tokens=UNBOUND)


def listed(rows: dict[str, Row]) -> list[str]:
    return [name for name in rows if name not in ABOUT_IMAGES]


def talks() -> list[tuple[str, list[Message], str]]:
    written = [(key, [Message(role, text) for role, text in turns]) for key, turns in TALKS.items()]  # type: ignore[arg-type]
    return [(f"{key}, system {system!r}", turns, system) for key, turns in written for system in ("", "Be kind.")]


def test_every_text_template_is_there(rows):
    assert len(listed(rows)) >= 60
    assert [name for name in listed(rows) if name not in chat_formats] == []


def test_the_texts_are_the_tables(shapes, rows):
    for name in listed(rows):
        chat_format, shape = bound(name), shapes[rows[name].shape]
        for key, turns, system in talks():
            if system and shape["system"] is None and "before the last question" not in shape:
                assert chat_format.system is None, name
                continue
            reply = turns[-1].role != "assistant"
            pieces = chat_format.render(conversation(turns, system=system, tools=None), reply=reply)
            want = interpreted(shape | {"suffix": MARKS.get(name, "") + (shape["suffix"] or "")}, turns, system, reply=reply)
            assert "".join(piece.text for piece in pieces) == want, f"{name}: {key}"


def test_every_answer_learns_the_suffix_whatever_parts_it_from_the_next_turn(shapes, rows):
    turns = [Message("user", "q"), Message("assistant", "A1"), Message("user", "q"), Message("assistant", "A2")]
    for name in listed(rows):
        suffix = shapes[rows[name].shape]["suffix"]
        pieces = bound(name).render(conversation(turns, system="", tools=None), reply=False)
        for i, piece in enumerate(pieces):
            if piece.text in ("A1", "A2"):
                after = pieces[i + 2 if name in MARKS and piece.text == "A2" else i + 1]
                assert (after.label or after.text) == suffix and after.message == piece.message and not after.literal, name


def test_glm4_learns_to_stop_for_a_tool_with_the_observation_that_follows():
    turns = [Message(*turn) for turn in TALKS["a tool"]]  # type: ignore[arg-type]
    pieces = bound("glm4").render(conversation(turns, system="", tools=None), reply=False)
    assert [piece.label for piece in pieces if piece.label] == ["<|observation|>"]
    assert pieces[-1].text == "<|user|>"


def test_the_other_columns(rows):
    for name in listed(rows):
        chat_format, row = chat_formats[name], rows[name]
        assert chat_format.auto_bos == row.auto, name
        assert list(chat_format.extra_stops) == row.stops, name
        assert chat_format.tools_prompt == row.tools, name
        found = chat_format.default_system
        if name in NOT_FOUND:
            assert found is None and "vendor text" in row.system
        elif "vendor text" in row.system:
            length, digest = re.search(r"(\d+) chars, `([0-9a-f]{12})`", row.system).groups()  # type: ignore[union-attr]
            assert found is not None and len(found) == int(length), name
            assert hashlib.sha256(found.encode()).hexdigest()[:12] == digest, name
        else:
            assert found == (None if row.system == "–" else row.system.strip("`")), name


def jinja(text: str) -> jinja2.Template:
    """As transformers renders chat templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])

    def raise_exception(message: str) -> Any:
        raise jinja2.TemplateError(message)

    environment.globals |= {"raise_exception": raise_exception, "strftime_now": lambda form: DATE}
    return environment.from_string(text)


THOUGHT = [
    ("user", "2+2?"),
    ("assistant", "<think>\nEasy.\n</think>\n\n4"),
    ("user", "3+3?"),
    ("assistant", "<think>\nEasy too.\n</think>\n\n6"),
]


@pytest.mark.parametrize("name", chat_formats)
def test_the_jinja_that_is_saved_writes_the_same(name):
    chat_format = bound(name)
    thoughts = [("thoughts", [Message(*turn) for turn in turns], "") for turns in (THOUGHT, THOUGHT[:3])]  # type: ignore[arg-type]
    undated = chat_formats[name].bind(bos="⟦bos⟧", eos="⟦eos⟧", date=None, tokens=UNBOUND)  # as it is saved
    for default in (None, "By default."):
        if default and not chat_format.takes_system:
            continue
        template = jinja(undated.to_jinja(default))
        for key, turns, system in [*talks(), *thoughts]:
            if chat_format.alternates and any(a.role != "assistant" and b.role != "assistant" for a, b in pairwise(turns)):
                continue
            if system and not chat_format.takes_system:
                with pytest.raises(jinja2.TemplateError, match="no place for a system message"):
                    template.render(messages=[{"role": "system", "content": system}, {"role": "user", "content": "q"}])
                continue
            reply = turns[-1].role != "assistant"
            messages = [{"role": turn.role, "content": turn.content} for turn in turns]
            messages = [{"role": "system", "content": system}, *messages] if system else messages
            talk = conversation(turns, system=system or default or "", tools=None)
            want = "".join(piece.text for piece in chat_format.render(talk, reply=reply))
            assert template.render(messages=messages, add_generation_prompt=reply) == want, key

"""Conversations and published chat templates for the oracle test: each template on a tokenizer that has, or is given, what it writes."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from swift.data.sample import Message, Sample
from swift.template.jinja import _dated
from tests.template.conftest import DAY

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers — 加法.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number", "description": "First"}, "b": {"type": "number", "description": "Second"}},
            "required": ["a", "b"],
        },
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city"}}, "required": ["city"]},
    },
}


def _call(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _answer(text: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({"tool_calls": list(calls)} if calls else {})


def _result(number: int, name: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": f"call{number:05d}", "name": name}


CALL = [_user("1+2?"), _answer("", _call(0, "add", a=1, b=2))]
TALKS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "one round": ([_user("Hello!"), _answer("Hi, how can I help?")], None),
    "three rounds": ([_user("1+1?"), _answer("2"), _user("2+2?"), _answer("4"), _user("3+3?"), _answer("6")], None),
    "system": ([_system("You are a pirate."), _user("Who are you?"), _answer("Arr."), _user("So?"), _answer("Arr!")], None),
    "system with blanks": ([_system(" \nBe brief.\n "), _user("Hi"), _answer("Hi")], None),
    "empty system": ([_system(""), _user("Who are you?"), _answer("A model.")], None),
    "unicode": ([_user("Grüße 🙂👩‍👩‍👧 é e\u0301 \u00a0 ﬁ"), _answer("Ωμέγα 🎉\u200b!"), _user("你好，世界"), _answer("不客气！")], None),
    "blanks": ([_user("  two before"), _answer(" one before and after "), _user("after  "), _answer("x")], None),
    "newlines": ([_user("\n\nfoo\n"), _answer("\n- a\n- b\n\n"), _user("bar\n\n"), _answer("end\n")], None),
    "code": ([_user("Explain:\n```python\nprint({'a': 1})\n```"), _answer("def f(x):\n\treturn {'a': x ** 2}  # 平方\n")], None),
    "thinking": (
        [
            _user("2+2?"),
            _answer("<think>\nTwo and two.\n</think>\n\n4"),
            _user("3+3?"),
            _answer("<think>\nThree and three.\n</think>\n\n6"),
        ],
        None,
    ),
    "thinking last only": ([_user("2+2?"), _answer("4"), _user("3+3?"), _answer("<think>\nThree.\n</think>\n\n6")], None),
    "long words": ([_user("Tell me of " + "rivers, " * 40), _answer("They flow. " * 30)], None),
    "question": ([_user("Who are you?")], None),
    "question after two rounds": ([_user("a?"), _answer("b."), _user("c?"), _answer("d."), _user(" e? ")], None),
    "question with system": ([_system("Be kind."), _user("Who are you?"), _answer("Me."), _user("\nAnd now?\n")], None),
    "question after thinking": ([_user("2+2?"), _answer("<think>\nTwo.\n</think>\n\n4"), _user("5?")], None),
    "tools": ([_user("1+2?"), _answer("Three.")], [ADD, WEATHER]),
    "tools with system": ([_system("Use tools."), _user("1+2?"), _answer("3")], [ADD]),
    "a call": ([*CALL, _result(0, "add", "3"), _answer("It is 3.")], [ADD]),
    "a call last": (CALL, [ADD]),
    "a call without its tool": ([*CALL, _result(0, "add", "3"), _answer("It is 3.")], None),
    "a call, then a question": ([*CALL, _result(0, "add", '{"sum": 3}')], [ADD]),
    "two calls": (
        [
            _user("Weather in Paris and Rome?"),
            _answer("", _call(0, "get_weather", city="Paris"), _call(1, "get_weather", city="罗马")),
            _result(0, "get_weather", "rain"),
            _result(1, "get_weather", "sun"),
            _answer("Rain and sun."),
        ],
        [WEATHER],
    ),
    "words and a call": (
        [
            _user("1+2?"),
            _answer("I shall add.", _call(0, "add", a=1, b=2)),
            _result(0, "add", "3"),
            _answer("3"),
            _user("Ok"),
            _answer("!"),
        ],
        [ADD],
    ),
}


def sample_of(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> Sample:
    return Sample([Message(m["role"], m["content"], deepcopy(m.get("tool_calls"))) for m in messages], tools=tools)


class Published(NamedTuple):
    """What transformers writes: ids and text."""

    ids: list[int]
    text: str


def published(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> Published | None:
    """None where the template refuses the conversation however its parts are spelled.

    A template that takes content as a list of parts, or a call's arguments as a JSON text, is given them so.
    """
    reply = messages[-1]["role"] != "assistant"
    bare = published(tokenizer, messages, None) if tools else None
    dated = _dated(tokenizer.get_chat_template(None, tools), DAY)  # pyright: ignore[reportArgumentType]
    for as_parts in (False, True):
        for as_json in (False, True):
            spelled = _spelled(messages, as_parts, as_json)
            kwargs: Any = {"tools": tools, "add_generation_prompt": reply, "chat_template": dated}
            try:
                text = str(tokenizer.apply_chat_template(spelled, tokenize=False, **kwargs))
            except Exception:
                continue
            if not all(words in text for words in _said(messages)) or "{'a': 1, " in text or "{'city':" in text:
                continue  # not how this template wants it, or it leaves out what was said
            silent = [{key: value for key, value in message.items() if key != "tool_calls"} for message in spelled]
            with suppress(Exception):  # refused without calls: then it has a part for them
                if silent != spelled and text == tokenizer.apply_chat_template(silent, tokenize=False, **kwargs):
                    return None
            if bare is not None and bare.text == text:
                return None  # no part for tools: what writes them is no business of this template (--tools_prompt)
            return Published(tokenizer.apply_chat_template(spelled, return_dict=False, **kwargs), text)  # pyright: ignore
    return None


def _said(messages: list[dict[str, Any]]) -> list[str]:
    """Words that a template must write: questions, answers without a call and behind their thoughts, calls, results."""
    words = [m["content"].split("</think>")[-1].strip() for m in messages if m["role"] != "system" and not m.get("tool_calls")]
    return words + [call["function"]["name"] for m in messages for call in m.get("tool_calls", [])]


def _spelled(messages: list[dict[str, Any]], as_parts: bool, as_json: bool) -> list[dict[str, Any]]:
    messages = deepcopy(messages)
    for message in messages:
        if as_parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
        for call in message.get("tool_calls", []) if as_json else []:
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return messages


# templates and tokenizers

TOKENS = re.compile(
    r"<[|｜][^|｜<>\s{}'\"]+[|｜]>|<[a-z]+\|>|<\|[a-z]+>|<seed:\w+>|</?s>|<(?:eos|bos|unk|sop|sep|step|extra_id_\d|end_of_utterance)>|<[a-z]+_of_turn>|\[/?[A-Z_]{3,}\]|\[gMASK\]"
)


def official(shared: Path) -> dict[str, list[str]]:
    """Published templates: file below templates/jinja, and the model ids it was published with."""
    found: dict[str, list[str]] = {}
    for line in (shared / "oracle/templates/PROVENANCE.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        columns = line.split("\t")
        if columns[9].startswith("official"):
            found.setdefault(columns[0].removeprefix("jinja/"), []).append(columns[8])
    return found


@cache
def _with_all_tokens(folder: Path, shared: Path) -> PreTrainedTokenizerBase:
    """Qwen2.5's tokenizer with every special token that a published template spells: loading one for each would take a minute."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "Qwen--Qwen2.5-7B-Instruct")
    files = [(shared / "oracle/templates/jinja" / file).read_text(encoding="utf-8") for file in official(shared)]
    words = dict.fromkeys(["<s>", "</s>", *(word for text in files for word in TOKENS.findall(text))])
    have = {token.content for token in tokenizer.added_tokens_decoder.values()}
    tokenizer.add_special_tokens({"extra_special_tokens": [word for word in words if word not in have]})
    return tokenizer


def stand_in(file: str, folder: Path, shared: Path) -> PreTrainedTokenizerBase:
    """A tokenizer for a published template, with a BOS and EOS of that family where it names them. One at a time: the next call changes it."""
    jinja = (shared / "oracle/templates/jinja" / file).read_text(encoding="utf-8")
    tokenizer = _with_all_tokens(folder, shared)
    words = TOKENS.findall(jinja)

    def first(*names: str) -> str | None:
        return next((name for name in names if name in words), None)

    begins = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "<BOS_TOKEN>")
    tokenizer.bos_token = (first(*begins) or "<s>") if "bos_token" in jinja else None
    if "eos_token" in jinja:
        tokenizer.eos_token = first("</s>", "<|im_end|>", "<｜end▁of▁sentence｜>", "<|endoftext|>") or "</s>"
    else:
        tokenizer.eos_token = first(*_ENDS) or "<|im_end|>"
    tokenizer.chat_template = jinja
    return tokenizer


_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "<end_of_turn>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_text|>",
    "<|return|>",
    "<｜end▁of▁sentence｜>",
    "<|endoftext|>",
)

"""Tool calls parsed while the answer grows are those of the whole text, however it is cut."""

from __future__ import annotations

import random

import pytest

from swift.template.call_stream import CallStream
from swift.template.tool_calls import Call, call_styles

TEXTS = {
    "react": [
        'Thought: I look.\nAction: get_weather\nAction Input: {"city": "Rome"}\nObservation:',
        'Action: a\nAction Input: {"x": 1}\nAction: b\nAction Input: plain text',
        "no call. Act on it.",
    ],
    "qwen": ['好的\n✿FUNCTION✿: f\n✿ARGS✿: {"a": [1,2]}\n✿FUNCTION✿: g\n✿ARGS✿: {}\n✿RESULT✿:'],
    "glm4": ['get_weather\n{"city": "Rome"}', "Hello there. This is it.\n", "one\ntwo words\n{not json"],
    "hermes": [
        'Sure.\n<tool_call>\n{"name": "f", "arguments": {"a": {"b": "}"}}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg_value></tool_call>",
        "a < b and <tool is no call",
        '\n\nlead\n<tool_call>{"name": "f", "arguments": {}}</tool_call> behind',
        '<tool_call>{"name": "f", "arguments": {"a": ',
    ],
    "llama3": [
        '{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
        '<|python_tag|>{"name": "f", "parameters": {"a": 1}}',
        "plain text { no",
    ],
    "mistral": [
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]',
        '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g[ARGS]{"b": 2}',
        "a [TOOL is",
    ],
    "deepseek": [
        'x<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ],
    "kimi": [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_calls_section_end|>'
    ],
}
CASES = [(style, text) for style, texts in TEXTS.items() for text in texts]


def streamed(style: str, parts: list[str]) -> tuple[str, list[Call], int]:
    """(what was said, calls, how many of them before the end)."""
    stream = CallStream(call_styles[style])
    said, calls = "", []
    for part in parts:
        more, whole = stream.push(part)
        said, calls = said + more, calls + whole
    early = len(calls)
    more, whole = stream.finish(call_styles[style].parse("".join(parts))[1])
    return said + more, calls + whole, early


@pytest.mark.parametrize(("style", "text"), CASES)
def test_pieces_give_what_the_whole_text_gives(style: str, text: str) -> None:
    said, calls = call_styles[style].parse(text)
    draw = random.Random(text)
    for trial in range(100):
        cuts = sorted(draw.sample(range(len(text)), min(len(text), draw.randint(0, 20)))) if trial else list(range(1, len(text)))
        parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        found = streamed(style, parts)
        assert found[1] == calls, parts
        assert found[0] in (said, said.lstrip()) or found[0].lstrip() == said, parts  # blanks before anything else may have been sent


def test_every_style_is_tried() -> None:
    assert set(TEXTS) == set(call_styles)


@pytest.mark.parametrize(("style", "text"), [case for case in CASES if case[0] not in ("react",)])
def test_calls_come_before_the_answer_has_ended(style: str, text: str) -> None:
    whole = [call for call in call_styles[style].parse(text)[1] if call.arguments.endswith("}")]
    assert streamed(style, list(text))[2] == len(whole)


def test_what_is_said_does_not_wait() -> None:
    stream = CallStream(call_styles["hermes"])
    assert [stream.push(part)[0] for part in ("Hello ", "wor", "ld. <to", "day>", "<tool_c", 'all>{"name": "f"')] == [
        "Hello", " wor", "ld.", " <today>", "", "",
    ]  # fmt: skip

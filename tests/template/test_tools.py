"""--tools_prompt: literal layouts, conversations with tools in each layout, calls read back as they were written."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from swift.args.base import TemplateArgs
from swift.data.sample import Message, Sample
from swift.errors import UsageError
from swift.logs import get_logger, info_once
from swift.template.encoded import IGNORE, RowSkipped
from swift.template.formats import chat_formats
from swift.template.jinja import JinjaFormat
from swift.template.special import Specials
from swift.template.template import Template
from swift.template.tool_calls import Call, call_styles, style_of
from swift.template.tools import ToolsPrompt, functions, parse_tool_calls, tools_prompt, tools_prompts
from tests.template.conftest import DAY, template

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {"name": "add", "description": "Add", "parameters": {}},
]
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
GLM_TOKENS = ("<|user|>", "<|assistant|>", "<|observation|>", "<|system|>", "[gMASK]", "<sop>")
QWEN25 = ("Qwen--Qwen2.5-7B-Instruct", "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja")


def _called(*calls: dict, content: str = "", results: tuple[str, ...] = ("sunny",)) -> Sample:
    return Sample(
        [
            Message("user", "Weather?"),
            Message("assistant", content, tool_calls=list(calls) or None),
            *(Message("tool", result) for result in results),
            Message("assistant", "Sunny."),
        ],
        tools=TOOLS,
    )


def _text(ours: Template, sample: Sample, *, reply: bool = False) -> str:
    return "".join(run.text for run in ours.render(sample, reply=reply))


def _learned(ours: Template, sample: Sample) -> str:
    encoded = ours.encode_sample(sample)
    return ours.tokenizer.decode([label for label in encoded.labels if label != IGNORE])  # type: ignore[return-value]


# system texts


@pytest.mark.parametrize(
    ("name", "length", "digest"),
    [
        ("react_en", 676, "a458863950e2"),
        ("react_zh", 428, "9d37dfc1de26"),
        ("glm4", 323, "7490e53d8df6"),
        ("toolbench", 1635, "1d2ee4a09e18"),
        ("custom", 291, "0953043e76b1"),
    ],
)
def test_the_system_text_is_the_published_one_to_the_letter(name, length, digest):
    text = tools_prompts[name].system(functions(TOOLS), DAY)
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()[:12]) == (length, digest)


def test_react_grpo_is_react_en_with_an_opening_and_thoughts_between_tags():
    opening, _, rest = tools_prompts["react_grpo"].system(functions(TOOLS), DAY).partition("\n\n")
    assert "<think> </think>" in opening and "Action:xxx\nAction Input:xxx" in opening
    lines, plain = rest.splitlines(), tools_prompts["react_en"].system(functions(TOOLS), DAY).splitlines()
    changed = [(ours, theirs) for ours, theirs in zip(lines, plain, strict=True) if ours != theirs]
    assert changed[0] == ("<think>you should always think about what to do</think>", "Thought: you should always think about what to do")
    assert [ours.startswith(theirs) for ours, theirs in changed[1:]] == [True, True]  # Observation and Final Answer say more


def test_qwens_text_has_the_day_the_tools_apart_and_nothing_for_empty_parameters():
    text = tools_prompts["qwen"].system(functions(TOOLS), datetime.date(2025, 3, 9))
    assert text.startswith(
        "You are a helpful assistant.\n\n当前时间：2025年03月09日，星期日\n\n# 工具\n\n## 你拥有如下工具：\n\n### get_weather\n\n"
    )
    parameters = json.dumps(TOOLS[0]["function"]["parameters"], ensure_ascii=False)
    assert f"get_weather: Get weather 输入参数: {parameters} 此工具的输入应为JSON对象。\n\n### add\n\nadd: Add 输入参数:  此工具" in text
    assert "✿FUNCTION✿: 工具1的名称，必须是[get_weather,add]之一\n✿ARGS✿: 工具1的输入\n" in text and text == text.rstrip()


def test_an_unknown_layout_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="react_zh"):
        tools_prompt("reactzh")


def test_a_tool_without_a_name_skips_the_row_and_says_which(load):
    row = Sample.of(("user", "q"), ("assistant", "a"), tools=[TOOLS[0], {"description": "nameless"}])
    tokenizer = load(*QWEN25)
    for ours in (template("qwen2_5", tokenizer, tools_prompt="react_en"), _with_jinja(tokenizer)):
        with pytest.raises(RowSkipped, match=r"a tool without a name: tool 2: .*nameless"):
            ours.encode_sample(row)


# who writes tools


def _with_jinja(tokenizer, **args) -> Template:
    own = JinjaFormat(tokenizer, Specials(tokenizer), DAY)
    return Template(chat_formats["qwen2_5"], tokenizer, TemplateArgs(**args), jinja=own, date=DAY)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that were logged."""
    info_once.cache_clear()
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    get_logger().addHandler(handler)
    yield lines
    get_logger().removeHandler(handler)


def test_the_chat_template_writes_tools_unless_a_layout_is_asked_for(load):
    tokenizer = load(*QWEN25)
    sample = _called(CALL)
    by_jinja = _text(_with_jinja(tokenizer), sample)
    assert "<tools>" in by_jinja and "<tool_response>" in by_jinja
    asked = _text(_with_jinja(tokenizer, tools_prompt="react_en"), sample)
    assert "<tools>" not in asked and "Answer the following questions as best as you can." in asked


def test_without_a_part_for_tools_the_formats_own_layout_is_used_and_react_en_last(load):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct")
    assert "Answer the following questions as best" in _text(template("qwen2_5", tokenizer), _called(CALL))

    own = replace(chat_formats["qwen2_5"], tools_prompt="toolbench")
    assert "You can use many tools(functions)" in _text(Template(own, tokenizer, TemplateArgs(), date=DAY), _called(CALL))


def test_tools_take_the_place_of_a_system_message_which_is_counted(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en", system="of the run")
    with_system = Sample.of(("system", "Be brief."), ("user", "q"), ("assistant", "a"), tools=TOOLS)
    without = Sample.of(("user", "q"), ("assistant", "a"), tools=TOOLS)
    assert _text(ours, with_system) == _text(ours, without)
    assert "Be brief." not in _text(ours, with_system) and "of the run" not in _text(ours, without)
    assert [number for what, number in ours.counts.items() if "system message" in what] == [2]


def test_a_plugins_layout_may_be_a_toolsprompt_a_function_or_the_older_pair(load):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct")
    keywords = {"action": "Tool:", "action_input": "With:", "observation": "Result:"}
    made = {
        "mine": ToolsPrompt(lambda tools, day: f"{len(tools)} tools on {day}"),
        "mine_2": lambda tools: " ".join(tool["name"] for tool in tools),
        "mine_3": (lambda names, descriptions: f"{names[1]} {json.loads(descriptions[0])['name']}", keywords),
    }
    try:
        tools_prompts.update(made)
        assert f"2 tools on {DAY}" in _text(template("qwen2_5", tokenizer, tools_prompt="mine"), _called(CALL))
        assert "get_weather add<|im_end|>" in _text(template("qwen2_5", tokenizer, tools_prompt="mine_2"), _called(CALL))
        text = _text(template("qwen2_5", tokenizer, tools_prompt="mine_3"), _called(CALL))
        assert "add get_weather<|im_end|>" in text and 'Tool: get_weather\nWith: {"city": "Paris"}<|im_end|>' in text
        tools_prompts["mine_3"] = (print, {})
        with pytest.raises(UsageError, match="expected a ToolsPrompt"):
            tools_prompt("mine_3")
    finally:
        for name in made:
            del tools_prompts[name]


# conversations in a layout

WRITTEN = {
    "react_en": 'Action: get_weather\nAction Input: {"city": "Paris"}',
    "react_zh": 'Action: get_weather\nAction Input: {"city": "Paris"}',
    "toolbench": 'Action: get_weather\nAction Input: {"city": "Paris"}',
    "custom": 'Action: get_weather\nAction Input: {"city": "Paris"}',
    "qwen": '✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Paris"}',
    "glm4": 'get_weather\n{"city": "Paris"}',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_conversation_with_calls_is_written_and_learned_in_each_layout(name, load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt=name)
    sample = _called(CALL)
    system = tools_prompts[name].system(functions(TOOLS), DAY)
    assert _text(ours, sample) == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nWeather?<|im_end|>\n"
        f"<|im_start|>assistant\n{WRITTEN[name]}<|im_end|>\n<|im_start|>user\nsunny<|im_end|>\n<|im_start|>assistant\nSunny.<|im_end|>"
    )
    assert _learned(ours, sample) == f"{WRITTEN[name]}<|im_end|>Sunny.<|im_end|>"
    assert sample.messages[1].content == "" and sample.messages[1].tool_calls == [CALL]  # left as they were


def test_a_format_with_a_place_for_results_writes_them_there(load):
    ours = template("llama3", load("meta-llama--Llama-3.2-3B-Instruct"), tools_prompt="toolbench")
    assert "<|start_header_id|>tool<|end_header_id|>\n\nsunny<|eot_id|>" in _text(ours, _called(CALL))


def test_words_beside_a_call_stay_before_it_and_a_call_that_is_spelled_there_is_not_written_twice(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en")
    assert "assistant\nThought: look\nAction: get_weather\n" in _text(ours, _called(CALL, content="Thought: look"))
    spelled = f"Thought: look\n{WRITTEN['react_en']}\n"
    assert _text(ours, _called(CALL, content=spelled)) == _text(ours, _called(content=spelled))


def test_a_result_behind_the_observation_keyword_is_a_part_of_the_answer_and_is_not_learned(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en")
    sample = _called(content=f"{WRITTEN['react_en']}\nObservation:", results=(" sunny",))
    tail = f"<|im_start|>assistant\n{WRITTEN['react_en']}\nObservation: sunnySunny.<|im_end|>"
    assert _text(ours, sample).endswith(tail)
    assert _learned(ours, sample) == f"{WRITTEN['react_en']}\nObservation:Sunny.<|im_end|>"
    last = template("qwen2_5", ours.tokenizer, tools_prompt="react_en", loss_scale="last_round")  # one answer, all of it the last
    assert _learned(last, sample) == _learned(ours, sample)
    flowers = template("qwen2_5", ours.tokenizer, tools_prompt="qwen")
    joined = _called(content=f"{WRITTEN['qwen']}\n✿RESULT✿:", results=(" sunny",))
    assert "✿RESULT✿: sunnySunny." in _text(flowers, joined)


def test_the_chat_templates_way_joins_results_too_where_answers_are_in_reacts_words(load):
    text = _text(_with_jinja(load(*QWEN25)), _called(content="Action: get_weather\nAction Input: {}\nObservation:"))
    assert text.endswith("Observation:sunnySunny.<|im_end|>") and "<tool_response>" not in text


@pytest.mark.parametrize("jinja", [False, True])
def test_a_prompt_that_ends_with_a_joined_result_goes_on_in_the_same_answer(jinja, load):
    tokenizer = load(*QWEN25)
    ours = _with_jinja(tokenizer) if jinja else template("qwen2_5", tokenizer, tools_prompt="react_en")
    sample = _called(content="Action: add\nAction Input: {}\nObservation:")
    whole, asked = _text(ours, sample), tokenizer.decode(ours.prompt(Sample(sample.messages[:-1], tools=TOOLS)))
    assert asked.endswith("Observation:sunny") and whole == f"{asked}Sunny.<|im_end|>"


def test_a_prompt_that_ends_with_a_result_turn_opens_a_new_answer(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en")
    asked = ours.tokenizer.decode(ours.prompt(Sample(_called(CALL).messages[:-1], tools=TOOLS)))
    assert asked.endswith("<|im_start|>user\nsunny<|im_end|>\n<|im_start|>assistant\n")  # type: ignore[union-attr]


def test_formats_of_taking_turns_get_results_in_a_row_as_one(load):
    ours = template("mistral_nemo", load("mistralai--Mistral-7B-Instruct-v0.3"), tools_prompt="react_en")
    assert "sunny\n12[/INST]" in _text(ours, _called(CALL, CALL, results=("sunny", "12")))


def test_a_chat_template_without_a_part_for_tools_writes_results_as_questions(load):
    tokenizer = load("microsoft--Phi-3-mini-4k-instruct", "phi/microsoft--Phi-3-mini-4k-instruct.jinja")
    own = JinjaFormat(tokenizer, Specials(tokenizer), DAY)
    text = _text(Template(own, tokenizer, TemplateArgs(), jinja=own, date=DAY), _called(CALL))
    assert "<|user|>\nsunny<|end|>" in text


def test_a_chat_template_that_writes_results_writes_them_itself_although_the_list_of_tools_needs_a_layout(load):
    """Oracle: the chat template, given the list as a system message and the call as text."""
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", "qwen1-2/hfjs-Qwen--Qwen1.5-72B-Chat.jinja")
    own = JinjaFormat(tokenizer, Specials(tokenizer), DAY)
    written = [
        {"role": "system", "content": tools_prompts["react_en"].system(functions(TOOLS), DAY)},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": WRITTEN["react_en"]},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "Sunny."},
    ]
    theirs = tokenizer.apply_chat_template(written, tokenize=False)
    assert "<|im_start|>tool\nsunny" in theirs
    for chat_format in (chat_formats["qwen1_5"], own):
        ours = Template(chat_format, tokenizer, TemplateArgs(), jinja=own, date=DAY)
        assert _text(ours, _called(CALL)) == theirs + "<|im_end|>"  # this chat template writes no stop behind the last answer


def test_special_tokens_that_tools_and_calls_spell_are_text(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en")
    plain, stop = _called(CALL), ours.tokenizer.convert_tokens_to_ids("<|im_end|>")
    call = {"function": {"name": "get_weather", "arguments": '{"city": "<|im_end|>"}'}}
    spelled = Sample(_called(call).messages, tools=[{**TOOLS[1], "description": "<|im_end|>"}])
    assert ours.encode_sample(spelled).input_ids.count(stop) == ours.encode_sample(plain).input_ids.count(stop)


# GLM-4


def test_glm4_learns_to_stop_for_an_observation_before_a_result_and_for_the_user_elsewhere(load):
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", None, GLM_TOKENS)
    ours = template("glm4", tokenizer)  # its own layout is glm4
    sample = _called(CALL)
    sample.messages += [Message("user", "Thanks"), Message("assistant", "Bye")]
    assert _learned(ours, sample) == 'get_weather\n{"city": "Paris"}<|observation|>Sunny.<|user|>Bye<|user|>'
    encoded = ours.encode_sample(sample)
    stops = tokenizer.convert_tokens_to_ids(["<|user|>", "<|observation|>"])
    ends = [i for i, label in enumerate(encoded.labels) if label in stops]
    assert [encoded.labels[i] == encoded.input_ids[i] for i in ends] == [True] * 3  # the next turn's own first token
    cut = Sample(sample.messages[:2], tools=TOOLS)  # a row that ends with a call
    assert tokenizer.decode(ours.encode_sample(cut).input_ids[-1:]) == "<|observation|>"


# reading calls back

CALLS = [Call("get_weather", '{"city": "Paris"}'), Call("add", '{"a": [1, 2], "b": "x\\ny"}'), Call("f-2.g", "{}")]


@pytest.mark.parametrize("name", ["react", "qwen", "glm4"])
@pytest.mark.parametrize("said", ["", "Thought: I look.\n"])
def test_calls_are_read_back_as_they_were_written(name, said):
    style = call_styles[name]
    assert style.write is not None
    for calls in ([CALLS[0]], CALLS):
        assert style.parse(said + style.write(calls)) == (said.rstrip(), calls)


@pytest.mark.parametrize("name", call_styles)
def test_a_text_without_calls_stays_whole(name):
    for text in ("", "Sunny.", "It is {20} degrees\n- warm", "Final Answer: 3"):
        assert call_styles[name].parse(text) == (text, [])


def test_keywords_are_found_in_any_case_and_arguments_lose_what_stands_around_them():
    text = 'thought: hm\nACTION: get_\nweather \naction input:  {"city": "Paris"} <!-- there -->\nobservation: sunny\nFINAL ANSWER: Action: none'
    assert parse_tool_calls(text, "react_en") == ("thought: hm", [Call("get_weather", '{"city": "Paris"}')])
    assert parse_tool_calls("Action: f\nAction Input: city=Paris\n", "react_zh") == ("", [Call("f", "city=Paris")])
    assert parse_tool_calls("Action: f", "toolbench") == ("", [Call("f", "{}")])


WRITINGS = {
    "hermes": 'Let me look.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}',
    "mistral": '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}, "id": "123456789"}, {"name": "g", "arguments": {}}]',
    "llama3": '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
    '{"a": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "kimi": '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>'
    "<|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
}


@pytest.mark.parametrize("name", WRITINGS)
def test_the_families_own_ways_are_read(name):
    said, calls = parse_tool_calls(WRITINGS[name], name)
    assert calls == [Call("f", '{"a": 1}'), Call("g", "{}")]
    assert said == ("Let me look." if name == "hermes" else "")


def test_a_call_whose_json_is_broken_keeps_its_arguments_as_text():
    assert parse_tool_calls('<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>', "hermes") == ("", [Call("f", '{"a": }')])
    assert parse_tool_calls("✿FUNCTION✿: f\n✿ARGS✿: {'a': 1}", "qwen") == ("", [Call("f", "{'a': 1}")])


ARGUMENTS = {"city": 'Paris "x"', "days": 3}
PUBLISHED = [
    "qwen2.5/Qwen-Qwen2.5-7B-Instruct.jinja",
    "qwen3/Qwen-Qwen3-0.6B.jinja",
    "qwen3/Qwen3-Coder.jinja",
    "qwen3.5+/Qwen3.5-4B.jinja",
    "llama3.x/meta-llama-Llama-3.1-8B-Instruct.jinja",
    "llama3.x/meta-llama-Llama-3.2-3B-Instruct.jinja",
    "mistral/mistralai--Mistral-7B-Instruct-v0.3.jinja",
    "mistral/mistralai-Mistral-Nemo-Instruct-2407.jinja",
    "mistral/Mistral-Small-3.2-24B-Instruct-2506.jinja",
    "glm/zai-org--GLM-4.5.jinja",
]


@pytest.mark.parametrize("jinja", PUBLISHED)
def test_what_a_published_chat_template_writes_as_a_call_is_read_back(jinja, load):
    """Oracle: the chat template itself writes the call that is then parsed."""
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", jinja)
    asked = [{"role": "user", "content": "q"}]
    call = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
    options = {"tools": [TOOLS[0]], "tokenize": False}
    before = tokenizer.apply_chat_template(asked, **options)
    whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": "", "tool_calls": [call]}], **options)
    assert whole.startswith(before)
    style = style_of(tokenizer.chat_template)
    assert style is not None
    answer = whole.removeprefix(before)
    if style is call_styles["llama3"]:  # reads an answer that is nothing else
        answer = answer.partition("<|end_header_id|>\n\n")[2]
    ((name, arguments),) = style.parse(answer)[1]
    assert (name, json.loads(arguments)) == ("get_weather", ARGUMENTS)


def test_a_template_reads_calls_in_the_way_it_writes_them(load):
    tokenizer = load(*QWEN25)
    assert template("qwen2_5", tokenizer, tools_prompt="react_en").tool_calls(f"Hm\n{WRITTEN['react_en']}\nObservation:") == [CALLS[0]]
    assert _with_jinja(tokenizer).tool_calls(WRITINGS["hermes"]) == [Call("f", '{"a": 1}'), Call("g", "{}")]
    assert _with_jinja(tokenizer).tool_calls(WRITTEN["react_en"]) == []


def test_the_chat_template_writes_a_call_once_that_stands_in_the_text_and_beside_it(load):
    ours = _with_jinja(load(*QWEN25))
    spelled = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    once = _text(ours, _called(CALL, content="Hm."))
    assert _text(ours, _called(CALL, content=f"Hm.\n{spelled}")) == once and once.count('"Paris"') == 1


def test_the_observation_keyword_ends_an_answer_to_a_sample_with_tools(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), tools_prompt="react_en")
    assert ours.tool_stops(Sample.of(("user", "q"), tools=TOOLS)) == ("Observation:",)
    assert ours.tool_stops(Sample.of(("user", "q"))) == ()
    assert _with_jinja(load(*QWEN25)).tool_stops(Sample.of(("user", "q"), tools=TOOLS)) == ()


def test_the_log_says_once_who_writes_tools(load, said):
    tokenizer = load(*QWEN25)
    for ours in (_with_jinja(tokenizer), _with_jinja(tokenizer)):
        ours.encode_sample(_called(CALL))
    assert len([line for line in said if "tools are written by the checkpoint's own chat template" in line]) == 1
    template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct")).encode_sample(_called(CALL))
    assert any("layout react_en" in line for line in said)

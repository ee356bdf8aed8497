"""Tools in a conversation: --tools_prompt. A layout writes the list of tools as system text, and calls and results as plain text.

Where the checkpoint's chat template has a part for tools it writes them itself, unless --tools_prompt is given.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from swift.data.sample import Message
from swift.errors import UsageError
from swift.logs import info_once
from swift.registry import Registry
from swift.template.conversation import Conversation, Turn
from swift.template.encoded import RowSkipped
from swift.template.jinja import JinjaFormat
from swift.template.tool_calls import FLOWERS, REACT, Call, CallStyle, Keywords, Parsed, begins_with, call_styles, read_call, style_of

Function = dict[str, Any]  # {"name", "description", "parameters"}


@dataclass(frozen=True)
class ToolsPrompt:
    """`system` gives the system text for a list of functions on a day. `observation` is the keyword that a tool's result follows."""

    system: Callable[[Sequence[Function], datetime.date], str]
    calls: CallStyle = call_styles["react"]
    observation: str | None = REACT.observation
    dated: bool = False  # whether the text changes with the day: rows that were encoded on another day are encoded anew


def functions(tools: Sequence[dict[str, Any]]) -> list[Function]:
    """The functions of tools in OpenAI's wrapping or bare. RowSkipped for one without a name."""
    found = []
    for number, tool in enumerate(tools, 1):
        inner = tool.get("function", tool)
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise RowSkipped("a tool without a name", f"tool {number}: {json.dumps(tool, ensure_ascii=False)[:80]}")
        found.append(inner)
    return found


def parse_tool_calls(text: str, layout: str) -> Parsed:
    """(what was said besides, calls) of a generated text; `layout` is a --tools_prompt or a family's style such as hermes."""
    return (call_styles[layout] if layout in call_styles else tools_prompt(layout).calls).parse(text)


# system texts


def _json(function: Function) -> str:
    return json.dumps(function, ensure_ascii=False)


def _names(tools: Sequence[Function]) -> str:
    return ",".join(tool["name"] for tool in tools)


def _descriptions(tools: Sequence[Function]) -> str:
    return "\n\n".join(map(_json, tools))


def _headed(tools: Sequence[Function]) -> str:
    return "".join(f"## {tool['name']}\n\n{_json(tool)}\n\n" for tool in tools)


def _react(tools: Sequence[Function], thought: str, observation: str, answer: str) -> str:
    return f"""Answer the following questions as best as you can. You have access to the following tools:

{_descriptions(tools)}

Use the following format:

{thought}
Action: the action to take, should be one of [{_names(tools)}]
Action Input: the input to the action
Observation: the result of the action{observation}
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Final Answer: the final answer to the original input question{answer}

Begin!
"""


def react_en(tools: Sequence[Function], day: datetime.date) -> str:
    return _react(tools, "Thought: you should always think about what to do", "", "")


def react_grpo(tools: Sequence[Function], day: datetime.date) -> str:
    """For reinforcement learning: thoughts stand between tags instead of behind a keyword, as DeepSeek-R1 writes them."""
    opening = (
        "This is a conversation between a user and an assistant that can call tools. Before each step the assistant reasons inside "
        "<think> </think>, and then either calls one tool or gives its answer. A call is written on two lines, "
        "Action:xxx\nAction Input:xxx, right after the reasoning."
    )
    thought = "<think>you should always think about what to do</think>"
    return f"{opening}\n\n{_react(tools, thought, ', as the tool returned it', ' once the observations suffice')}"


def react_zh(tools: Sequence[Function], day: datetime.date) -> str:
    return f"""尽你所能回答以下问题。你拥有如下工具：

{_descriptions(tools)}

使用以下格式回答：

Thought: 思考你应该做什么
Action: 工具的名称，必须是[{_names(tools)}]之一
Action Input: 工具的输入
Observation: 工具返回的结果
... (Thought/Action/Action Input/Observation的过程可以重复零次或多次)
Final Answer: 对输入问题的最终答案

开始！
"""


def glm4(tools: Sequence[Function], day: datetime.date) -> str:
    return (
        "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
        f"你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n{_headed(tools)}"
    )


def custom(tools: Sequence[Function], day: datetime.date) -> str:
    return f"你是一个人工智能助手。你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n    # 可用工具\n\n    {_headed(tools)}"


def toolbench(tools: Sequence[Function], day: datetime.date) -> str:
    """ToolBench's instruction for its system message."""
    return f"""You can use many tools(functions) to do the following task.
First I will give you the task description, and your task start.
At each step, you need to give your thought to analyze the status now and what to do next, \
with a function call to actually execute your step. Your output should follow this format:
Thought:
Action:
Action Input:

After the call, you will get the call result, and you are now in a new state.
Then you will analyze your status now, then decide what to do next...
After many (Thought-call) pairs, you finally perform the task, then you can give your final answer.
Remember:
1.the state change is irreversible, you can't go back to one of the former state, if you want to restart the task, \
say "I give up and restart".
2.All the thought is short, at most in 5 sentence.
3.You can do more then one try, so if your plan is to continuously try some conditions, you can do one of the conditions per try.
Let's Begin!
Task description: You should use functions to help handle the real time user queries. Remember:
1.ALWAYS call "Finish" function at the end of the task. And the final answer should contain enough information to show to the user,\
If you can't handle the task, or you find that function calls always fail(the function is not valid now), \
use function Finish->give_up_and_restart.
2.Do not use origin tool names, use only subfunctions' names.
Specifically, you have access to the following APIs: {_descriptions(tools)}"""


def qwen(tools: Sequence[Function], day: datetime.date) -> str:
    """Qwen-Agent's Chinese text for several calls at once, with the day before it."""
    described = "\n\n".join(f"### {tool['name']}\n\n{_spoken(tool)}" for tool in tools)
    return f"""You are a helpful assistant.

当前时间：{day.year:04d}年{day.month:02d}月{day.day:02d}日，星期{"一二三四五六日"[day.weekday()]}

# 工具

## 你拥有如下工具：

{described}

## 你可以在回复中插入以下命令以并行调用N个工具：

✿FUNCTION✿: 工具1的名称，必须是[{_names(tools)}]之一
✿ARGS✿: 工具1的输入
✿FUNCTION✿: 工具2的名称
✿ARGS✿: 工具2的输入
...
✿FUNCTION✿: 工具N的名称
✿ARGS✿: 工具N的输入
✿RESULT✿: 工具1的结果
✿RESULT✿: 工具2的结果
...
✿RESULT✿: 工具N的结果
✿RETURN✿: 根据工具结果进行回复，需将图片用![](url)渲染出来"""


def _spoken(tool: Function) -> str:
    parameters = json.dumps(tool["parameters"], ensure_ascii=False) if tool.get("parameters") else ""
    return f"{tool['name']}: {tool.get('description') or ''} 输入参数: {parameters} 此工具的输入应为JSON对象。"


tools_prompts: Registry[ToolsPrompt] = Registry("tools_prompt")
tools_prompts["react_en"] = ToolsPrompt(react_en)
tools_prompts["react_grpo"] = ToolsPrompt(react_grpo)
tools_prompts["react_zh"] = ToolsPrompt(react_zh)
tools_prompts["glm4"] = ToolsPrompt(glm4, call_styles["glm4"], observation=None)
tools_prompts["toolbench"] = ToolsPrompt(toolbench)
tools_prompts["qwen"] = ToolsPrompt(qwen, call_styles["qwen"], observation=FLOWERS.observation, dated=True)
tools_prompts["custom"] = ToolsPrompt(custom)


def tools_prompt(name: str) -> ToolsPrompt:
    """A layout by its name; also one registered as people's older files have it: (function of names and descriptions, keywords)."""
    found: Any = tools_prompts[name]
    if isinstance(found, ToolsPrompt):
        return found
    if callable(found):
        return ToolsPrompt(lambda tools, day: str(found(tools)))
    try:
        write, keywords = found
        words = Keywords(keywords["action"], keywords["action_input"], keywords["observation"], REACT.ends, REACT.final)
    except (TypeError, ValueError, KeyError):
        raise UsageError(
            f"the tools_prompt {name!r} is registered as {type(found).__name__}; expected a ToolsPrompt, a function of the tools, or "
            '(function of names and descriptions, {"action", "action_input", "observation"})'
        ) from None
    return ToolsPrompt(
        lambda tools, day: write([tool["name"] for tool in tools], [_json(tool) for tool in tools]),
        CallStyle(words.parse, words.write, begins_with(words.action)),
        words.observation,
    )


# in a conversation


class ToolsWriter:
    """Who writes the tools of one template's conversations: a layout, or the checkpoint's chat template (`layout` None)."""

    def __init__(self, asked: str | None, chat_format: object, jinja: JinjaFormat | None, day: datetime.date):
        self.asked, self.chat_format, self.jinja, self.day = asked, chat_format, jinja, day

    @cached_property
    def layout(self) -> ToolsPrompt | None:
        """--tools_prompt; else None where the chat template has a part for tools; else the format's own; else react_en (rulings 6)."""
        if self.asked:
            name, why = self.asked, "--tools_prompt"
        elif self.jinja is not None and _takes_tools(self.jinja):
            info_once("tools are written by the checkpoint's own chat template (--tools_prompt chooses a layout instead)")
            return None
        elif own := getattr(self.chat_format, "tools_prompt", None):
            name, why = own, "the layout of this model family"
        else:
            name, why = "react_en", "the chat template has no part for tools"
        info_once(f"tools are written in layout {name}: {why}")
        return tools_prompt(name)

    @cached_property
    def writer(self) -> JinjaFormat | None:
        """The chat template, where it writes conversations with results, and only the list of tools needs a layout (rulings 4)."""
        jinja = None if self.asked else self.jinja
        return jinja if jinja is not None and jinja.takes_system and _takes_results(jinja) else None

    @property
    def dated(self) -> bool:
        """Whether the day may stand in what a layout writes."""
        name = self.asked or getattr(self.chat_format, "tools_prompt", None)
        return name is not None and tools_prompt(name).dated

    @cached_property
    def calls(self) -> CallStyle | None:
        """How calls are read back; None where the chat template's way is not known."""
        if self.layout is not None:
            return self.layout.calls
        assert self.jinja is not None
        return style_of(json.dumps(self.jinja.tokenizer.chat_template, ensure_ascii=False).replace('\\"', '"'))

    @cached_property
    def observations(self) -> tuple[str, ...]:
        """An answer's text that ends with one of these goes on with the result that follows it."""
        if self.layout is None:
            return (REACT.observation, FLOWERS.observation)
        return (self.layout.observation,) if self.layout.observation else ()

    def as_text(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as they are written. A client may send an answer back whole, with its calls in it, and the calls beside it: once is enough.

        With a layout calls become text; the chat template is given them apart from it.
        """
        write = _without_calls if self.layout is None else _spelled_out
        return [write(message, self.calls) if self.calls is not None and message.tool_calls else message for message in messages]

    def in_system(self, talk: Conversation) -> Conversation:
        """The conversation with its tools as system text and with results as the format can write them."""
        assert self.layout is not None
        turns = talk.turns
        if isinstance(self.chat_format, JinjaFormat) and self.writer is None:
            turns = [replace(turn, role="user") if turn.role == "tool" else turn for turn in turns]
        turns = _joined_results(turns) if getattr(self.chat_format, "alternates", False) else turns
        if not talk.tools:
            return talk._replace(turns=turns)
        return Conversation(self.layout.system(functions(talk.tools), self.day), turns)

    def parse(self, text: str) -> list[Call]:
        """The calls in an answer."""
        return self.calls.parse(text)[1] if self.calls is not None else []


def _read_calls(message: Message) -> list[Call]:
    calls = []
    for call in message.tool_calls or []:
        read = read_call(call)
        if read is None:
            raise RowSkipped("a tool call without a name", json.dumps(call, ensure_ascii=False)[:80])
        calls.append(read)
    return calls


def _without_calls(message: Message, style: CallStyle) -> Message:
    said, spelled = style.parse(message.content)
    same = spelled and [call.name for call in spelled] == [call.name for call in _read_calls(message)]
    return replace(message, content=said) if same else message


def _spelled_out(message: Message, style: CallStyle) -> Message:
    calls = _read_calls(message)
    assert style.write is not None
    if [call.name for call in style.parse(message.content)[1]] == [call.name for call in calls]:
        return replace(message, tool_calls=None)
    between = "\n" if message.content and not message.content.endswith("\n") else ""
    return replace(message, content=f"{message.content}{between}{style.write(calls)}", tool_calls=None)


def _joined_results(turns: list[Turn]) -> list[Turn]:
    """Results in a row as one turn, for formats in which questions and answers take turns."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role == "tool":
            joined[-1] = replace(joined[-1], parts=[*joined[-1].parts, (turn.parts[0][0], "\n" + turn.text)])
        else:
            joined.append(turn)
    return joined


def _takes_results(jinja: JinjaFormat) -> bool:
    """Whether the chat template writes a tool's result."""
    try:
        jinja.render(Conversation(None, [Turn("user", [(0, "a")]), Turn("assistant", [(1, "b")]), Turn("tool", [(2, "c")])]), reply=True)
    except RowSkipped:
        return False
    return True


def _takes_tools(jinja: JinjaFormat) -> bool:
    """Whether the chat template writes a list of tools anywhere."""
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}
    try:
        jinja.render(Conversation(None, [Turn("user", [(0, "a")])], [tool]), reply=True)
    except RowSkipped:
        return False
    return True

"""Tool calls as text: writing those of a layout, reading back what models of every family write. Keywords are found in any case."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift.registry import Registry


class Call(NamedTuple):
    """`arguments` is JSON text where the model wrote JSON, otherwise what it wrote."""

    name: str
    arguments: str


Parsed = tuple[str, list[Call]]  # what was said besides, and the calls


@dataclass(frozen=True)
class CallStyle:
    """`parse` gives the whole text and no calls where there are none. `write` is None where the checkpoint's chat template writes them.

    For streams: `start` says from which character on a growing text is a call or may become one (its length: nowhere yet), and `end` is
    the text that closes a call, where the style has one.
    """

    parse: Callable[[str], Parsed]
    write: Callable[[Sequence[Call]], str] | None = None
    start: Callable[[str], int] = lambda text: 0
    end: str | None = None


def begins_with(*openings: str) -> Callable[[str], int]:
    """For `CallStyle.start`, where calls begin with one of these texts, in any case."""
    whole = re.compile("|".join(map(re.escape, openings)), re.IGNORECASE)
    begun = {opening[:size].lower() for opening in openings for size in range(1, len(opening))}
    longest = max(map(len, openings))

    def start(text: str) -> int:
        if match := whole.search(text):
            return match.start()
        sizes = range(min(longest - 1, len(text)), 0, -1)
        return len(text) - next((size for size in sizes if text[-size:].lower() in begun), 0)

    return start


@dataclass(frozen=True)
class Keywords:
    """A layout that writes calls behind keywords. `ends` are more keywords that end an argument; behind `final` there are no calls."""

    action: str
    arguments: str
    observation: str
    ends: tuple[str, ...] = ()
    final: str | None = None

    def write(self, calls: Sequence[Call]) -> str:
        return "\n".join(f"{self.action} {call.name}\n{self.arguments} {call.arguments}" for call in calls)

    def parse(self, text: str) -> Parsed:
        words = (self.action, self.arguments, self.observation, *self.ends, *([self.final] if self.final else []))
        found = [*re.finditer("|".join(map(re.escape, words)), text, re.IGNORECASE)]
        calls: list[Call] = []
        first: int | None = None
        for number, match in enumerate(found, 1):
            said = text[match.end() : found[number].start() if number < len(found) else len(text)]
            keyword = match.group().lower()
            if self.final and keyword == self.final.lower():
                break
            if keyword == self.action.lower() and (name := "".join(said.split("\n")).strip()):
                calls.append(Call(name, "{}"))
                first = match.start() if first is None else first
            elif keyword == self.arguments.lower() and calls:
                calls[-1] = Call(calls[-1].name, _arguments(said))
        return (text if first is None else text[:first].rstrip(), calls)


REACT = Keywords("Action:", "Action Input:", "Observation:", ends=("Thought:",), final="Final Answer:")
FLOWERS = Keywords("✿FUNCTION✿:", "✿ARGS✿:", "✿RESULT✿:", ends=("✿RETURN✿:", "✿RETURN✿"))


def _arguments(said: str) -> str:
    """Without what a model writes behind a complete JSON object, and without the blanks around it."""
    said = said.strip()
    read = _json_at(said, 0)
    return said[: read[1]] if read is not None and isinstance(read[0], dict) else said


def _json_at(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value that begins at `start`, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None


def _as_call(value: Any) -> Call | None:
    """From `{"name", "arguments"}`, as OpenAI, Hermes, Mistral write it, or with `parameters`, as Llama does."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return Call(value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))


def read_call(call: dict[str, Any]) -> Call | None:
    """A message's tool call in OpenAI's form, or None where it has no name."""
    return _as_call(call)


# the styles of families


def _glm4(text: str) -> Parsed:
    """A name on a line of its own, the arguments as a JSON object below it."""
    calls, first, position = [], None, 0
    for match in re.finditer(r"^[ \t]*([\w.\-]+)[ \t]*\n\s*(?=\{)", text, re.MULTILINE):
        read = _json_at(text, match.end()) if match.start() >= position else None
        if read is not None and isinstance(read[0], dict):
            calls.append(Call(match.group(1), text[match.end() : read[1]]))
            first, position = match.start() if first is None else first, read[1]
    return (text if first is None else text[:first].rstrip(), calls)


def _write_glm4(calls: Sequence[Call]) -> str:
    return "\n".join(f"{call.name}\n{call.arguments}" for call in calls)


def _glm4_start(text: str) -> int:
    """A line that is one word may be a name; it is one where `{` follows below it."""
    match = re.search(r"^[ \t]*[\w.\-]*[ \t]*(?:\n\s*)?(?:\{|\Z)", text, re.MULTILINE)
    return match.start() if match else len(text)


_HERMES = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL | re.IGNORECASE)


def _hermes(text: str) -> Parsed:
    """`<tool_call>` around JSON (Hermes, Qwen2.5, Qwen3), around `<function=…>` (Qwen3-Coder) or around `<arg_key>` (GLM-4.5)."""
    return _blocks(text, _HERMES, _in_hermes)


def _in_hermes(body: str) -> Call | None:
    if body.startswith("{"):
        read = _json_at(body, 0)
        return _as_call(read[0]) if read else _broken(body)
    if match := re.match(r"<function=([^>\s]+)\s*>", body):
        values = re.findall(r"<parameter=([^>\s]+)\s*>\n?(.*?)\n?</parameter>", body, re.DOTALL)
        return Call(match.group(1), _typed(values))
    if match := re.match(r"[\w.\-]+(?=\s*(?:<arg_key>|\Z))", body):
        values = re.findall(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", body, re.DOTALL)
        return Call(match.group(), _typed([(key.strip(), value) for key, value in values]))
    return None


def _broken(body: str) -> Call | None:
    """A call whose JSON is broken: the name can mostly be read, and its arguments stay text."""
    name = re.search(r'"name"\s*:\s*"([^"]+)"', body)
    arguments = re.search(r'"(?:arguments|parameters)"\s*:\s*(.*?)\s*\}?\s*\Z', body, re.DOTALL)
    return Call(name.group(1), arguments.group(1) if arguments else "") if name else None


def _typed(values: list[tuple[str, str]]) -> str:
    """Arguments written one by one: what reads as JSON (a number, a list) is that, the rest text."""
    found = {}
    for key, value in values:
        read = _json_at(value.strip(), 0)
        found[key] = read[0] if read is not None and read[1] == len(value.strip()) else value
    return json.dumps(found, ensure_ascii=False)


def _blocks(text: str, pattern: re.Pattern[str], read: Callable[[str], Call | None]) -> Parsed:
    calls = [call for match in pattern.finditer(text) if (call := read(match.group(1).strip())) is not None]
    return (pattern.sub("", text).strip(), calls) if calls else (text, [])


_DEEPSEEK = re.compile(r"<｜tool▁call▁begin｜>(.*?)(?:<｜tool▁call▁end｜>|\Z)", re.DOTALL)


def _deepseek(text: str) -> Parsed:
    """Between DeepSeek's own markers: `function`, name and a code block (V3, R1), or name and JSON (V3.1)."""
    said, calls = _blocks(text, _DEEPSEEK, _in_deepseek)
    return re.sub(r"<｜tool▁calls▁(?:begin|end)｜>", "", said).strip() if calls else text, calls


def _in_deepseek(body: str) -> Call | None:
    before, mark, after = body.partition("<｜tool▁sep｜>")
    if not mark:
        return None
    if before.strip() == "function":
        name, _, after = after.partition("\n")
        after = re.sub(r"\A\s*```(?:json)?\s*|\s*```\s*\Z", "", after)
        return Call(name.strip(), _arguments(after))
    return Call(before.strip(), _arguments(after))


_KIMI = re.compile(r"<\|tool_call_begin\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.DOTALL)


def _kimi(text: str) -> Parsed:
    """Between Kimi's markers: `functions.<name>:<number>`, then JSON."""
    said, calls = _blocks(text, _KIMI, _in_kimi)
    return re.sub(r"<\|tool_calls_section_(?:begin|end)\|>", "", said).strip() if calls else text, calls


def _in_kimi(body: str) -> Call | None:
    name, mark, arguments = body.partition("<|tool_call_argument_begin|>")
    name = name.strip().removeprefix("functions.").partition(":")[0]
    return Call(name, _arguments(arguments)) if mark and name else None


def _mistral(text: str) -> Parsed:
    """`[TOOL_CALLS]` before a JSON list of calls, or before each name, with `[ARGS]` or at once the arguments behind it."""
    said, *behind = text.split("[TOOL_CALLS]")
    calls: list[Call] = []
    for part in behind:
        part = part.strip()
        read = _json_at(part, 0)
        if read is not None:
            values = read[0] if isinstance(read[0], list) else [read[0]]
            calls += [call for value in values if (call := _as_call(value)) is not None]
        elif match := re.match(r"([\w.\-]+)\s*(?:\[CALL_ID\]\w+\s*)?(?:\[ARGS\])?\s*(?=\{)", part):
            calls.append(Call(match.group(1), _arguments(part[match.end() :])))
    return (said.strip(), calls) if calls else (text, [])


def _llama3(text: str) -> Parsed:
    """JSON objects with `name` and `parameters`, behind `<|python_tag|>` or as the whole answer; several with `;` between them."""
    said, mark, behind = text.partition("<|python_tag|>")
    calls = [*_objects(behind if mark else text)]
    return (said.strip() if mark else "", calls) if calls else (text, [])


def _llama3_start(text: str) -> int:
    return 0 if text.lstrip()[:1] in ("", "{") else begins_with("<|python_tag|>")(text)


def _objects(text: str) -> Iterator[Call]:
    position = 0
    while match := re.compile(r"[\s;,]*(?=\{)").match(text, position):
        read = _json_at(text, match.end())
        call = _as_call(read[0]) if read else None
        if read is None or call is None:
            return
        yield call
        position = read[1]


call_styles: Registry[CallStyle] = Registry("style of tool calls")
call_styles["react"] = CallStyle(REACT.parse, REACT.write, begins_with(REACT.action))
call_styles["qwen"] = CallStyle(FLOWERS.parse, FLOWERS.write, begins_with(FLOWERS.action))
call_styles["glm4"] = CallStyle(_glm4, _write_glm4, _glm4_start)
call_styles["hermes"] = CallStyle(_hermes, None, begins_with("<tool_call>"), "</tool_call>")
call_styles["llama3"] = CallStyle(_llama3, None, _llama3_start)
call_styles["mistral"] = CallStyle(_mistral, None, begins_with("[TOOL_CALLS]"))
call_styles["deepseek"] = CallStyle(_deepseek, None, begins_with("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"), "<｜tool▁call▁end｜>")
call_styles["kimi"] = CallStyle(_kimi, None, begins_with("<|tool_calls_section_begin|>", "<|tool_call_begin|>"), "<|tool_call_end|>")

# what a chat template writes around calls, and the style that reads it; the first that is found decides
_TRACES = {
    "<｜tool▁call▁begin｜>": "deepseek",
    "<|tool_call_begin|>": "kimi",
    "[TOOL_CALLS]": "mistral",
    "<tool_call>": "hermes",
    "<|observation|>": "glm4",
    "<|python_tag|>": "llama3",
    '"parameters": ': "llama3",
}


def style_of(chat_template: str) -> CallStyle | None:
    """How a model calls tools, to judge by its chat template; None where that is not known."""
    return next((call_styles[style] for trace, style in _TRACES.items() if trace in chat_template), None)

"""A row's columns → Sample: messages, ShareGPT, alpaca, query/response, preference and plain text, with `--columns` before all of it.

Which columns mean what is ALIASES; where a row has several for one meaning, the first in the list is taken and this is said once.
"""

from __future__ import annotations

import ast
import difflib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swift import logs
from swift.data.sample import ROLES, Message, Origin, Role, Sample
from swift.template.encoded import RowSkipped

Task = Literal["sft", "pt", "infer"]

# Meaning → column names in order of priority, compared without case.
ALIASES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations"),
    "system": ("system", "system_prompt"),
    "query": ("query", "prompt", "question", "instruction", "problem", "input"),
    "response": (
        "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution", "text", "completion", "content",
    ),
    "history": ("history",),
    "rejected_response": ("rejected_response",),
    "rejected_messages": ("rejected_messages",),
    "label": ("label",),
    "tools": ("tools",),
    "images": ("images", "image"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
    "objects": ("objects",),
}  # fmt: skip
MEDIA = ("images", "videos", "audios", "objects")
BESIDE = ("system", "rejected_response", "rejected_messages", "label", "tools", *MEDIA)  # read in every shape of row
NAMES = sorted({name for names in ALIASES.values() for name in names})

ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")
ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
}


@dataclass(slots=True)
class Plan:
    """How rows with one set of columns are read."""

    shape: Literal["messages", "alpaca", "query", "chosen"]
    source: dict[str, str]  # meaning → column of the row
    extra: list[tuple[str, str]]  # name in Sample.extra, column of the row; in the row's order


class Columns:
    """Turns rows into Samples for one run; raises RowSkipped for a row that cannot be used."""

    def __init__(self, mapping: Mapping[str, str] | None = None, *, keep_extra: bool = False, task: Task = "sft", seed: int = 42) -> None:
        self.mapping = {name.lower(): target for name, target in (mapping or {}).items()}
        self.keep_extra, self.task, self.seed = keep_extra, task, seed
        self.mapped: set[str] = set()  # names of `mapping` that some row had
        self.seen: set[str] = set()  # all column names so far, in lower case
        self._file = ""
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._told: set[str] = set()

    def __call__(self, values: dict[str, Any], origin: Origin) -> Sample:
        if origin.file != self._file:
            self._file, self._plans, self._told = origin.file, {}, set()
        present = tuple(key for key, value in values.items() if value is not None)
        plan = self._plans.get(present)
        if plan is None:
            plan = self._plans[present] = self._make_plan(present, origin)
        return self._sample(plan, values, origin)

    # Columns to plan

    def _make_plan(self, present: tuple[str, ...], origin: Origin) -> Plan:
        self.seen.update(column.lower() for column in present)
        names = self._renamed(present, origin)
        shape: Literal["messages", "alpaca", "query", "chosen"]
        if any(name in names for name in ALIASES["messages"]):
            shape, wanted = "messages", ("messages",)
        elif "instruction" in names and "input" in names:
            shape, wanted = "alpaca", ("history",)
        elif "chosen" in names and "rejected" in names and not any(name in names for name in ALIASES["query"] + ALIASES["response"]):
            shape, wanted = "chosen", ()
        else:
            shape, wanted = "query", ("query", "response", "history")

        source: dict[str, str] = {}
        if shape == "alpaca":
            source = {"instruction": names["instruction"], "input": names["input"]}
            self._take("response", ("output", *ALIASES["response"]), names, source, origin)
        if shape == "chosen":
            source = {"messages": names["chosen"], "rejected_messages": names["rejected"]}
        for meaning in (*wanted, *BESIDE):
            self._take(meaning, ALIASES[meaning], names, source, origin)

        used = {column: meaning for meaning, column in source.items()}
        extra, unused = [], []
        for name, column in names.items():
            meaning = used.get(column)
            if meaning in MEDIA:
                extra.append((meaning, column))
            elif meaning is None or name == "solution":  # rewards read the solution that is also the answer
                if self.keep_extra:
                    extra.append((name if name in self.mapping.values() else column, column))
                if meaning is None:
                    unused.append(column)
        self._tell(unused, names, used, origin)
        return Plan(shape, source, extra)

    def _renamed(self, present: tuple[str, ...], origin: Origin) -> dict[str, str]:
        """Name after `--columns`, in lower case → column. A mapped column comes before one that has the name by itself."""
        own = {column.lower(): column for column in present}
        asked: dict[str, str] = {}
        for name, target in self.mapping.items():
            if name not in own:
                continue
            self.mapped.add(name)
            if target.lower() in asked and name != target.lower():
                logs.warn_once(f"{origin.file}: --columns maps several columns to {target!r}; {asked[target.lower()]!r} is used")
            asked.setdefault(target.lower(), own[name])
        moved = {own[name] for name in self.mapping if name in own}
        names = {}
        for column in present:
            if column in moved:
                names.update((target, source) for target, source in asked.items() if source == column)
            elif column.lower() not in asked:
                names[column.lower()] = column
        return names

    def _take(self, meaning: str, aliases: tuple[str, ...], names: dict[str, str], source: dict[str, str], origin: Origin) -> None:
        found = list(dict.fromkeys(names[name] for name in aliases if name in names and names[name] not in source.values()))
        if not found or meaning in source:
            return
        source[meaning] = found[0]
        others = [name for name in found[1:] if name.lower() != "solution"]
        if others:
            logs.warn_once(
                f"{origin.file}: columns {', '.join(map(repr, found))} can all be the {meaning}; {found[0]!r} is used. "
                f"Choose another with --columns '{json.dumps({others[0]: meaning})}'"
            )
            self._told.update(others)

    def _tell(self, unused: list[str], names: dict[str, str], used: dict[str, str], origin: Origin) -> None:
        """Name columns that nothing reads, once a file, with a suggestion where one looks misspelt."""
        fresh = [column for column in unused if column not in self._told and column.lower() not in self.mapping]
        self._told.update(fresh)
        plain = []
        free = [name for name in NAMES if name not in names]
        for column in fresh:
            near = [] if column.lower() in NAMES else difflib.get_close_matches(column.lower(), free, n=1, cutoff=0.78)
            if near:
                logs.warn_once(f"{origin}: column {column!r} is not known and not used; did you mean {near[0]!r}?")
            else:
                plain.append(column)
        if "chosen" in plain or "rejected" in plain:
            logs.warn_once(
                f"{origin.file}: chosen and rejected are not read beside a prompt or messages; "
                "map them, e.g. chosen to response and rejected to rejected_response, with --columns"
            )
        if plain and not self.keep_extra:
            names_of = ", ".join(plain)
            logs.info_once(f"{origin.file}: columns that are not used: {names_of} (--columns maps, --remove_unused_columns false keeps)")
        media = [meaning for meaning in used.values() if meaning in MEDIA]
        if media:
            logs.warn_once(f"{origin.file}: {', '.join(media)} are kept but not shown to a text model; tags such as <image> stay text")

    # Plan and row to sample

    def _sample(self, plan: Plan, values: dict[str, Any], origin: Origin) -> Sample:
        def get(meaning: str) -> Any:
            column = plan.source.get(meaning)
            return None if column is None else values[column]

        messages = (
            read_messages(get("messages")) if plan.shape in ("messages", "chosen") else self._flat_messages(plan, get, values, origin)
        )
        system = get("system")
        # An empty cell of a table says nothing; an empty string in JSON asks for no system text at all.
        if system == "" and origin.file.removesuffix(".gz").endswith((".csv", ".tsv")):
            system = None
        if system is not None and messages[0].role != "system":
            messages.insert(0, Message("system", text(system, "system")))
        if self.task == "infer" and messages and _blank(messages[-1]):
            messages.pop()  # a placeholder for the answer that is asked for
        check_order(messages)
        return Sample(
            messages,
            rejected=_rejected(messages, get("rejected_response"), get("rejected_messages")),
            label=read_label(get("label")),
            tools=read_tools(get("tools")),
            extra={name: values[column] for name, column in plan.extra},
            origin=origin,
        )

    def _flat_messages(self, plan: Plan, get: Callable[[str], Any], values: dict[str, Any], origin: Origin) -> list[Message]:
        if plan.shape == "alpaca":
            parts = [text(get("instruction"), "instruction"), text(get("input"), "input")]
            query: Any = "\n".join(part for part in parts if part)
        else:
            query = get("query")
        response = get("response")
        if query is None and response is None:
            columns = ", ".join(list(values)[:8])
            raise RowSkipped("no column that SWIFT knows", f"none of its columns is a prompt, an answer or messages: {columns}")
        messages = read_history(get("history"))
        if query is not None:
            messages.append(Message("user", text(self._one_of(query, origin), "query")))
        if response is not None:
            messages.append(Message("assistant", text(self._one_of(response, origin), "response")))
        return messages

    def _one_of(self, value: Any, origin: Origin) -> Any:
        """One element of a list of alternatives, by chance that depends on data_seed and the row only."""
        if isinstance(value, list) and value:
            return random.Random(f"{self.seed} {origin.line}").choice(value)
        return value


def to_row(sample: Sample) -> dict[str, Any]:
    """The row that reads back as this sample, in the messages shape."""
    row: dict[str, Any] = {"messages": [_to_message(message) for message in sample.messages]}
    if sample.rejected is not None:
        row["rejected_messages"] = [_to_message(message) for message in sample.rejected]
    if sample.label is not None:
        row["label"] = sample.label
    if sample.tools is not None:
        row["tools"] = sample.tools
    return row | sample.extra


def _to_message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls is not None:
        row["tool_calls"] = message.tool_calls
    if message.loss is not None:
        row["loss"] = message.loss
    return row


# Values


def text(value: Any, name: str) -> str:
    """A value as text; numbers of a table or of JSON become their digits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise RowSkipped("not text", f"{name} is {_kind(value)}, not text")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise RowSkipped("broken Unicode", f"{name} holds half of a surrogate pair") from None
    return value


def read_messages(value: Any, name: str = "messages") -> list[Message]:
    """A list of messages in any of the known spellings, or its JSON or Python text."""
    if isinstance(value, str):
        value = _literal(value, name)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowSkipped("messages cannot be read", f"{name} is {_kind(value)}, not a list of messages")
    if not value:
        raise RowSkipped("no messages", f"{name} is an empty list")
    messages: list[Message] = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict):
            raise RowSkipped("messages cannot be read", f"message {number} is {_kind(item)}, not an object")
        role = _first_key(item, ROLE_KEYS)
        if role is not None:
            messages.append(_message(item, item[role], number))
        else:
            messages += _pair(item, number)
    return messages


def _message(item: dict[str, Any], role: Any, number: int) -> Message:
    known = ROLE_NAMES.get(role) if isinstance(role, str) else None
    if known is None:
        raise RowSkipped("unknown role", f"message {number} has role {role!r}; expected {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    key = _first_key(item, CONTENT_KEYS)
    content = None if key is None else item[key]
    calls = item.get("tool_calls") or None
    if content is None and known == "assistant":
        content = ""  # said by tool_calls, or found empty by check_order
    loss = item.get("loss")
    if loss is not None and not isinstance(loss, bool | int | float):
        raise RowSkipped("loss cannot be read", f"message {number} has loss {loss!r}; expected true, false or a number")
    return Message(known, _content(content, number, known), tool_calls=calls, loss=loss)


def _content(content: Any, number: int, role: str) -> str:
    """Text, or OpenAI's list of parts where all are text."""
    where = f"the content of message {number} ({role})"
    if not isinstance(content, list):
        return text(content, where)
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or "text" not in part:
            raise RowSkipped("content part that is not text", f"{where} has a part of type {kind!r}, which a text model cannot read")
        parts.append(text(part["text"], where))
    return "".join(parts)


def _pair(item: dict[str, Any], number: int) -> list[Message]:
    """ShareGPT's `{"human": …, "assistant": …}`: two messages in one object."""
    turns = {ROLE_NAMES[key]: value for key, value in item.items() if key in ROLE_NAMES}
    asked: Role | None = "user" if "user" in turns else "tool" if "tool" in turns else None
    if asked is None or "assistant" not in turns:
        raise RowSkipped("messages cannot be read", f"message {number} has neither a role nor a pair such as human and assistant")
    where = f"item {number}"
    return [Message(asked, text(turns[asked], where)), Message("assistant", text(turns["assistant"], where))]


def read_history(value: Any) -> list[Message]:
    """`[[question, answer], …]` or its text."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = _literal(value, "history")
    if not isinstance(value, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        raise RowSkipped("history cannot be read", "history is not a list of [question, answer] pairs")
    messages = []
    for question, answer in value:
        messages += [Message("user", text(question, "history")), Message("assistant", text(answer, "history"))]
    return messages


def check_order(messages: list[Message], name: str = "message") -> None:
    """system only first, questions and answers in turn, no empty answer. Adjacent answers and tool results are allowed."""
    if not any(message.role != "system" for message in messages):
        raise RowSkipped("no messages", "there is no message of a user or an assistant")
    before = "system"
    for number, message in enumerate(messages, 1):
        role = message.role
        if role == "system" and number > 1:
            raise RowSkipped("system message that is not the first", f"{name} {number} has role 'system'; only the first may")
        if (role == "user" and before in ("user", "tool")) or (role == "tool" and before == "user"):
            detail = f"{name} {number} ({role}) follows {name} {number - 1} ({before}) without an answer between"
            raise RowSkipped("two questions in a row", detail)
        if _blank(message):
            raise RowSkipped("empty answer", f"{name} {number} (assistant) is empty")
        before = role


def _blank(message: Message) -> bool:
    return message.role == "assistant" and not message.content.strip() and not message.tool_calls


def _rejected(messages: list[Message], response: Any, conversation: Any) -> list[Message] | None:
    """The conversation with the worse answer, its own history included."""
    if conversation is not None:
        rejected = read_messages(conversation, "rejected_messages")
        if messages[0].role == "system":
            rejected = [messages[0], *(rejected[1:] if rejected[0].role == "system" else rejected)]
        check_order(rejected, "rejected message")
        asked, asked_too = ([(m.role, m.content) for m in side if m.role != "assistant"] for side in (messages, rejected))
        if asked != asked_too:
            raise RowSkipped("rejected_messages asks something else", "messages and rejected_messages differ in more than the answers")
        if [m.content for m in messages] == [m.content for m in rejected]:
            raise RowSkipped("rejected equals the answer", "messages and rejected_messages are the same")
        return rejected
    if response is None:
        return None
    answer = text(response, "rejected_response")
    if messages[-1].role != "assistant":
        return [*messages, Message("assistant", answer)]
    if answer == messages[-1].content:
        raise RowSkipped("rejected equals the answer", "rejected_response is the same as the last answer")
    return [*messages[:-1], Message("assistant", answer)]


def read_label(value: Any) -> bool | int | float | list | None:
    """A label as JSON has it, or a table's text of one."""
    if isinstance(value, str):
        if not value.strip():
            return None
        if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        try:
            number = float(value)
        except ValueError:
            raise RowSkipped("label cannot be read", f"label {value!r} is neither a number nor true or false") from None
        return int(value) if value.strip().lstrip("+-").isdecimal() else number
    if value is None or isinstance(value, bool | int | float | list):
        return value
    raise RowSkipped("label cannot be read", f"label is {_kind(value)}")


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """A list of tools or its JSON text. Objects lose the null keys that arrow adds; what was text is kept to the letter."""
    if isinstance(value, str):
        if not value.strip():
            return None
        value = _tool_json(value)
    elif value is not None:
        value = _without_nulls(value)
    if value is None:
        return None
    tools = [_tool_json(tool) if isinstance(tool, str) else tool for tool in (value if isinstance(value, list) else [value])]
    if not all(isinstance(tool, dict) for tool in tools):
        raise RowSkipped("tools cannot be read", "tools is not a list of objects")
    return tools


def _tool_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowSkipped("tools cannot be read", f"tools is not JSON: {error}") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _literal(value: str, name: str) -> Any:
    """JSON, or Python's spelling of a list (specification 2.4)."""
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise RowSkipped(f"{name} cannot be read", f"{name} is text, but neither JSON nor a Python list") from None


def _first_key(item: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in item), None)


def _kind(value: Any) -> str:
    words = {type(None): "null", dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return words.get(type(value), type(value).__name__)

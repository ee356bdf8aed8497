"""Conversations in the spellings that data sets have → lists of Message: OpenAI, ShareGPT and its variants, pairs, one long text."""

from __future__ import annotations

import json
import re
from typing import Any

from swift.data.sample import ROLES, Message, Role
from swift.data.values import kind, literal, text
from swift.registry import did_you_mean
from swift.template.encoded import RowSkipped

ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")  # an answer's thoughts beside its content
LOSS_KEYS = ("loss", "weight")  # ours, and that of OpenAI's fine-tuning files
MESSAGE_KEYS = (*ROLE_KEYS, *CONTENT_KEYS, *THOUGHT_KEYS, *LOSS_KEYS, "tool_calls", "function_call", "name", "tool_call_id")

# Compared in lower case.
ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
CALLS = ("function_call", "tool_call")  # roles of an answer that calls a tool: its content is the call


def read_messages(value: Any, name: str = "messages") -> list[Message]:
    """A list of messages in any of the known spellings, or its JSON or Python text."""
    if isinstance(value, str):
        value = literal(value, name)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowSkipped("messages cannot be read", f"{name} is {kind(value)}, not a list of messages")
    if not value:
        raise RowSkipped("no messages", f"{name} is an empty list")
    messages: list[Message] = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict):
            raise RowSkipped("messages cannot be read", f"message {number} is {kind(item)}, not an object")
        role = _first_key(item, ROLE_KEYS)
        if role is not None:
            messages.append(_message(item, item[role], number))
        else:
            messages += _pair(item, number)
    return messages


def are_messages(value: Any) -> bool:
    """Whether a value is a list of messages rather than of texts to choose from."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and _first_key(value[0], ROLE_KEYS) is not None


def _message(item: dict[str, Any], role: Any, number: int) -> Message:
    low = role.strip().lower() if isinstance(role, str) else ""
    known = ROLE_NAMES.get(low)
    if known is None:
        near = did_you_mean(low, list(ROLE_NAMES))
        raise RowSkipped("unknown role", f"message {number} has role {role!r}; expected {', '.join(ROLES[:-1])} or {ROLES[-1]}{near}")
    where = f"message {number} ({known})"
    if len(item) == 2 and low not in CALLS and isinstance(item.get("content"), str):  # most messages: nothing else to look for
        return Message(known, text(item["content"], f"the content of {where}"))
    key = _first_key(item, CONTENT_KEYS)
    content = None if key is None else item[key]
    calls = item.get("tool_calls") or None
    if known == "assistant" and calls is None:
        if item.get("function_call"):
            calls = [_call(item["function_call"])]
        elif low in CALLS and (called := _calls(content)):
            calls, content = called, ""
    if content is None and known == "assistant":
        content = ""  # said by tool_calls, or found empty by check_order
    if content is None and key is None:
        unread = [name for name in item if name not in MESSAGE_KEYS]
        near = did_you_mean(unread[0], ["content"]) if unread else ""
        raise RowSkipped("a message without content", f"{where} has no content, only {', '.join(map(repr, item))}{near}")
    written = _content(content, where)
    if known == "assistant" and (thoughts := next((item[name] for name in THOUGHT_KEYS if item.get(name)), None)):
        written = f"<think>\n{text(thoughts, where).strip()}\n</think>\n\n{written.lstrip()}"
    loss = next((item[name] for name in LOSS_KEYS if item.get(name) is not None), None)
    if loss is not None and not isinstance(loss, bool | int | float):
        raise RowSkipped("loss cannot be read", f"message {number} has loss {loss!r}; expected true, false or a number")
    return Message(known, written, tool_calls=calls, loss=loss)


def _content(content: Any, where: str) -> str:
    """Text, or OpenAI's list of parts where all are text."""
    if not isinstance(content, list):
        return text(content, f"the content of {where}")
    parts = []
    for part in content:
        sort = part.get("type") if isinstance(part, dict) else None
        if sort != "text" or "text" not in part:
            detail = f"the content of {where} has a part of type {sort!r}, which a text model cannot read"
            raise RowSkipped("content part that is not text", detail)
        parts.append(text(part["text"], f"the content of {where}"))
    return "".join(parts)


def _calls(content: Any) -> list[dict[str, Any]] | None:
    """The calls that the content of a function_call message spells as JSON; None where it is other text (ReAct)."""
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            return None
    called = content if isinstance(content, list) else [content]
    if not called or not all(isinstance(call, dict) and ("name" in call or "function" in call) for call in called):
        return None
    return [_call(call) for call in called]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form of a call, from that form or from a bare `{"name", "arguments"}`."""
    return call if "function" in call else {"type": "function", "function": call}


def _pair(item: dict[str, Any], number: int) -> list[Message]:
    """ShareGPT's `{"human": …, "assistant": …}`: two messages in one object."""
    turns = {ROLE_NAMES[key]: value for key, value in item.items() if key in ROLE_NAMES}
    asked: Role | None = "user" if "user" in turns else "tool" if "tool" in turns else None
    if asked is None or "assistant" not in turns:
        near = next((hint for name in item if (hint := did_you_mean(name, [*ROLE_KEYS, *CONTENT_KEYS]))), "")
        detail = f"message {number} has neither a role nor a pair such as human and assistant{near}"
        raise RowSkipped("messages cannot be read", detail)
    where = f"item {number}"
    return [Message(asked, text(turns[asked], where)), Message("assistant", text(turns["assistant"], where))]


def read_history(value: Any) -> list[Message]:
    """`[[question, answer], …]` or its text."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = literal(value, "history")
    if not isinstance(value, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        raise RowSkipped("history cannot be read", "history is not a list of [question, answer] pairs")
    messages = []
    for question, answer in value:
        messages += [Message("user", text(question, "history")), Message("assistant", text(answer, "history"))]
    return messages


def read_transcript(value: str) -> list[Message] | None:
    """The turns of a text such as Anthropic's HH-RLHF rows: `\\n\\nHuman: …\\n\\nAssistant: …`; None for other texts."""
    if not re.match(r"\s*Human: ", value):
        return None
    parts = re.split(r"(?:^|\n\n)(Human|Assistant): ?", value.lstrip("\n"))
    roles: list[Role] = ["user" if name == "Human" else "assistant" for name in parts[1::2]]
    return [Message(role, words.strip()) for role, words in zip(roles, parts[2::2], strict=True)]


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
        if is_blank(message):
            raise RowSkipped("empty answer", f"{name} {number} (assistant) is empty")
        before = role


def is_blank(message: Message) -> bool:
    return message.role == "assistant" and not message.content.strip() and not message.tool_calls


def _first_key(item: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in item), None)

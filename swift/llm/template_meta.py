"""`register_template(TemplateMeta(...))` as people's files have it, turned into a ChatFormat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swift.errors import PluginError
from swift.template.chat_format import BOS, EOS, QUERY, SYSTEM, ChatFormat
from swift.template.formats import register_chat_format

Prompt = Sequence[Any]  # texts, lists of token ids, and names of the tokenizer's attributes in a list: ["bos_token_id"]
NAMED = {"bos_token_id": BOS, "eos_token_id": EOS}
EXPECTED = 'texts, lists of token ids, or a list with the name of a tokenizer\'s token such as ["eos_token_id"]'


@dataclass
class TemplateMeta:
    """A chat template (specification 3.1). `prompt` is a round up to and with the assistant's header."""

    template_type: str
    prefix: Prompt
    prompt: Prompt
    chat_sep: Prompt | None
    suffix: Prompt = (["eos_token_id"],)
    template_cls: Any = None
    system_prefix: Prompt | None = None
    tool_prompt: Prompt | None = None
    default_system: str | None = None
    default_tools_prompt: str | None = None
    response_prefix: str = ""
    auto_add_bos: bool = False
    stop_words: Sequence[Any] = ()
    placeholder_tokens: Sequence[Any] = ()


def register_template(template_meta: TemplateMeta, *, exist_ok: bool = False) -> None:
    """Make a template known to --template. Raises PluginError naming the field that cannot be expressed."""
    if not isinstance(template_meta, TemplateMeta):
        raise PluginError(f"register_template takes a TemplateMeta, not {type(template_meta).__name__}")
    register_chat_format(to_chat_format(template_meta), exist_ok=exist_ok)


def to_chat_format(meta: TemplateMeta) -> ChatFormat:
    name = meta.template_type
    if not isinstance(name, str) or not name:
        raise PluginError(f"TemplateMeta: template_type must be its name, not {name!r}")
    _refuse(meta)
    prefix = _text(meta.prefix, "prefix", name)
    system = None if meta.system_prefix is None else _text(meta.system_prefix, "system_prefix", name)
    if SYSTEM in prefix:
        system, prefix = (prefix if system is None else system), prefix.replace(SYSTEM, "")
    if system is not None and system.count(SYSTEM) != 1:
        raise PluginError(f"template {name}: system_prefix must hold {SYSTEM} once: without it the system text would be lost")
    prompt = _text(meta.prompt, "prompt", name)
    in_question = None
    if SYSTEM in prompt:
        prompt, in_question = _system_in_prompt(prompt, name)
        if system is not None:
            raise PluginError(f"template {name}: both the prompt and the prefix have a place for the system text; take one away")
    tool = None if meta.tool_prompt is None else _text(meta.tool_prompt, "tool_prompt", name)
    for field, text in (("prompt", prompt), ("tool_prompt", tool)):
        if text is not None and text.count(QUERY) != 1:
            raise PluginError(f"template {name}: {field} must hold {QUERY} once")
    user, header, tool = _header_apart(prompt, tool)
    suffix = _text(meta.suffix, "suffix", name)
    return ChatFormat(
        name=name,
        user=user,
        assistant=header + meta.response_prefix,
        prefix=prefix,
        system=system,
        system_in_last_user=in_question,
        separator=None if meta.chat_sep is None else _text(meta.chat_sep, "chat_sep", name),
        stop=suffix,
        tool=tool,
        default_system=meta.default_system,
        extra_stops=tuple(_stop(word, name) for word in meta.stop_words),
        auto_bos=meta.auto_add_bos,
        tools_prompt=meta.default_tools_prompt,
    )


def _refuse(meta: TemplateMeta) -> None:
    """Fields that mean code, or images."""
    from swift.template.template import Template  # pulls in the tokenizer's library

    if meta.template_cls is not None and meta.template_cls is not Template:
        shown = getattr(meta.template_cls, "__name__", repr(meta.template_cls))
        raise PluginError(
            f"template {meta.template_type}: template_cls {shown} is a class of its own, and a class of ms-swift's does not work here. "
            "A text that the fields cannot say can be written as the checkpoint's chat_template.jinja (--template_backend jinja)"
        )
    if list(meta.placeholder_tokens):
        raise PluginError(f"template {meta.template_type}: placeholder_tokens are for images and sound, which are not built yet")


def _text(prompt: Any, field: str, name: str) -> str:
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        raise PluginError(f"template {name}: {field} must be a list of {EXPECTED}, not {prompt!r}")
    return "".join(_item(item, field, name) for item in prompt)


def _item(item: Any, field: str, name: str) -> str:
    if isinstance(item, str):
        wrong = re.search(r"\{\{(system|query|round0|round1)\}\}", item)
        if wrong:
            raise PluginError(f"template {name}: {field} has {wrong.group()}, which would be written as it stands; use capitals")
        return item
    parts: list[Any] = list(item) if isinstance(item, Sequence) else [None]
    if all(isinstance(part, int) and not isinstance(part, bool) for part in parts):
        return "".join(f"{{{{ID:{part}}}}}" for part in parts)
    if all(isinstance(part, str) for part in parts):
        return "".join(NAMED.get(part) or f"{{{{TOKEN:{part}}}}}" for part in parts)
    raise PluginError(f"template {name}: {field} holds {item!r}; expected {EXPECTED}")


def _system_in_prompt(prompt: str, name: str) -> tuple[str, str]:
    """A system text that stands in the last question: ("[INST] {{QUERY}}[/INST]", "{{SYSTEM}}\\n\\n")."""
    before, _, rest = prompt.partition(SYSTEM)
    between, query, after = rest.partition(QUERY)
    if not query or SYSTEM in rest:
        raise PluginError(f"template {name}: in the prompt {SYSTEM} must stand once, before {QUERY}")
    return f"{before}{QUERY}{after}", f"{SYSTEM}{between}"


def _header_apart(prompt: str, tool: str | None) -> tuple[str, str, str | None]:
    """(question, assistant's header, tool's result): what a question and a tool's result both end with is the header.

    Where there is no tool_prompt the header cannot be told from the end of the question, and stays with it: the text is the same.
    """
    if tool is None:
        return prompt, "", None
    one, other = prompt.partition(QUERY)[2], tool.partition(QUERY)[2]
    if one != other:
        return prompt, "", tool
    return prompt.removesuffix(one) if one else prompt, one, tool.removesuffix(one) if one else tool


def _stop(word: Any, name: str) -> str:
    if not isinstance(word, str):
        raise PluginError(f"template {name}: stop_words holds {word!r}; write the token's text")
    return word

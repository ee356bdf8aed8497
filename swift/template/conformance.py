"""Whether what a run writes is what the checkpoint's own chat template writes, on a small set of conversations."""

from __future__ import annotations

import datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from swift.data.sample import Message, Sample
from swift.errors import ModelError
from swift.template.chat_format import ChatFormat
from swift.template.conversation import Conversation, Piece, conversation
from swift.template.encoded import RowSkipped, Run
from swift.template.jinja import JinjaFormat
from swift.template.special import bind, spoken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from swift.template.template import Template

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
    },
}
_CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}


class Talk(NamedTuple):
    """A conversation to compare on. Nothing in it looks like a turn marker (rulings 2); the last answer is left out for the prompt."""

    name: str
    sample: Sample

    @property
    def said(self) -> str | None:
        """Its system text, None where it has none."""
        first = self.sample.messages[0]
        return first.content if first.role == "system" else None

    def part(self, *, reply: bool) -> Sample:
        messages = self.sample.messages
        return Sample(messages[:-1] if reply and messages[-1].role == "assistant" else messages, tools=self.sample.tools)


def _talk(name: str, *turns: str, system: str | None = None) -> Talk:
    messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)]
    return Talk(name, Sample(([] if system is None else [Message("system", system)]) + messages))


# the first tells most formats apart, so that a wrong one costs little
TALKS = (
    _talk("several rounds with a system message", "Who are you?", "A pirate.", "And now?", "Still one.", system="You are a pirate."),
    _talk("one round", "Hello!", "Hi, how can I help?"),
    _talk("unicode and white space", "你好，世界", "Grüße — 🙂", " two  blanks ", "\n\n- a list\n- of two\n"),
    _talk("white space around everything", "x", " y ", system="  Blanks around. \n"),
    _talk("thinking", "2+2?", "<think>\nEasy.\n</think>\n\n4", "3+3?", "<think>\nEasy too.\n</think>\n\n6"),
    _talk("thinking in the past", "2+2?", "<think>\nEasy.\n</think>\n\n4", "3+3?", "6", "4+4?", "8"),
    _talk("thinking at the end", "2+2?", "4", "3+3?", "<think>\nThree and three.\n</think>\n\n6"),
)
WITH_TOOLS = (
    Talk("a list of tools", Sample.of(("user", "1+2?"), ("assistant", "3"), tools=[ADD])),
    Talk("tools and a system message", Sample.of(("system", "Use tools."), ("user", "1+2?"), ("assistant", "3"), tools=[ADD])),
    Talk(
        "a tool call and its result",
        Sample(
            [Message("user", "1+2?"), Message("assistant", "", tool_calls=[_CALL]), Message("tool", "3"), Message("assistant", "It is 3.")],
            tools=[ADD],
        ),
    ),
)


class Difference(NamedTuple):
    """Where two ways of writing part: the conversation's name, and either both texts or a sentence that says why there is none to compare."""

    talk: str
    ours: str = ""
    theirs: str = ""
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return self.why
        at = next(
            (i for i, (a, b) in enumerate(zip(self.ours, self.theirs, strict=False)) if a != b), min(len(self.ours), len(self.theirs))
        )
        around = slice(max(at - 40, 0), at + 40)
        return (
            f"In the conversation '{self.talk}' they part at character {at}: it writes {self.ours[around]!r}, "
            f"the checkpoint's chat template {self.theirs[around]!r}."
        )


class Yardstick:
    """The checkpoint's own chat template, to hold formats against. `system` is the run's --system: conversations without one get it."""

    def __init__(self, own: JinjaFormat, tokenizer: PreTrainedTokenizerBase, date: datetime.date, system: str | None):
        self.own, self.tokenizer, self.date, self.system = own, tokenizer, date, system
        self._expected = cache(self._write)

    def format_differs(self, chat_format: ChatFormat) -> Difference | None:
        """The first conversation without tools that becomes other tokens; None where all are the same.

        Conversations that the chat template refuses (a system message for Gemma) do not count: the format's own text holds there.
        """
        if chat_format.separator is None:
            return Difference("", why="It holds one round only.")
        try:
            bound = bind(chat_format, self.tokenizer, spoken(self.date))
        except ModelError as error:
            return Difference("", why=str(error))
        for index, talk in enumerate(TALKS):
            for reply in (True, False):
                said = talk.said if talk.said is not None else self.system or None
                if not reply and said and bound.system_in_last_user is not None:
                    continue  # such templates leave the system text out where an answer follows
                theirs = self._expected(index, reply)
                if theirs is None:
                    continue
                # an empty --system asks for none: compared where the chat template has none of its own either
                none = said is None and self.system == "" and self.own.default_system is None
                messages = self._conversation(talk, reply=reply)
                try:
                    ours = _text(bound.render(messages._replace(system="") if none else messages, reply=reply))
                except RowSkipped as skipped:
                    return Difference(talk.name, why=f"It cannot write every conversation: {skipped}.")
                if self._apart(ours, theirs):
                    return Difference(talk.name, ours, theirs)
        try:
            self.own.specials.check(bound)  # last, since it asks the tokenizer
        except ModelError as error:
            return Difference("", why=str(error))
        return None

    def template_differs(self, template: Template) -> Difference | None:
        """As `format_differs` of all that a run writes, tools and --system included."""
        if self.system and not self.own.takes_system:
            return Difference(
                "", why="The checkpoint's chat template refuses every system message, so that of --system is written elsewhere."
            )
        if self.system and self.own.drops_system:
            return Difference("", why="The checkpoint's chat template leaves system messages out, so --system has no effect in it.")
        in_last_user = getattr(template.format, "system_in_last_user", None) is not None
        for index, talk in enumerate((*TALKS, *WITH_TOOLS)):
            for reply in (True, False):
                if in_last_user and not reply and (self.system or talk.said):
                    continue
                theirs = self._expected(index, reply)
                if theirs is None:
                    continue
                try:
                    ours = _text(template.render(talk.part(reply=reply), reply=reply))
                except RowSkipped as skipped:
                    return Difference(talk.name, why=f"It cannot write the conversation '{talk.name}': {skipped}.")
                if self._apart(ours, theirs):
                    return Difference(talk.name, ours, theirs)
        return None

    def _conversation(self, talk: Talk, *, reply: bool) -> Conversation:
        sample = talk.part(reply=reply)
        return conversation(sample.messages, system=self.system or None, tools=sample.tools)

    def _write(self, index: int, reply: bool) -> str | None:
        """The chat template's text of a conversation; None where it refuses it."""
        messages = self._conversation((*TALKS, *WITH_TOOLS)[index], reply=reply)
        if self.system == "" and messages.system is None and self.own.default_system:
            messages = messages._replace(system="")
        try:
            return _text(self.own.render(messages, reply=reply))
        except RowSkipped:
            return None

    def _apart(self, ours: str, theirs: str) -> bool:
        return ours != theirs and self.own.specials.ids(ours) != self.own.specials.ids(theirs)


def _text(pieces: list[Piece] | list[Run]) -> str:
    return "".join(piece.text for piece in pieces)

"""How a conversation is written, as data. Rendering gives pieces of text; tokens and loss weights are template.py's business."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from swift.logs import warn_once
from swift.template.conversation import Conversation, Piece, Turn, keep, stripped
from swift.template.encoded import RowSkipped

SYSTEM, QUERY, BOS, EOS, DATE = "{{SYSTEM}}", "{{QUERY}}", "{{BOS}}", "{{EOS}}", "{{DATE}}"


@dataclass(frozen=True)
class ChatFormat:
    """The words around the messages. `{{BOS}}`, `{{EOS}}` (the tokenizer's) and `{{DATE}}` may stand in any text.

    `bind` puts the tokenizer's own tokens in; `render` wants a bound format.
    """

    name: str
    user: str  # one question, with {{QUERY}}
    assistant: str = ""  # what the prompt ends with: the assistant's header
    prefix: str = ""  # first, where there is no system text
    system: str | None = None  # first, where there is one, with {{SYSTEM}}; replaces `prefix`. None: no place for it
    system_in_last_user: str | None = None  # written before the last question instead, with {{SYSTEM}}
    separator: str | None = None  # between an answer and the next turn; None: only the last round is written
    stop: str = EOS  # what ends an answer
    answer: str = ""  # written, and learned, before each answer (a blank)
    tool: str | None = None  # as `user`, for a tool's result; None: `user`
    default_system: str | None = None
    extra_stops: tuple[str, ...] = ()  # tokens that end an answer besides `stop` and the tokenizer's EOS
    auto_bos: bool = False  # what the tokenizer puts before a text comes first, what it puts behind replaces `stop`
    strip: frozenset[str] = frozenset()  # roles whose text loses the white space at its ends
    thinking: bool = False  # Qwen3: earlier thoughts are dropped, the last answer has a thinking block
    alternates: bool = False  # questions and answers must take turns
    literal: bool = True  # message text cannot spell special tokens; False for plain text (`swift pt`)

    def bind(self, *, bos: str, eos: str, date: str | None, before: str = "", after: str = "") -> ChatFormat:
        """With the tokenizer's tokens in place. `before` and `after` are what it adds around a text; a None date stays a placeholder."""

        def put(text: str | None) -> str | None:
            if text is None:
                return None
            text = text.replace(BOS, bos).replace(EOS, eos)
            return text if date is None else text.replace(DATE, date)

        bound = {field: put(getattr(self, field)) for field in TEXTS}
        if self.auto_bos:
            for field in ("prefix", "system"):
                text = bound[field]
                if text is not None and not (before and text.startswith(before)):
                    bound[field] = before + text
            if after:
                bound["stop"] = after
        return replace(self, **bound)  # type: ignore[arg-type]

    @property
    def texts(self) -> Iterator[str]:
        """Every text that the format writes, placeholders apart."""
        for field in TEXTS:
            yield from re.split(r"\{\{[A-Z]+\}\}", getattr(self, field) or "")

    def render(self, talk: Conversation, *, reply: bool) -> list[Piece]:
        """The pieces of the whole text. With `reply` the assistant's turn is left open at the end."""
        system = (self.default_system or "") if talk.system is None else talk.system
        system = system.strip() if "system" in self.strip else system
        turns = talk.turns
        if any(turn.tool_calls for turn in turns):
            raise RowSkipped("tool calls need a chat template that can write them", f"format {self.name}")
        if self.separator is None and sum(turn.role == "assistant" for turn in turns[:-1]):
            warn_once(f"format {self.name} holds one round: of each conversation only the last round is used")
            turns = _last_round(turns)
        if self.alternates and any(a.role != "assistant" and b.role != "assistant" for a, b in pairwise(turns)):
            raise RowSkipped("questions and answers do not take turns", f"format {self.name}")
        if system and self.system is None and self.system_in_last_user is None:
            raise RowSkipped("the format has no place for a system message", f"format {self.name}")

        pieces = self._fill(self.system, SYSTEM, system) if system and self.system is not None else [Piece(self.prefix)]
        last_user = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=-1)
        last_query = _last_query(turns) if self.thinking else -1
        for i, turn in enumerate(turns):
            if turn.role == "assistant":
                pieces.append(Piece(self.assistant))
                pieces += self._answer(turn, last=i == len(turns) - 1, recent=i > last_query)
                pieces += self._after(turn, last=i == len(turns) - 1)
                continue
            if i == last_user and system and self.system_in_last_user is not None and self.system is None:
                before, after = self.user.split(QUERY)
                pieces.append(Piece(before))
                pieces += self._fill(self.system_in_last_user, SYSTEM, system)
                pieces += self._fill(QUERY + after, QUERY, self._text(turn), turn.parts[0][0])
            else:
                form = self.tool if turn.role == "tool" and self.tool is not None else self.user
                pieces += self._fill(form, QUERY, self._text(turn), turn.parts[0][0])
        if reply and turns[-1].role != "assistant":
            pieces.append(Piece(self.assistant))
        return [piece for piece in pieces if piece.text]

    def _text(self, turn: Turn) -> str:
        return turn.text.strip() if turn.role in self.strip else turn.text

    def _fill(self, form: str, placeholder: str, text: str, message: int | None = None) -> list[Piece]:
        before, after = form.split(placeholder)
        return [Piece(before), Piece(text, message, literal=self.literal), Piece(after)]

    def _answer(self, turn: Turn, *, last: bool, recent: bool) -> list[Piece]:
        parts = stripped(turn.parts) if "assistant" in self.strip else turn.parts
        pieces: list[Piece] = [Piece(self.answer, message=parts[0][0])]
        if self.thinking:
            thoughts, words = split_thoughts(turn.text)
            parts = keep(turn.parts, words)
            if recent and (last or thoughts):
                block = f"<think>\n{thoughts}\n</think>\n\n"
                # an empty block is the template's doing, thoughts are the answer's own
                pieces.append(Piece(block, message=turn.parts[0][0] if thoughts else None, literal=bool(thoughts)))
                parts = keep(parts, words.lstrip("\n"))
        return pieces + [Piece(text, message=index, literal=self.literal) for index, text in parts]

    def _after(self, turn: Turn, *, last: bool) -> list[Piece]:
        message = turn.parts[-1][0]
        if last:
            return [Piece(self.stop, message=message)]
        separator = self.separator or ""
        if separator.startswith(self.stop):
            return [Piece(self.stop, message=message), Piece(separator[len(self.stop) :])]
        return [Piece(separator, message=message, label=self.stop)]

    def to_jinja(self, default_system: str | None) -> str:
        """A Jinja chat template that writes the same text; `default_system` stands where a conversation brings none."""

        def say(text: str) -> str:
            """A Jinja expression for a text with {{DATE}} in it or not."""
            return ' + strftime_now("%d %b %Y") + '.join(_quoted(part) for part in text.split(DATE))

        def filled(form: str, placeholder: str, expression: str) -> str:
            before, after = form.split(placeholder)
            return f"{say(before)} + {expression} + {say(after)}"

        def trimmed(role: str, expression: str) -> str:
            return f"({expression} | trim)" if role in self.strip else expression

        lines = [
            "{%- if messages and messages[0]['role'] == 'system' %}",
            f"{{%- set system = {trimmed('system', 'messages[0].content')} %}}{{%- set turns = messages[1:] %}}",
            "{%- else %}",
            f"{{%- set system = {_quoted(default_system or '')} %}}{{%- set turns = messages %}}",
            "{%- endif %}",
            "{%- set ns = namespace(last_user=-1) %}",
            "{%- for message in turns %}{%- if message['role'] == 'user' %}{%- set ns.last_user = loop.index0 %}{%- endif %}{%- endfor %}",
        ]
        if self.system is not None:
            with_system, without = filled(self.system, SYSTEM, "system"), say(self.prefix)
            lines.append(f"{{%- if system %}}{{{{- {with_system} }}}}{{%- else %}}{{{{- {without} }}}}{{%- endif %}}")
        else:
            lines.append(f"{{{{- {say(self.prefix)} }}}}")
        if self.system is None and self.system_in_last_user is None:
            lines.append("{%- if system %}{{- raise_exception('this format has no place for a system message') }}{%- endif %}")
        lines.append("{%- for message in turns %}")
        lines.append("{%- if message['role'] == 'assistant' %}")
        if self.thinking:
            lines += _THINKING_ANSWER
            lines.append(f"{{{{- {say(self.assistant)} + thoughts + content }}}}")
        else:
            lines.append(f"{{{{- {say(self.assistant + self.answer)} + {trimmed('assistant', 'message.content')} }}}}")
        lines.append(f"{{%- if loop.last %}}{{{{- {say(self.stop)} }}}}{{%- else %}}{{{{- {say(self.separator or '')} }}}}{{%- endif %}}")
        if self.tool is not None:
            lines.append("{%- elif message['role'] == 'tool' %}")
            lines.append(f"{{{{- {filled(self.tool, QUERY, trimmed('tool', 'message.content'))} }}}}")
        lines.append("{%- else %}")
        if self.system is None and self.system_in_last_user is not None:
            before, after = self.user.split(QUERY)
            lines.append(f"{{{{- {say(before)} }}}}")
            in_user = filled(self.system_in_last_user, SYSTEM, "system")
            lines.append(f"{{%- if system and loop.index0 == ns.last_user %}}{{{{- {in_user} }}}}{{%- endif %}}")
            lines.append(f"{{{{- {trimmed('user', 'message.content')} + {say(after)} }}}}")
        else:
            lines.append(f"{{{{- {filled(self.user, QUERY, trimmed('user', 'message.content'))} }}}}")
        lines += ["{%- endif %}", "{%- endfor %}", f"{{%- if add_generation_prompt %}}{{{{- {say(self.assistant)} }}}}{{%- endif %}}"]
        return "\n".join(lines)


TEXTS = ("prefix", "system", "system_in_last_user", "user", "assistant", "separator", "stop", "answer", "tool")

_THINKING_ANSWER = [
    "{%- set content = message['content'].split('</think>')[-1] %}",
    "{%- set thought = '' %}",
    "{%- if '</think>' in message['content'] %}",
    "{%- set content = content.lstrip('\\n') %}",
    "{%- set thought = message['content'].split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') %}",
    "{%- endif %}",
    "{%- set thoughts = '' %}",
    "{%- if loop.index0 > ns.last_user and (loop.last or thought) %}",
    "{%- set content = content.lstrip('\\n') %}{%- set thoughts = '<think>\\n' + thought + '\\n</think>\\n\\n' %}",
    "{%- endif %}",
]


def split_thoughts(text: str) -> tuple[str, str]:
    """(thoughts, answer) of an answer in Qwen3's manner: what stands before the last `</think>` is thought."""
    if "</think>" not in text:
        return "", text
    thoughts = text.split("</think>")[0].rstrip("\n").split("<think>")[-1].strip("\n")
    return thoughts, text.split("</think>")[-1].lstrip("\n")


def _last_query(turns: list[Turn]) -> int:
    """Index of the last real question; a tool's response written as a user's message is none."""
    for i in range(len(turns) - 1, -1, -1):
        text = turns[i].text
        if turns[i].role == "user" and not (text.startswith("<tool_response>") and text.endswith("</tool_response>")):
            return i
    return len(turns) - 1


def _last_round(turns: list[Turn]) -> list[Turn]:
    """From the last question on."""
    answered = turns[:-1] if turns[-1].role == "assistant" else turns
    start = max((i for i, turn in enumerate(answered) if turn.role == "user"), default=0)
    return turns[start:]


def _quoted(text: str) -> str:
    """As a Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)

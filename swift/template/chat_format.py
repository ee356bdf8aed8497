"""How a conversation is written, as data. Rendering gives pieces of text; tokens and loss weights are template.py's business."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from swift.logs import warn_once
from swift.template.conversation import Conversation, Piece, Turn, keep, stripped
from swift.template.encoded import RowSkipped

SYSTEM, QUERY, BOS, EOS, DATE = "{{SYSTEM}}", "{{QUERY}}", "{{BOS}}", "{{EOS}}", "{{DATE}}"
ROUND0, ROUND1 = "{{ROUND0}}", "{{ROUND1}}"  # the number of a question, from 0 and from 1
_NAMED = re.compile(r"\{\{(?:ID|TOKEN):[^{}]+\}\}")


@dataclass(frozen=True)
class ChatFormat:
    """The words around the messages. `{{BOS}}`, `{{EOS}}` (the tokenizer's) and `{{DATE}}` may stand in any text.

    So may `{{ID:195}}`, the token of that number, and `{{TOKEN:user_token_id|<_user>}}`, the token that the tokenizer's attribute names (what
    stands behind the bar where it has no such attribute). `user` and `tool` may hold `{{ROUND0}}` or `{{ROUND1}}`: how many answers came
    before, counted from 0 or 1. `bind` puts the tokenizer's own tokens in; `render` wants a bound format.
    """

    name: str
    user: str  # one question, with {{QUERY}}
    assistant: str = ""  # what the prompt ends with: the assistant's header
    prefix: str = ""  # first, where there is no system text
    system: str | None = None  # first, where there is one, with {{SYSTEM}}; replaces `prefix`. None: no place for it
    system_in_last_user: str | None = None  # written before the last question instead, with {{SYSTEM}}
    system_in_first_user: str | None = None  # or before the first (Gemma 3)
    separator: str | None = None  # between an answer and the next turn; None: only the last round is written
    stop: str = EOS  # what ends an answer
    answer: str = ""  # written, and learned, before each answer (a blank)
    tool: str | None = None  # as `user`, for a tool's result; None: `user`
    tool_stop: str | None = None  # what ends an answer that a tool's result follows, where it is not `stop` (GLM-4)
    default_system: str | None = None
    extra_stops: tuple[str, ...] = ()  # tokens that end an answer besides `stop` and the tokenizer's EOS
    auto_bos: bool = False  # what the tokenizer puts before a text comes first, what it puts behind replaces `stop`
    strip: frozenset[str] = frozenset()  # roles whose text loses the white space at its ends
    thinking: bool = False  # Qwen3: earlier thoughts are dropped, the last answer has a thinking block
    forgets: bool = False  # DeepSeek-R1: in a prompt, the answers so far lose everything up to </think>
    mark: str | None = None  # a token that people may write into answers, and that ends the last one (the steps of Qwen's PRM)
    plain: frozenset[str] = frozenset()  # looks like a special token, but is text to this family's tokenizers (zephyr's <|user|>)
    tools_prompt: str | None = None  # the layout of a list of tools (tools.py) where --tools_prompt names none
    alternates: bool = False  # questions and answers must take turns
    literal: bool = True  # message text cannot spell special tokens; False for plain text (`swift pt`)

    def bind(
        self, *, bos: str, eos: str, date: str | None, before: str = "", after: str = "", tokens: Mapping[str, str] | None = None
    ) -> ChatFormat:
        """With the tokenizer's tokens in place. `before` and `after` are what it adds around a text; a None date stays a placeholder.

        `tokens` has a text for each of `named_tokens`.
        """

        def put(text: str | None) -> str | None:
            if text is None:
                return None
            text = text.replace(BOS, bos).replace(EOS, eos)
            for placeholder, token in (tokens or {}).items():
                text = text.replace(placeholder, token)
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
    def dated(self) -> bool:
        return any(DATE in (getattr(self, field) or "") for field in TEXTS)

    @property
    def texts(self) -> Iterator[str]:
        """Every text that the format writes, placeholders apart."""
        for field in TEXTS:
            yield from re.split(r"\{\{[A-Z]+[01]?(?::[^{}]*)?\}\}", getattr(self, field) or "")

    @property
    def named_tokens(self) -> list[str]:
        """The placeholders `{{ID:…}}` and `{{TOKEN:…}}` in it, each once."""
        return list(dict.fromkeys(found for field in TEXTS for found in _NAMED.findall(getattr(self, field) or "")))

    @property
    def takes_system(self) -> bool:
        return self.system is not None or self._in_question is not None

    @property
    def _in_question(self) -> str | None:
        """How a system text is written into a question, where it has no place of its own."""
        if self.system is not None:
            return None
        return self.system_in_last_user if self.system_in_first_user is None else self.system_in_first_user

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
        if system and not self.takes_system:
            raise RowSkipped("the format has no place for a system message", f"format {self.name}")

        pieces = self._fill(self.system, SYSTEM, system) if system and self.system is not None else [Piece(self.prefix)]
        users = [i for i, turn in enumerate(turns) if turn.role == "user"]
        spot = (users[0] if self.system_in_first_user is not None else users[-1]) if users else -1
        last_query = _last_query(turns) if self.thinking else -1
        answers = 0
        for i, turn in enumerate(turns):
            if turn.role == "assistant":
                following = turns[i + 1].role if i + 1 < len(turns) else None
                forgotten = self.forgets and reply and following is not None
                pieces.append(Piece(self.assistant))
                pieces += self._answer(turn, last=following is None, recent=i > last_query, forgotten=forgotten)
                pieces += self._after(turn, following)
                answers += 1
                continue
            form = self.tool if turn.role == "tool" and self.tool is not None else self.user
            form = form.replace(ROUND0, str(answers)).replace(ROUND1, str(answers + 1))
            if i == spot and system and self._in_question is not None:
                before, after = form.split(QUERY)
                pieces.append(Piece(before))
                pieces += self._fill(self._in_question, SYSTEM, system)
                pieces += self._fill(QUERY + after, QUERY, self._text(turn), turn.parts[0][0])
            else:
                pieces += self._fill(form, QUERY, self._text(turn), turn.parts[0][0])
        if reply and turns[-1].role != "assistant":
            pieces.append(Piece(self.assistant))
        return [piece for piece in pieces if piece.text or piece.label]

    def _text(self, turn: Turn) -> str:
        return turn.text.strip() if turn.role in self.strip else turn.text

    def _fill(self, form: str, placeholder: str, text: str, message: int | None = None) -> list[Piece]:
        before, after = _around(form, placeholder)
        return [before, Piece(text, message, self.literal), after]

    def _answer(self, turn: Turn, *, last: bool, recent: bool, forgotten: bool) -> list[Piece]:
        parts = stripped(turn.parts) if "assistant" in self.strip else turn.parts
        if forgotten:
            parts = keep(parts, "".join(text for _, text in parts).split("</think>")[-1])
        pieces: list[Piece] = [Piece(self.answer, message=parts[0][0])]
        if self.thinking:
            thoughts, words = split_thoughts(turn.text)
            parts = keep(turn.parts, words)
            if recent and (last or thoughts):
                block = f"<think>\n{thoughts}\n</think>\n\n"
                # an empty block is the template's doing, thoughts are the answer's own
                pieces.append(Piece(block, message=turn.parts[0][0] if thoughts else None, literal=bool(thoughts)))
                parts = keep(parts, words.lstrip("\n"))
        if self.mark is None:
            return pieces + [Piece(text, message=index, literal=self.literal) for index, text in parts]
        for index, text in parts:
            for i, step in enumerate(text.split(self.mark)):
                pieces += [Piece(self.mark, message=index)] if i else []
                pieces.append(Piece(step, message=index, literal=self.literal))
        if last and not any(self.mark in text for _, text in parts):
            pieces.append(Piece(self.mark, message=parts[-1][0]))
        return pieces

    def _after(self, turn: Turn, following: str | None) -> list[Piece]:
        """The stop of an answer, and what parts it from the next turn, whose role is `following`."""
        message = turn.parts[-1][0]
        if following is None:
            return [Piece(self.stop, message=message)]
        stop = self.tool_stop if following == "tool" and self.tool_stop is not None else self.stop
        separator = self.separator or ""
        if separator.startswith(stop):
            return [Piece(stop, message=message), Piece(separator[len(stop) :])]
        return [Piece(separator, message=message, label=stop)]

    def to_jinja(self, default_system: str | None) -> str:
        """A Jinja chat template that writes the same text; `default_system` stands where a conversation brings none."""

        def say(text: str) -> str:
            """A Jinja expression for a text with {{DATE}} or a round's number in it or not."""
            parts = re.split(f"({'|'.join(map(re.escape, _EXPRESSIONS))})", text)
            return " + ".join(_EXPRESSIONS.get(part) or _quoted(part) for part in parts)

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
            "{%- set ns = namespace(first_user=-1, last_user=-1, answers=0) %}",
            "{%- for message in turns %}{%- if message['role'] == 'user' %}{%- set ns.last_user = loop.index0 %}"
            "{%- if ns.first_user < 0 %}{%- set ns.first_user = loop.index0 %}{%- endif %}{%- endif %}{%- endfor %}",
        ]
        if self.separator is None:
            lines += _LAST_ROUND
        if self.system is not None:
            with_system, without = filled(self.system, SYSTEM, "system"), say(self.prefix)
            lines.append(f"{{%- if system %}}{{{{- {with_system} }}}}{{%- else %}}{{{{- {without} }}}}{{%- endif %}}")
        else:
            lines.append(f"{{{{- {say(self.prefix)} }}}}")
        if not self.takes_system:
            lines.append("{%- if system %}{{- raise_exception('this format has no place for a system message') }}{%- endif %}")
        lines.append("{%- for message in turns %}")
        lines.append("{%- if message['role'] == 'assistant' %}")
        if self.thinking:
            lines += _THINKING_ANSWER
            lines.append(f"{{{{- {say(self.assistant)} + thoughts + content }}}}")
        else:
            lines.append(f"{{%- set content = {trimmed('assistant', 'message.content')} %}}")
            lines += self._changes()
            lines.append(f"{{{{- {say(self.assistant + self.answer)} + content }}}}")
        lines.append("{%- set ns.answers = ns.answers + 1 %}")
        lines.append(f"{{%- if loop.last %}}{{{{- {say(self.stop)} }}}}{{%- else %}}{{{{- {say(self.separator or '')} }}}}{{%- endif %}}")
        if self.tool is not None:
            lines.append("{%- elif message['role'] == 'tool' %}")
            lines.append(f"{{{{- {filled(self.tool, QUERY, trimmed('tool', 'message.content'))} }}}}")
        lines.append("{%- else %}")
        if self._in_question is not None:
            before, after = self.user.split(QUERY)
            lines.append(f"{{{{- {say(before)} }}}}")
            in_user, spot = filled(self._in_question, SYSTEM, "system"), "last" if self.system_in_first_user is None else "first"
            lines.append(f"{{%- if system and loop.index0 == ns.{spot}_user %}}{{{{- {in_user} }}}}{{%- endif %}}")
            lines.append(f"{{{{- {trimmed('user', 'message.content')} + {say(after)} }}}}")
        else:
            lines.append(f"{{{{- {filled(self.user, QUERY, trimmed('user', 'message.content'))} }}}}")
        lines += ["{%- endif %}", "{%- endfor %}", f"{{%- if add_generation_prompt %}}{{{{- {say(self.assistant)} }}}}{{%- endif %}}"]
        return "\n".join(lines)

    def _changes(self) -> list[str]:
        """Jinja lines for what is done to an answer's `content`."""
        lines = []
        if self.forgets:
            lines.append("{%- if add_generation_prompt and not loop.last %}{%- set content = content.split('</think>')[-1] %}{%- endif %}")
        if self.mark is not None:
            mark = _quoted(self.mark)
            lines.append(f"{{%- if loop.last and {mark} not in content %}}{{%- set content = content + {mark} %}}{{%- endif %}}")
        return lines


TEXTS = (
    "prefix",
    "system",
    "system_in_last_user",
    "system_in_first_user",
    "user",
    "assistant",
    "separator",
    "stop",
    "answer",
    "tool",
    "tool_stop",
    "mark",
)

_EXPRESSIONS = {DATE: 'strftime_now("%d %b %Y")', ROUND0: "(ns.answers | string)", ROUND1: "((ns.answers + 1) | string)"}

_LAST_ROUND = [  # formats of one round write the last question and what follows it
    "{%- set ns.answered = false %}",
    "{%- for message in turns %}"
    "{%- if message['role'] == 'assistant' and not loop.last %}{%- set ns.answered = true %}{%- endif %}{%- endfor %}",
    "{%- if ns.answered and ns.last_user > 0 %}{%- set turns = turns[ns.last_user:] %}{%- set ns.first_user = 0 %}{%- set ns.last_user = 0 %}{%- endif %}",
]

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


@lru_cache(maxsize=1024)
def _around(form: str, placeholder: str) -> tuple[Piece, Piece]:
    """What a form writes before and behind its placeholder."""
    before, after = form.split(placeholder)
    return Piece(before), Piece(after)


def _last_round(turns: list[Turn]) -> list[Turn]:
    """From the last question on."""
    answered = turns[:-1] if turns[-1].role == "assistant" else turns
    start = max((i for i, turn in enumerate(answered) if turn.role == "user"), default=0)
    return turns[start:]


def _quoted(text: str) -> str:
    """As a Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)

"""The checkpoint's own Jinja chat template as a format: rendered with placeholders to learn whose text is whose, then with the real words.

What it gives is what `apply_chat_template` writes, by construction, or RowSkipped with the reason.
"""

from __future__ import annotations

import datetime
import json
import re
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from swift.errors import ModelError
from swift.logs import warn_once
from swift.template.conversation import Conversation, Piece, Turn, keep
from swift.template.encoded import RowSkipped
from swift.template.marks import find_marks, has_marks, learn_marked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from swift.template.special import Specials

_PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")  # private-use characters: no template and no text has them
_SPELLED = re.compile("\ue002(\\d+)\ue003")  # stands for a special token that tools or a tool call spell


class Stretch(NamedTuple):
    """A part of one message that a placeholder stands for."""

    message: int  # index into the rendered messages
    text: str
    thought: bool  # of an answer, before </think>: a template may leave it out


class Span(NamedTuple):
    """Where a stretch lies in the rendered text."""

    message: int
    start: int
    end: int


class JinjaFormat:
    """Raises ModelError at construction where the template cannot write a question and an answer, or hides whose text is whose."""

    name = "the checkpoint's chat template"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, specials: Specials, date: datetime.date, *, marks: bool = False):
        """`marks`: where the template marks with {% generation %} what is the assistant's, that is what is learned."""
        self.tokenizer, self.specials, self.date = tokenizer, specials, date
        self.marks = False  # until the stop is known: a template may mark more than that
        text = json.dumps(tokenizer.chat_template, ensure_ascii=False)
        # words that a template may look for in a message: never hidden behind a placeholder
        tags = set(re.findall(r"</?\w+>", text)) - set(specials.names) | (set(re.findall(r"</?think>", text)))
        self._tags = re.compile("(" + "|".join(map(re.escape, sorted(tags, key=len, reverse=True))) + ")") if tags else None
        self.stop = str(tokenizer.eos_token or "")
        self.default_system: str | None = None
        self.takes_system = True
        self.drops_system = False  # the template writes nothing of a system message, and says nothing
        self.headers: list[str] = []
        self.after_question = ""
        self._as_parts, self._no_tools = False, None
        pieces = self._first_words()
        self.stop = pieces[-1].text if pieces[-1].message == 1 and not pieces[-1].literal else self.stop
        self.default_system = self._default_system()
        self.marks = marks

    def _first_words(self) -> list[Piece]:
        """A question and its answer, in the first way that the template takes: content as a text or, as some templates for images want it,
        a list of parts; and where there are no tools None or, for the half of a template that is for tools, an empty list."""
        ways: list[tuple[bool, list[Any] | None]] = [(False, None), (True, None), (False, []), (True, [])]
        refused: RowSkipped | None = None
        for self._as_parts, self._no_tools in ways:
            try:
                self._headers()
                return self.render(Conversation(None, [Turn("user", [(0, "a")]), Turn("assistant", [(1, "b")])]), reply=False)
            except RowSkipped as skipped:
                refused = refused or skipped
        raise ModelError(f"the checkpoint's chat template cannot be used: {refused}")

    def _headers(self) -> None:
        """Learn what a prompt ends with, and what stands before an answer of the past where that differs: a prompt may open a thought."""
        question, answer = ({"role": role, "content": f"\ue000{i}\ue001"} for i, role in enumerate(("user", "assistant")))
        open_, closed = self._write([question], None, True), self._write([question], None, False)
        headers = [open_.removeprefix(closed)] if open_.startswith(closed) else []
        self.after_question = closed.partition(question["content"])[2]
        with suppress(RowSkipped):
            past = self._write([question, answer, question], None, False)
            between = past.partition(question["content"])[2].partition(answer["content"])[0]
            headers.append(between.removeprefix(self.after_question) if between.startswith(self.after_question) else "")
        self.headers = [header for header in dict.fromkeys(headers) if header.strip()]

    def render(self, talk: Conversation, *, reply: bool) -> list[Piece]:
        """The pieces of what the template writes; without `reply`, up to the end of the last answer's stop."""
        spelled: list[str] = []
        tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in talk.tools or []]
        talk = self._hidden(talk._replace(tools=tools or None), spelled)
        pieces = self._render(talk, reply=reply)
        return [part for piece in pieces for part in _shown(piece, spelled)] if spelled else pieces

    def _render(self, talk: Conversation, *, reply: bool) -> list[Piece]:
        messages, turns, sources = self._messages(talk)
        answered = turns[-1] is not None and turns[-1].role == "assistant"
        text, spans = self._aligned(messages, talk.tools, reply and not answered)
        if self._leaves_out_calls(text, messages, talk.tools, reply and not answered):
            raise RowSkipped("the chat template leaves out a tool call")
        lost = {i for i, message in enumerate(messages) if message["content"].strip()} - {span.message for span in spans}
        lost -= {i for i in lost if messages[i].get("tool_calls") or (messages[i]["role"] == "system" and self.drops_system)}
        if lost and not (answered and lost == {0} and messages[0]["role"] == "system"):
            raise RowSkipped(f"the chat template leaves out a message of role {messages[min(lost)]['role']}")
        if lost:
            return self._with_prompt(talk)
        pieces = self._cut(text, spans, messages, turns, sources, talk.tools)
        return self._marked(pieces, text, messages, turns, talk.tools, reply and not answered) if self.marks else pieces

    def _leaves_out_calls(self, text: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, reply: bool) -> bool:
        silent = [{key: value for key, value in message.items() if key != "tool_calls"} for message in messages]
        with suppress(RowSkipped):  # Mistral's refuses them without
            return silent != messages and text == self._write(silent, tools, reply)
        return False

    def _marked(
        self,
        pieces: list[Piece],
        text: str,
        messages: list[dict[str, Any]],
        turns: list[Turn | None],
        tools: list[dict[str, Any]] | None,
        reply: bool,
    ) -> list[Piece]:
        """With the template's marks where it has any and writes the same text with them."""
        template = self.tokenizer.get_chat_template(None, tools)  # pyright: ignore[reportArgumentType]
        if not has_marks(template):
            return pieces
        variables = {**self.tokenizer.special_tokens_map, "tools": tools or self._no_tools, "add_generation_prompt": reply}
        for as_parts in (self._as_parts, True):
            for as_json in (False, True):
                spelled = [_spelled(message, as_parts, as_json) for message in messages]
                with suppress(Exception):  # a template raises what it likes
                    written, marks = find_marks(_dated(template, self.date), spelled, **variables)
                    if written == text:
                        answers = {index for turn in turns if turn and turn.role == "assistant" for index, _ in turn.parts}
                        return learn_marked(pieces, text, marks, answers)
        return pieces

    def _hidden(self, talk: Conversation, spelled: list[str]) -> Conversation:
        """The conversation with every special token in tools and tool calls put aside: a person wrote it there, so it is text (rulings 2)."""

        def put_aside(found: re.Match[str]) -> str:
            spelled.append(found.group())
            return f"\ue002{len(spelled) - 1}\ue003"

        def hidden(value: Any) -> Any:
            if isinstance(value, str):
                return self.specials.pattern.sub(put_aside, value)
            if isinstance(value, dict):
                return {hidden(key): hidden(item) for key, item in value.items()}
            return [hidden(item) for item in value] if isinstance(value, list | tuple) else value

        turns = [replace(turn, tool_calls=[hidden(call) for call in turn.tool_calls]) if turn.tool_calls else turn for turn in talk.turns]
        return talk._replace(turns=turns, tools=hidden(talk.tools))

    # messages as the template wants them

    def _messages(self, talk: Conversation) -> tuple[list[dict[str, Any]], list[Turn | None], list[int | None]]:
        """Rendered messages; beside each its turn (None: the system text) and the index of the sample's message that it ends with."""
        messages: list[dict[str, Any]] = []
        turns: list[Turn | None] = []
        system = talk.system
        if system is not None and (system or self.takes_system):
            messages.append({"role": "system", "content": system})
            turns.append(None)
        open_calls: list[dict[str, Any]] = []
        for turn in talk.turns:
            message: dict[str, Any] = {"role": turn.role, "content": turn.text}
            if turn.tool_calls:
                calls = [_call(call, i) for i, call in enumerate(turn.tool_calls)]
                message["tool_calls"] = calls
                open_calls = list(calls)
            elif turn.role == "tool" and open_calls:
                call = open_calls.pop(0)
                message |= {"tool_call_id": call["id"], "name": call["function"].get("name")}
            messages.append(message)
            turns.append(turn)
        return messages, turns, [turn.parts[-1][0] if turn else None for turn in turns]

    def _write(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, reply: bool) -> str:
        """What the template writes. Some want a call's arguments as a JSON text, and the content beside it as a list of parts."""
        given = [call["function"].get("arguments") for message in messages for call in message.get("tool_calls") or []]
        if not given:
            return self._apply(messages, tools, reply, self._as_parts, False)
        refused: RowSkipped | None = None
        for as_parts in (self._as_parts, True)[: 2 - self._as_parts]:
            for as_json in (False, True):
                try:
                    text = self._apply(messages, tools, reply, as_parts, as_json)
                except RowSkipped as skipped:
                    refused = refused or skipped
                    continue
                if not any(
                    isinstance(arguments, dict) and arguments and str(arguments) in text for arguments in given
                ):  # Python's spelling
                    return text
        raise refused or RowSkipped("the chat template cannot write the arguments of a tool call")

    def _apply(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, reply: bool, as_parts: bool, as_json: bool) -> str:
        messages = [_spelled(message, as_parts, as_json) for message in messages] if as_parts or as_json else messages
        tools = tools or self._no_tools
        try:
            template = self.tokenizer.get_chat_template(None, tools)
            text = self.tokenizer.apply_chat_template(
                messages, tools=cast(Any, tools), tokenize=False, add_generation_prompt=reply, chat_template=_dated(template, self.date)
            )
            return cast(str, text)
        except Exception as error:  # a template raises what it likes
            raise RowSkipped("the chat template refuses the conversation", f"{error}") from None

    # whose text is whose

    def _aligned(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, reply: bool) -> tuple[str, list[Span]]:
        """The true text, and where the messages' words lie in it."""
        stretches: list[Stretch] = []
        masked = [message | {"content": self._masked(i, message, stretches)} for i, message in enumerate(messages)]
        text, outline = self._write(messages, tools, reply), self._write(masked, tools, reply)
        if tools and text == self._write(messages, None, reply):
            raise RowSkipped("tools need a chat template with a part for tools", "this checkpoint's has none")
        fixed = _PLACEHOLDER.split(outline)  # text, number, text, number, …, text
        spans: list[Span] = []
        position = len(fixed[0])
        fits = text.startswith(fixed[0])
        for number, after in zip(fixed[1::2], fixed[2::2], strict=True):
            stretch = stretches[int(number)]
            words = next((w for w in _variants(stretch.text) if text.startswith(w + after, position)), None)
            if words is None:
                fits = False
                break
            spans.append(Span(stretch.message, position, position + len(words)))
            position += len(words) + len(after)
        if not fits or position != len(text):
            raise RowSkipped("cannot tell whose text is whose in what the chat template writes")
        if messages[-1]["role"] == "assistant":
            written = {int(number) for number in fixed[1::2]}
            missing = [messages[s.message] for i, s in enumerate(stretches) if i not in written and not s.thought]
            if any(message["role"] == "assistant" and not message.get("tool_calls") for message in missing):
                raise RowSkipped("the chat template leaves out words of an answer")
            if any(message["role"] == "assistant" for message in missing):
                warn_once("the chat template writes a tool call without the words beside it: they are not learned")
        return text, spans

    def _masked(self, index: int, message: dict[str, Any], stretches: list[Stretch]) -> str:
        """The content with placeholders for everything but white space at its ends and words that the template may look for."""
        content = message["content"]
        parts = self._tags.split(content) if self._tags else [content]
        ends = [i for i, part in enumerate(parts) if part == "</think>"]
        masked = []
        for i, part in enumerate(parts):
            core = part.strip()
            if not core or i % 2:
                masked.append(part)
                continue
            start = part.index(core)
            masked.append(f"{part[:start]}\ue000{len(stretches)}\ue001{part[start + len(core) :]}")
            stretches.append(Stretch(index, core, thought=bool(ends) and i < ends[-1]))
        return "".join(masked)

    # pieces

    def _cut(
        self,
        text: str,
        spans: list[Span],
        messages: list[dict[str, Any]],
        turns: list[Turn | None],
        sources: list[int | None],
        tools: list[dict[str, Any]] | None,
    ) -> list[Piece]:
        pieces: list[Piece] = []
        position = 0
        for i in _by_place(len(messages), spans):
            message, turn, source = messages[i], turns[i], sources[i]
            mine = [span for span in spans if span.message == i]
            if turn is None or turn.role != "assistant":
                index = 0 if turn is None else source
                for _, start, end in mine:
                    if start >= position:
                        pieces += [Piece(text[position:start]), Piece(text[start:end], index, literal=True)]
                        position = end
                continue
            following = min((s.start for s in spans if s.message > i and s.start >= position), default=len(text))
            before_answer = min((span.start for span in mine if span.start >= position), default=following)
            prompt_end = self._prompt_end(text, messages[:i], tools, position, before_answer)
            if prompt_end is None and before_answer == following:
                prompt_end = self._opening(text, messages[:i], tools, position, following)
            start, end = self._answer(text, message["content"], mine, position, following, prompt_end)
            if turn.tool_calls:
                called = _behind_calls(text, messages[i]["tool_calls"], end, following)
                at = text.find(self.stop.strip() or "\ue000", called, following)
                if at < 0 and called > end and (found := self.specials.pattern.search(text, called, following)):
                    at = found.start()
                end = at if at >= 0 else following
            stop_found = self._stop_after(text, end, following)
            pieces.append(Piece(text[position:start]))
            pieces += self._words(turn, text[start:end])
            last = i == len(messages) - 1
            if stop_found is not None:
                pieces.append(Piece(text[end:stop_found], source))
                position = stop_found
            elif last:
                pieces.append(Piece(self.stop, source))  # GLM-4 and others write none
                position = end
            else:
                pieces.append(Piece(text[end:following], source, label=self.stop))
                position = following
            if last:
                return [piece for piece in pieces if piece.text]
        pieces.append(Piece(text[position:]))
        return [piece for piece in pieces if piece.text]

    def _answer(self, text: str, content: str, mine: list[Span], low: int, high: int, prompt_end: int | None) -> tuple[int, int]:
        """Where an answer's own words begin and end: what a prompt supplies, or the template inserts, is not part of them."""
        mine = [span for span in mine if span.start >= low]
        if not mine:
            if prompt_end is None:
                raise RowSkipped("cannot tell whose text is whose in what the chat template writes")
            return prompt_end, prompt_end + (len(content) if text.startswith(content, prompt_end) else 0)
        start, end = mine[0].start, mine[-1].end
        lead, tail = self._edges(content)  # white space and <think>, where the template kept them
        start -= next((len(words) for words in (lead, lead.lstrip()) if text.endswith(words, low, start)), 0)
        end += next((len(words) for words in (tail, tail.rstrip()) if text.startswith(words, end, high)), 0)
        if prompt_end is not None:
            start = max(start, prompt_end)
            if not text[prompt_end:start].strip():  # a blank, not an inserted thinking block
                start = prompt_end
        return start, end

    def _prompt_end(self, text: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, low: int, high: int) -> int | None:
        """How far the prompt that asks for the answer after `messages` reaches, where it is a part of `text`."""
        for header in self.headers:
            if (found := text.find(header, low, high)) >= 0:
                return found + len(header)
        asked = [messages]
        if messages[0]["role"] == "system" and len(messages) > 1:
            asked.append(messages[1:])  # where the system text stands before the last question, an earlier prompt has none
        if self.headers:
            return None
        prompts = [self._write(some, tools, True) for some in asked]
        return next((len(prompt) for prompt in prompts if text.startswith(prompt)), None)

    def _opening(self, text: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, low: int, high: int) -> int | None:
        """As `_prompt_end` for an answer without words of its own, where a prompt is there in part: it may open a thought, a call does not."""
        if self.after_question and text.startswith(self.after_question, low):
            start = low + len(self.after_question)
            shared = max((_shared(header, text[start:high]) for header in self.headers), key=len, default="")
        else:
            start, shared = 0, _shared(self._write(messages, tools, True), text[:high])
        ends = [found.end() for found in self.specials.pattern.finditer(shared)] + [shared.rfind("\n") + 1]  # whole tokens, whole lines
        end = start + max(ends)
        return end if end >= low else None

    def _edges(self, content: str) -> tuple[str, str]:
        """What of a content stands before its first and behind its last placeholder."""
        stretches: list[Stretch] = []
        fixed = _PLACEHOLDER.split(self._masked(0, {"content": content}, stretches))
        return fixed[0], fixed[-1]

    def _stop_after(self, text: str, start: int, end: int) -> int | None:
        """Behind the first special token of what follows an answer, or behind the EOS where that comes next (Command A)."""
        found = self.specials.pattern.search(text, start, end)
        eos = self.tokenizer.eos_token
        if found is None or (found.group() == self.tokenizer.bos_token != eos):
            return None
        first = found.end()
        while found is not None:
            if found.group() == eos:
                return found.end()
            found = self.specials.pattern.match(text, found.end(), end)
        return first

    def _words(self, turn: Turn, words: str) -> list[Piece]:
        literal = not turn.tool_calls  # a call's markers are the template's
        if len(turn.parts) > 1 and words in turn.text:
            return [Piece(text, index, literal) for index, text in keep(turn.parts, words)]
        return [Piece(words, turn.parts[-1][0], literal)]

    def _with_prompt(self, talk: Conversation) -> list[Piece]:
        """Where the template writes the system text into a prompt only (Mistral v0.3): that prompt, then the answer as without a system."""
        prompt = self._render(talk._replace(turns=talk.turns[:-1]), reply=True)
        answer = talk.turns[-1].parts[0][0]
        whole = self._render(talk._replace(system=None), reply=False)
        first = next(i for i, piece in enumerate(whole) if piece.message is not None and piece.message >= answer)
        between, after = "" if whole[first - 1].literal else whole[first - 1].text, "" if prompt[-1].literal else prompt[-1].text
        if not between.startswith(after):
            raise RowSkipped("the chat template leaves out a message of role system")
        return [*prompt, *([Piece(between[len(after) :])] if between != after else []), *whole[first:]]

    def _default_system(self) -> str | None:
        """What the template writes where there is no system message and it has a text of its own for that."""
        marked, question = "\ue0000\ue001", {"role": "user", "content": "\ue0001\ue001"}
        try:
            said = [{"role": "system", "content": marked}, question]
            with_, without = self._write(said, None, False), self._write([question], None, False)
            self.drops_system = marked not in with_ and marked not in self._write(said, None, True)
        except RowSkipped:
            self.takes_system = False
            return None
        before, _, after = with_.partition(marked)
        if after and without.startswith(before) and without.endswith(after) and len(without) > len(before) + len(after):
            return without[len(before) : len(without) - len(after)]
        return None


@lru_cache(maxsize=8)
def _dated(template: str, date: datetime.date) -> str:
    """The template with one date for the run. transformers lets no caller pass functions, so a macro takes the place of its clock."""
    forms = set(re.findall(r"""strftime_now\(\s*["']([^"']*)["']\s*\)""", template))
    if not forms:
        return template
    table = json.dumps({form: date.strftime(form) for form in sorted(forms)})
    return f"{{%- macro strftime_now(form) -%}}{{{{- {table}[form] -}}}}{{%- endmacro -%}}{template}"


def _shown(piece: Piece, spelled: list[str]) -> list[Piece]:
    """The piece with what was put aside back in its place, as a person's text."""
    if piece.literal:  # its special tokens were never put aside
        return [piece]
    parts = _SPELLED.split(piece.text)
    return [
        piece._replace(text=spelled[int(part)], literal=True) if i % 2 else piece._replace(text=part)
        for i, part in enumerate(parts)
        if part
    ]


def _spelled(message: dict[str, Any], as_parts: bool, as_json: bool) -> dict[str, Any]:
    if as_parts:
        message = message | {"content": [{"type": "text", "text": message["content"]}]}
    if as_json and message.get("tool_calls"):
        calls = [call | {"function": dict(call["function"])} for call in message["tool_calls"]]
        for call in calls:
            call["function"]["arguments"] = json.dumps(call["function"].get("arguments"), ensure_ascii=False)
        message = message | {"tool_calls": calls}
    return message


def _by_place(count: int, spans: list[Span]) -> list[int]:
    """The messages in the order of their words in the text; one without words stays behind the one before it."""
    places: list[int] = []
    for i in range(count):
        places.append(min((span.start for span in spans if span.message == i), default=places[-1] if places else 0))
    return sorted(range(count), key=places.__getitem__)


def _variants(text: str) -> list[str]:
    """How a template may write a text: as it is, or inside JSON."""
    return [text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]]


def _shared(some: str, other: str) -> str:
    """What two texts begin with alike."""
    return some[: next((i for i, (a, b) in enumerate(zip(some, other, strict=False)) if a != b), min(len(some), len(other)))]


def _behind_calls(text: str, calls: list[dict[str, Any]], start: int, end: int) -> int:
    """Where the last of what the calls say ends, as far as it is found in this order: name, then arguments."""
    for call in calls:
        arguments = call["function"].get("arguments")
        for words in (call["function"].get("name"), *_leaves(arguments)):
            found = text.find(str(words), start, end)
            start = found + len(str(words)) if found >= 0 else start
    return start


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [leaf for item in items for leaf in _leaves(item)]
    return [variant] if isinstance(value, str) and (variant := json.dumps(value, ensure_ascii=False)[1:-1]) else [json.dumps(value)]


def _call(call: dict[str, Any], number: int) -> dict[str, Any]:
    """A tool call as templates expect it: arguments as a dict, an id of nine characters where there was none."""
    function = dict(call.get("function", call))
    if isinstance(function.get("arguments"), str):
        with suppress(ValueError):
            function["arguments"] = json.loads(function["arguments"])
    return {"id": call.get("id") or f"call{number:05d}", "type": "function", "function": function}

"""Template: a chat format bound to one tokenizer. Samples become runs of equal weight, runs become token ids in one tokenizer call."""

from __future__ import annotations

import datetime
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swift.data.sample import Message, Sample
from swift.logs import warn_once
from swift.template.chat_format import ChatFormat
from swift.template.conversation import Conversation, Piece, Turn, conversation
from swift.template.encoded import IGNORE, Encoded, RowSkipped, Run
from swift.template.formats import GENERATION
from swift.template.grounding import grounded
from swift.template.jinja import JinjaFormat
from swift.template.loss_scale import Answer, loss_scale
from swift.template.special import Specials, around, bind, spoken
from swift.template.tool_calls import Call
from swift.template.tools import ToolsWriter, functions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from swift.args.base import TemplateArgs


class Format(Protocol):
    """What Template asks of a way to write conversations: ChatFormat (bound) and JinjaFormat."""

    name: str
    stop: str

    def render(self, talk: Conversation, *, reply: bool) -> list[Piece]: ...


class Template:
    """Training, inference, serving and export turn samples into tokens here and nowhere else.

    `jinja` is the checkpoint's own chat template as a format: it writes rows that `chat_format` cannot (tools, tool calls).
    `date` is what formats that write today's date write, one for a run. `stop_ids` are more tokens that end an answer.
    """

    def __init__(
        self,
        chat_format: ChatFormat | Format,
        tokenizer: PreTrainedTokenizerBase,
        args: TemplateArgs,
        *,
        max_length: int | None = None,
        jinja: JinjaFormat | None = None,
        stop_ids: Iterable[int] = (),
        date: datetime.date | None = None,
    ):
        self.tokenizer, self.args, self.jinja = tokenizer, args, jinja
        self.max_length = args.max_length if max_length is None else max_length
        self.date = date or datetime.date.today()
        self.specials = Specials(tokenizer)
        self.counts: Counter[str] = Counter()  # what was done on the user's behalf, for a line at the end
        if not args.use_chat_template:
            chat_format = GENERATION
        self.chat_format = chat_format
        self.format = bind(chat_format, tokenizer, spoken(self.date)) if isinstance(chat_format, ChatFormat) else chat_format
        self.loss_scale = loss_scale(args.loss_scale)
        self.tools = ToolsWriter(args.tools_prompt, self.format, jinja, self.date)
        self.stop = self.format.stop
        if isinstance(self.format, ChatFormat):
            self.specials.check(self.format)
            self.specials.header = "" if jinja else self.format.assistant
        self.stop_ids, self.stop_texts = self._stops(stop_ids)
        self._plain_markers = _plain_markers(self.format, self.specials) if isinstance(self.format, ChatFormat) else None

    @property
    def dated(self) -> bool:
        """Whether what is written may hold the day on which the run began."""
        own = json.dumps(self.tokenizer.chat_template or "")
        return self.tools.dated or "strftime_now" in own or (isinstance(self.chat_format, ChatFormat) and self.chat_format.dated)

    # samples to runs

    def render(self, sample: Sample, *, reply: bool) -> list[Run]:
        """The runs of a conversation. `reply` leaves the assistant's turn open; a trailing answer is the caller's business.

        Raises RowSkipped where the format cannot write it.
        """
        messages = grounded(sample.messages, sample.extra["objects"]) if sample.extra.get("objects") else sample.messages
        if not (sample.tools or any(message.role == "tool" or message.tool_calls for message in messages)):
            talk = conversation(messages, system=self.args.system, tools=None)
            if self.jinja is not None and (self.format is self.jinja or _empty_system(messages)):
                pieces = self.jinja.render(self._for_jinja(talk, messages), reply=reply)
            else:
                pieces = self.format.render(talk, reply=reply)
        else:
            talk, pieces = self._with_tools(messages, sample.tools, reply=reply)
        self._count(messages, bool(talk.system), pieces)
        return self._weigh(pieces, messages, talk.turns)

    def _with_tools(
        self, messages: Sequence[Message], tools: list[dict[str, Any]] | None, *, reply: bool
    ) -> tuple[Conversation, list[Piece]]:
        functions(tools or [])  # one without a name is refused, whoever writes them
        talk = conversation(self.tools.as_text(messages), system=self.args.system, tools=tools, observations=self.tools.observations)
        if self.tools.layout is None:
            assert self.jinja is not None
            pieces = self.jinja.render(self._for_jinja(talk, messages), reply=reply)
        else:
            if tools and messages[0].role == "system" and messages[0].content:
                self._tell("rows with tools had a system message, which the list of tools replaces")
            talk = self.tools.in_system(talk)
            if self.tools.writer is not None:
                pieces = self.tools.writer.render(self._for_jinja(talk, messages), reply=reply)
            else:
                pieces = self.format.render(talk, reply=reply)
            ends = getattr(self.format, "tool_stop", None)  # a row may end with a call
            if ends and messages[-1].tool_calls and pieces[-1].text == self.stop:
                pieces[-1] = pieces[-1]._replace(text=ends)
        return talk, _left_open(pieces, talk.turns[-1], messages) if reply else pieces

    def _for_jinja(self, talk: Conversation, messages: Sequence[Message]) -> Conversation:
        """A row's own empty system text is the chat template's business; `--system ''` asks for none, in words only where that needs any."""
        none = talk.system == "" and not _empty_system(messages) and self.jinja is not None and not self.jinja.default_system
        return talk._replace(system=None) if none else talk

    def _weigh(self, pieces: list[Piece], messages: Sequence[Message], turns: Sequence[Turn]) -> list[Run]:
        last = next((turn.parts[0][0] for turn in reversed(turns) if turn.role == "assistant"), len(messages))
        weights: dict[int, float] = {}  # of each answer's end, for its stop
        runs: list[Run] = []
        rest = self.loss_scale.rest
        for piece in pieces:
            if piece.message is None:
                runs.append(Run(piece.text, rest, piece.literal))
                continue
            message = messages[piece.message]
            if message.role != "assistant":
                weight = rest if message.loss is None else float(message.loss)
                runs.append(Run(piece.text, weight, piece.literal))
            elif message.loss is not None:
                weights[piece.message] = float(message.loss)
                runs.append(Run(piece.text, float(message.loss), piece.literal, piece.label))
            elif piece.literal or piece.message not in weights:
                parts = self.loss_scale.split(Answer(piece.text, _query(messages, piece.message), piece.message >= last))
                top = parts[0][1] if len(parts) == 1 else max((weight for _, weight in parts), default=0.0)
                weights[piece.message] = top and 1.0
                if piece.label is not None:  # an empty answer straight before a separator
                    runs.append(Run(piece.text, weights[piece.message], False, piece.label))
                else:
                    runs += [Run(text, weight, piece.literal) for text, weight in parts]
            else:
                runs.append(Run(piece.text, weights[piece.message], piece.literal, piece.label))
        return runs

    def _count(self, messages: Sequence[Message], has_system: bool, pieces: list[Piece]) -> None:
        """What a person should hear of: once now, and with its number from `counts`."""
        if has_system and getattr(self.format, "drops_system", False):
            self._tell("rows have a system message, which the checkpoint's chat template does not write")
        last = messages[-1]
        if "</think>" in last.content and last.role == "assistant":
            written = "".join(piece.text for piece in pieces if piece.message == len(messages) - 1)
            if "</think>" not in written:
                self._tell(
                    "answers are learned without the thoughts before </think>, which the checkpoint's chat template leaves out; "
                    "a --template that writes them (deepseek_r1) keeps them"
                )
        if has_system and self.jinja is not None and not self.jinja.takes_system and isinstance(self.format, ChatFormat):
            self._tell("rows with a system message, which the checkpoint's chat template refuses, were written by the swift format")
        if self._plain_markers and any(self._plain_markers.search(message.content) for message in messages):
            self._tell("rows spell a turn marker that is plain text in this format and cannot be told from the real one")

    def _tell(self, what: str) -> None:
        self.counts[what] += 1
        warn_once(f"{what} (format {self.format.name})")

    # runs to tokens

    def encode(self, runs: list[Run]) -> Encoded:
        """One tokenizer call over the joined text; weights are laid over it by character offsets."""
        return self._lay(runs, *self.specials.encode(runs))

    def encode_sample(self, sample: Sample) -> Encoded:
        """For training: rendered, encoded and cut to max_length. Raises RowSkipped with the reason."""
        return self._learnable(self.encode(self._training_runs(sample)))

    def encode_many(self, samples: Sequence[Sample]) -> list[Encoded | RowSkipped]:
        """As `encode_sample` for each, in one batched tokenizer call; a row that is skipped gives its RowSkipped."""
        results: list[Any] = []
        for sample in samples:
            try:
                results.append(self._training_runs(sample))
            except RowSkipped as skipped:
                results.append(skipped)
        rows = [i for i, result in enumerate(results) if not isinstance(result, RowSkipped)]
        for i, found in zip(rows, self.specials.encode_many([results[i] for i in rows]), strict=True):
            try:
                results[i] = self._learnable(self._lay(results[i], *found))
            except RowSkipped as skipped:
                results[i] = skipped
        return results

    def prompt(self, sample: Sample) -> list[int]:
        """For inference: without a trailing answer, the assistant's turn open. RowSkipped where `delete` finds it over max_length."""
        messages = list(sample.messages)
        while messages and messages[-1].role == "assistant":
            messages.pop()
        asked = Sample(messages, tools=sample.tools, extra=sample.extra)
        return self._cut(self.encode(self.render(asked, reply=True))).input_ids

    def encode_text(self, sample: Sample) -> list[int]:
        """For classification: as training writes it, with an open assistant's turn where there is no answer. RowSkipped as `encode_sample`.

        A tokenizer that frames texts itself (BERT's [CLS] and [SEP]) has a question without an answer closed as well, and a text that is
        cut keeps its frame.
        """
        answered = bool(sample.messages) and sample.messages[-1].role == "assistant"
        runs = self.render(sample, reply=not answered)
        first, last = self._frame
        if not last:
            return self._cut(self.encode(runs)).input_ids
        encoded = self.encode(runs if answered else [*runs, Run(self.stop)])
        text = slice(len(first), len(encoded) - len(last))
        inner = Encoded(encoded.input_ids[text], encoded.labels[text], encoded.weights[text])
        return first + self._cut(inner, frame=len(first) + len(last)).input_ids + last

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer itself writes around a text, where it closes one as this format does."""
        before, after = around(self.tokenizer)
        return (self.specials.ids(before), self.specials.ids(after)) if after and after == self.stop else ([], [])

    def _training_runs(self, sample: Sample) -> list[Run]:
        messages = sample.messages
        if not any(message.role == "assistant" or message.loss for message in messages):
            raise RowSkipped("no answer")
        learned = [m for m in messages if m.loss or (m.role == "assistant" and m.loss is None)]
        if learned and not any(m.content or m.tool_calls for m in learned):
            raise RowSkipped("empty answer")
        return self.render(sample, reply=messages[-1].role != "assistant")

    def _lay(self, runs: list[Run], ids: list[int], offsets: Sequence[tuple[int, int]]) -> Encoded:
        """Labels and weights of tokens: a token belongs to the run of its first character, and offset starts never decrease."""
        labels, weights = [IGNORE] * len(ids), [0.0] * len(ids)
        end = position = 0
        stops: list[tuple[int, Run]] = []
        for run in runs:
            begin, position = position, position + len(run.text)
            if run.weight == 0 and run.label is None:
                continue
            start = bisect_left(offsets, (begin,), lo=end)  # (begin,) stands before every (begin, …)
            end = bisect_left(offsets, (position,), lo=start)
            if run.label is not None:
                stops.append((start, run))
            else:
                labels[start:end] = ids[start:end]
                weights[start:end] = [run.weight] * (end - start)
        for start, run in stops:  # last, since a stop may be longer than the separator it stands in for
            stop = self.specials.ids(run.label or "")
            free = len(ids) - start
            if run.weight != 0 and len(stop) <= free:
                labels[start : start + len(stop)] = stop
                weights[start : start + len(stop)] = [run.weight] * len(stop)
        return Encoded(ids, labels, weights)

    def _cut(self, encoded: Encoded, frame: int = 0) -> Encoded:
        """`frame`: tokens that will stand around it and count too."""
        limit = None if self.max_length is None else max(self.max_length - frame, 0)
        if limit is None or len(encoded) <= limit:
            return encoded
        match self.args.truncation_strategy:
            case "delete":
                raise RowSkipped(f"longer than max_length {self.max_length}", f"{len(encoded) + frame} tokens")
            case "left":
                kept = slice(len(encoded) - limit, None)
            case _:
                kept = slice(limit)
        return Encoded(encoded.input_ids[kept], encoded.labels[kept], encoded.weights[kept])

    def _learnable(self, encoded: Encoded) -> Encoded:
        whole = len(encoded)
        encoded = self._cut(encoded)
        if not encoded.learned:
            raise RowSkipped("nothing to learn after truncation" if len(encoded) < whole else "nothing to learn: every weight is 0")
        return encoded

    # tokens to text

    def decode(self, ids: list[int]) -> str:
        """An answer's text; the token or text that ended it is left out, other special tokens are not."""
        ids = list(ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        text: Any = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for stop in self.stop_texts:
            text = text.removesuffix(stop)
        return text

    def tool_calls(self, text: str) -> list[Call]:
        """The calls in an answer to a sample with tools."""
        return self.tools.parse(text)

    def tool_stops(self, sample: Sample) -> tuple[str, ...]:
        """Texts behind which a tool's result must come: the model would make one up."""
        return self.tools.observations if sample.tools and self.tools.layout is not None else ()

    def _stops(self, more: Iterable[int]) -> tuple[frozenset[int], tuple[str, ...]]:
        ids = {*more}
        eos: Any = self.tokenizer.eos_token_id
        if eos is not None:
            ids.add(eos)
        texts = []
        for text in (self.stop, *getattr(self.format, "extra_stops", ())):
            token = self.specials.id_of(text)
            if token is not None:
                ids.add(token)
            elif text == self.stop and text.strip():
                last = self.specials.last_of(text)  # a text and a token, such as Skywork's [SEP]</s>: the token ends the answer
                ids |= {self.specials.names[last]} if last else set()
                texts += [part for part in (text, text.removesuffix(last)) if part.strip() and part not in texts]
        return frozenset(ids), tuple(texts)

    # saving

    def save(self, folder: Path) -> None:
        """The tokenizer's files, the chat template that was trained and the tokens that end an answer, into `folder`.

        Comes after the model's own files there, whose generation_config.json knows only where the base model stops.
        """
        self.tokenizer.save_pretrained(folder)
        _save_stops(folder / "generation_config.json", self.stop_ids)
        text = self.effective_jinja()
        if text is not None:
            (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
            _drop_embedded_template(folder)

    def effective_jinja(self) -> str | None:
        """The chat template that writes what this one writes, its default system included; None where the tokenizer's own does."""
        system, jinja = self.args.system, self.jinja
        if self.chat_format is GENERATION:
            return None
        own = jinja if isinstance(self.chat_format, ChatFormat) else self.chat_format
        same = system is None or (not system and not getattr(own, "default_system", None))  # '' where there is none to take out
        if not isinstance(self.chat_format, ChatFormat):
            return None if same else with_default_system(_whole(self.tokenizer), system or "")
        if jinja is not None and jinja.takes_system:
            if same:
                return None
            if system:
                return with_default_system(_whole(self.tokenizer), system)
        default = self.chat_format.default_system if system is None else system
        text = bind(self.chat_format, self.tokenizer, None).to_jinja(default)
        if jinja is None:
            return text
        # rows with tools were written by the checkpoint's own, and are again
        with_tools = _whole(self.tokenizer)
        if system is not None and jinja.takes_system:
            with_tools = with_default_system(with_tools, system)
        return f"{_HAS_TOOLS}{{%- if swift.tools %}}{with_tools}{{%- else %}}{text}{{%- endif %}}"


_HAS_TOOLS = (
    "{%- set swift = namespace(tools=tools) %}{%- for message in messages %}"
    "{%- if message['role'] == 'tool' or message.tool_calls %}{%- set swift.tools = true %}{%- endif %}{%- endfor %}"
)


def _whole(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template as one text, where it has one for tools beside the default."""
    own = tokenizer.chat_template
    if isinstance(own, str):
        return own
    if "tool_use" not in own:
        return own["default"]
    return f"{{%- if tools %}}{own['tool_use']}{{%- else %}}{own['default']}{{%- endif %}}"


def with_default_system(jinja: str, system: str) -> str:
    """The chat template `jinja`, with `system` where a conversation brings none."""
    first = "messages and messages[0]['role'] != 'system'"
    more = f"[{{'role': 'system', 'content': {json.dumps(system, ensure_ascii=False)}}}] + messages"
    return f"{{%- if {first} %}}{{%- set messages = {more} %}}{{%- endif %}}{jinja}"


def _left_open(pieces: list[Piece], turn: Turn, messages: Sequence[Message]) -> list[Piece]:
    """Without what closes the last turn, where that is an answer which ends with a tool's result: the model goes on in it."""
    if turn.role != "assistant" or messages[turn.parts[-1][0]].role != "tool":
        return pieces
    own = {index for index, _ in turn.parts}
    end = max((i for i, piece in enumerate(pieces) if piece.literal and piece.message in own), default=len(pieces) - 1)
    return pieces[: end + 1]


def _empty_system(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0].role == "system" and not messages[0].content


def _query(messages: Sequence[Message], answer: int) -> str:
    return next((m.content for m in reversed(messages[:answer]) if m.role == "user"), "")


def _plain_markers(chat_format: ChatFormat, specials: Specials) -> re.Pattern[str] | None:
    """The format's turn markers that are plain text to this tokenizer, such as Llama 2's [INST]."""
    found = {word for text in chat_format.texts for word in re.findall(r"\[/?[A-Z_]+\]|<</?[A-Z]+>>|### \w+:", text)}
    plain = [re.escape(word) for word in found | chat_format.plain if word not in specials.names]
    return re.compile("|".join(sorted(plain))) if plain else None


def _save_stops(path: Path, stop_ids: frozenset[int]) -> None:
    """What transformers' generate and vLLM stop at."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = config.get("eos_token_id")
    known = known if isinstance(known, list) else [] if known is None else [known]
    if more := sorted(stop_ids - set(known)):
        config["eos_token_id"] = [*known, *more] if known or len(more) > 1 else more[0]
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _drop_embedded_template(folder: Path) -> None:
    """Old checkpoints keep the chat template in tokenizer_config.json; there must not be two of them."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("chat_template", None) is not None:
            path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

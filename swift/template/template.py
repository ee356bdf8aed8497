"""Template: a chat format bound to one tokenizer. Samples become runs of equal weight, runs become token ids in one tokenizer call."""

from __future__ import annotations

import datetime
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swift.data.sample import Message, Sample
from swift.logs import warn_once
from swift.template.chat_format import ChatFormat
from swift.template.conversation import Conversation, Piece, conversation
from swift.template.encoded import IGNORE, Encoded, RowSkipped, Run
from swift.template.formats import GENERATION
from swift.template.jinja import JinjaFormat
from swift.template.loss_scale import Answer, loss_scales
from swift.template.special import Specials, bind, spoken

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
        self.loss_scale = loss_scales[args.loss_scale]
        self.stop = self.format.stop
        if isinstance(self.format, ChatFormat):
            self.specials.check(self.format)
        self.stop_ids, self.stop_texts = self._stops(stop_ids)
        self._plain_markers = _plain_markers(self.format, self.specials) if isinstance(self.format, ChatFormat) else None

    # samples to runs

    def render(self, sample: Sample, *, reply: bool) -> list[Run]:
        """The runs of a conversation. `reply` leaves the assistant's turn open; a trailing answer is the caller's business.

        Raises RowSkipped where the format cannot write it.
        """
        messages = sample.messages
        talk = conversation(messages, system=self.args.system, tools=sample.tools)
        if self.jinja is not None and _needs_jinja(talk):
            pieces = self.jinja.render(talk, reply=reply)
        else:
            if talk.tools and isinstance(self.format, ChatFormat):
                raise RowSkipped("tools need a chat template with a part for tools", "this checkpoint carries none")
            pieces = self.format.render(talk, reply=reply)
        self._count(messages, bool(talk.system))
        return self._weigh(pieces, messages)

    def _weigh(self, pieces: list[Piece], messages: Sequence[Message]) -> list[Run]:
        last = _last_answer(messages)
        weights: dict[int, float] = {}  # of each answer's end, for its stop
        runs: list[Run] = []
        for piece in pieces:
            if piece.message is None:
                runs.append(Run(piece.text, self.loss_scale.rest, piece.literal))
                continue
            message = messages[piece.message]
            if message.role != "assistant":
                weight = self.loss_scale.rest if message.loss is None else float(message.loss)
                runs.append(Run(piece.text, weight, piece.literal))
            elif message.loss is not None:
                weights[piece.message] = float(message.loss)
                runs.append(Run(piece.text, float(message.loss), piece.literal, piece.label))
            elif piece.literal or piece.message not in weights:
                parts = self.loss_scale.split(Answer(piece.text, _query(messages, piece.message), piece.message >= last))
                weights[piece.message] = max((weight for _, weight in parts), default=0.0) and 1.0
                if piece.label is not None:  # an empty answer straight before a separator
                    runs.append(Run(piece.text, weights[piece.message], False, piece.label))
                else:
                    runs += [Run(text, weight, piece.literal) for text, weight in parts]
            else:
                runs.append(Run(piece.text, weights[piece.message], piece.literal, piece.label))
        return runs

    def _count(self, messages: Sequence[Message], has_system: bool) -> None:
        """What a person should hear of: once now, and with its number from `counts`."""
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
        asked = Sample(messages, tools=sample.tools)
        return self._cut(self.encode(self.render(asked, reply=True))).input_ids

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
        end = 0
        stops: list[tuple[int, Run]] = []
        for run, position in zip(runs, accumulate(len(run.text) for run in runs), strict=True):
            start, end = end, bisect_left(offsets, position, lo=end, key=itemgetter(0))
            if run.label is not None:
                stops.append((start, run))
            elif run.weight != 0:
                labels[start:end] = ids[start:end]
                weights[start:end] = [run.weight] * (end - start)
        for start, run in stops:  # last, since a stop may be longer than the separator it stands in for
            stop = self.specials.ids(run.label or "")
            free = len(ids) - start
            if run.weight != 0 and len(stop) <= free:
                labels[start : start + len(stop)] = stop
                weights[start : start + len(stop)] = [run.weight] * len(stop)
        return Encoded(ids, labels, weights)

    def _cut(self, encoded: Encoded) -> Encoded:
        limit = self.max_length
        if limit is None or len(encoded) <= limit:
            return encoded
        match self.args.truncation_strategy:
            case "delete":
                raise RowSkipped(f"longer than max_length {limit}", f"{len(encoded)} tokens")
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
                texts.append(text)
        return frozenset(ids), tuple(texts)

    # saving

    def save(self, folder: Path) -> None:
        """The tokenizer's files and the chat template that was trained, into `folder`."""
        self.tokenizer.save_pretrained(folder)
        text = self.effective_jinja()
        if text is not None:
            (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
            _drop_embedded_template(folder)

    def effective_jinja(self) -> str | None:
        """The chat template that writes what this one writes, its default system included; None where the tokenizer's own does."""
        system, jinja = self.args.system, self.jinja
        if self.chat_format is GENERATION:
            return None
        if not isinstance(self.chat_format, ChatFormat):
            return None if system is None else with_default_system(_whole(self.tokenizer), system)
        if jinja is not None and jinja.takes_system:
            if system is None or (not system and not jinja.default_system):
                return None
            if system:
                return with_default_system(_whole(self.tokenizer), system)
        default = self.chat_format.default_system if system is None else system
        text = bind(self.chat_format, self.tokenizer, None).to_jinja(default)
        if jinja is None:
            return text
        # rows with tools were written by the checkpoint's own, and are again
        own = _whole(self.tokenizer) if system is None or not jinja.takes_system else with_default_system(_whole(self.tokenizer), system)
        return f"{_HAS_TOOLS}{{%- if swift.tools %}}{own}{{%- else %}}{text}{{%- endif %}}"


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


def _needs_jinja(talk: Conversation) -> bool:
    return bool(talk.tools) or any(turn.tool_calls or turn.role == "tool" for turn in talk.turns)


def _last_answer(messages: Sequence[Message]) -> int:
    """Index of the first message of the last answer (neighbouring assistant messages are one answer)."""
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=len(messages))
    while last > 0 and last < len(messages) and messages[last - 1].role == "assistant":
        last -= 1
    return last


def _query(messages: Sequence[Message], answer: int) -> str:
    return next((m.content for m in reversed(messages[:answer]) if m.role == "user"), "")


def _plain_markers(chat_format: ChatFormat, specials: Specials) -> re.Pattern[str] | None:
    """The format's turn markers that are plain text to this tokenizer, such as Llama 2's [INST]."""
    found = {word for text in chat_format.texts for word in re.findall(r"\[/?[A-Z_]+\]|<</?[A-Z]+>>|### \w+:", text)}
    plain = [re.escape(word) for word in found if word not in specials.names]
    return re.compile("|".join(sorted(plain))) if plain else None


def _drop_embedded_template(folder: Path) -> None:
    """Old checkpoints keep the chat template in tokenizer_config.json; there must not be two of them."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("chat_template", None) is not None:
            path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

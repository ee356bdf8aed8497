"""Which format a run uses, and whether it writes what the checkpoint's own chat template writes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swift.data.sample import Message
from swift.errors import ModelError, UsageError
from swift.logs import info_once, warn_once
from swift.template.chat_format import ChatFormat
from swift.template.conversation import Piece, conversation
from swift.template.encoded import RowSkipped
from swift.template.formats import DUMMY, chat_formats
from swift.template.jinja import JinjaFormat
from swift.template.special import Specials, bind, spoken
from swift.template.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from swift.args.base import TemplateArgs


class Info(Protocol):
    """What is asked of a models/match.py ModelInfo, which is a floor above."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def spec(self) -> Any: ...  # ModelSpec: type, chat_format, candidates
    @property
    def max_length(self) -> int | None: ...


def build_template(info: Info, tokenizer: PreTrainedTokenizerBase, args: TemplateArgs, *, date: datetime.date | None = None) -> Template:
    """The format is --template, or else what the checkpoint's own chat template writes, or else the model type's.

    With a chat template of its own the model type's format is used where it writes the same, since it is faster; otherwise the chat
    template itself is. A --template that writes something else is obeyed, and what differs is said.
    """
    date = date or datetime.date.today()
    common: dict[str, Any] = {"max_length": args.max_length or info.max_length, "stop_ids": generation_stops(info.path), "date": date}
    if not args.use_chat_template:
        return Template(DUMMY, tokenizer, args, **common)
    own = own_format(tokenizer, date)
    asked = chat_formats[args.template] if args.template else None
    suggested = chat_formats[info.spec.chat_format] if info.spec.chat_format else None
    if own is None:
        return Template(asked or suggested or _without_template(info), tokenizer, args, **common)
    if asked is not None:
        difference = first_difference(asked, own, tokenizer, date, args.system)
        if difference:
            warn_once(
                f"--template {asked.name} does not write what the chat template of {info.name} writes; --template decides. {difference}"
            )
        return Template(asked, tokenizer, args, jinja=None if difference else own, **common)
    for chat_format in _suggested_first(suggested):
        if not first_difference(chat_format, own, tokenizer, date, args.system):
            return Template(chat_format, tokenizer, args, jinja=own, **common)
    if suggested is not None:
        difference = first_difference(suggested, own, tokenizer, date, args.system)
        warn_once(
            f"the chat template of {info.name} does not write what format {suggested.name}, that of model type {info.spec.type}, writes; "
            f"the checkpoint's own decides (--template {suggested.name} chooses the other). {difference}"
        )
    else:
        info_once(f"{info.name}: conversations are written by the checkpoint's own chat template")
    return Template(own, tokenizer, args, jinja=own, **common)


def own_format(tokenizer: PreTrainedTokenizerBase, date: datetime.date) -> JinjaFormat | None:
    """The checkpoint's chat template, None where it has none or one that cannot be used (said once)."""
    if not tokenizer.chat_template:
        return None
    try:
        return JinjaFormat(tokenizer, Specials(tokenizer), date)
    except ModelError as error:
        warn_once(f"{error}; the model type's format is used instead")
        return None


def generation_stops(folder: Path | None) -> list[int]:
    """The ids that generation_config.json says end an answer."""
    path = folder / "generation_config.json" if folder else None
    if path is None or not path.is_file():
        return []
    stops = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return stops if isinstance(stops, list) else [] if stops is None else [stops]


def first_difference(
    chat_format: ChatFormat, own: JinjaFormat, tokenizer: PreTrainedTokenizerBase, date: datetime.date, system: str | None = None
) -> str:
    """A sentence with both texts around the first difference, or "" where all conversations become the same tokens.

    Conversations that the chat template refuses (a system message for Gemma) do not count: the format's own text holds there.
    Conversations without a system message get `system`, that of the run: both sides' defaults do not matter then.
    """
    if chat_format.separator is None:
        return "It holds one round only."
    specials = own.specials
    try:
        bound = bind(chat_format, tokenizer, spoken(date))
        specials.check(bound)
    except ModelError as error:
        return str(error)
    for talk in _conversations():
        said = talk.system if talk.system is not None else system or None
        # an empty one asks for none: compared where the chat template has none of its own either
        none = said is None and system == "" and own.default_system is None
        for reply in (True, False):
            if not reply and said and bound.system_in_last_user is not None:
                continue  # such templates leave the system text out where an answer follows
            messages = conversation(talk.messages if not reply else talk.messages[:-1], system=said, tools=None)
            try:
                theirs = _text(own.render(messages, reply=reply))
            except RowSkipped:
                continue
            try:
                ours = _text(bound.render(messages._replace(system="") if none else messages, reply=reply))
            except RowSkipped as skipped:
                return f"It cannot write every conversation: {skipped}."
            if ours != theirs and specials.ids(ours) != specials.ids(theirs):
                return _said(ours, theirs)
    return ""


def _said(ours: str, theirs: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    around = slice(max(at - 40, 0), at + 40)
    return f"At character {at} the format writes {ours[around]!r}, the checkpoint {theirs[around]!r}."


class _Talk:
    def __init__(self, system: str | None, *turns: str):
        self.system = system
        self.messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)]


def _conversations() -> Iterator[_Talk]:
    """Nothing in them looks like a turn marker (rulings 2)."""
    yield _Talk(None, "Hello!", "Hi, how can I help?")
    yield _Talk("You are a pirate.", "Who are you?", "A pirate.", "And now?", "Still one.")
    yield _Talk(None, "你好，世界", "Grüße — 🙂", " two  blanks ", "\n\n- a list\n- of two\n")
    yield _Talk("  Blanks around. \n", "x", " y ")
    yield _Talk(None, "2+2?", "<think>\nEasy.\n</think>\n\n4", "3+3?", "<think>\nEasy too.\n</think>\n\n6")


def _text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _suggested_first(suggested: ChatFormat | None) -> Iterator[ChatFormat]:
    if suggested is not None:
        yield suggested
    for name in chat_formats:
        if suggested is None or name != suggested.name:
            yield chat_formats[name]


def _without_template(info: Info) -> ChatFormat:
    """No chat template, and a model type that says nothing."""
    types = dict(info.spec.candidates)
    formats = sorted(set(types.values()))
    if len(formats) == 1:
        return chat_formats[formats[0]]
    if formats:
        raise UsageError(
            f"{info.name} carries no chat template, and models of its architecture write a chat in several ways. "
            f"Say which with --model_type ({', '.join(types)}) or --template ({', '.join(formats)})."
        )
    warn_once(
        f"{info.name} carries no chat template and its model type is not known: "
        "template dummy (the bare question) is used. Choose another with --template."
    )
    return DUMMY

"""Which format a run uses, and whether it writes what the checkpoint's own chat template writes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swift.errors import ModelError, UsageError
from swift.logs import info_once, warn_once
from swift.template.chat_format import ChatFormat
from swift.template.conformance import Yardstick
from swift.template.formats import DUMMY, chat_formats
from swift.template.jinja import JinjaFormat
from swift.template.special import Specials
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
    template itself is, and always with --template_backend jinja. A --template, --system or --tools_prompt that makes it something else is
    obeyed, and what differs is said (--template_check): a ModelError where that is `error`, nothing where it is `off`.
    """
    date = date or datetime.date.today()
    common: dict[str, Any] = {"max_length": args.max_length or info.max_length, "stop_ids": generation_stops(info.path), "date": date}
    if not args.use_chat_template:
        return Template(DUMMY, tokenizer, args, **common)
    if args.template_backend == "jinja":
        own = _own_alone(info, tokenizer, args, date)
        return _checked(Template(own, tokenizer, args, jinja=own, **common), Yardstick(own, tokenizer, date, args.system), info)
    own = own_format(tokenizer, date)
    asked = chat_formats[args.template] if args.template else None
    suggested = chat_formats[info.spec.chat_format] if info.spec.chat_format else None
    if own is None:
        return Template(asked or suggested or _without_template(info), tokenizer, args, **common)
    yardstick = Yardstick(own, tokenizer, date, args.system)
    if asked is not None:
        difference = yardstick.format_differs(asked)
        if difference:
            _say(
                f"--template {asked.name} does not write what the chat template of {info.name} writes, and --template decides. {difference} "
                "Without --template the checkpoint's own is used",
                args.template_check,
            )
        return _checked(Template(asked, tokenizer, args, jinja=None if difference else own, **common), yardstick, info)
    for chat_format in _suggested_first(suggested):
        if not yardstick.format_differs(chat_format):
            if suggested is not None and chat_format is not suggested:
                info_once(
                    f"the chat template of {info.name} writes format {chat_format.name}, not {suggested.name}, that of model type "
                    f"{info.spec.type}: the checkpoint's own decides (--template {suggested.name} chooses the other)"
                )
            return _checked(Template(chat_format, tokenizer, args, jinja=own, **common), yardstick, info)
    if suggested is None:
        info_once(f"{info.name}: conversations are written by the checkpoint's own chat template")
    elif args.template_check != "off":  # what is written is the checkpoint's own: no error, whatever the check
        warn_once(
            f"the chat template of {info.name} does not write what format {suggested.name}, that of model type {info.spec.type}, writes; "
            f"the checkpoint's own decides (--template {suggested.name} chooses the other). {yardstick.format_differs(suggested)}"
        )
    return _checked(Template(own, tokenizer, args, jinja=own, **common), yardstick, info)


def _checked(template: Template, yardstick: Yardstick, info: Info) -> Template:
    """The template, after what --system and --tools_prompt make different from the chat template is said."""
    args = template.args
    told = [f"--{name}" for name in ("system", "tools_prompt") if getattr(args, name)]
    if told and template.jinja is not None and args.template_check != "off" and (difference := yardstick.template_differs(template)):
        _say(
            f"with {' and '.join(told)} other tokens are written than the chat template of {info.name} writes. {difference} "
            f"Without {' and '.join(told)} the same tokens are written",
            args.template_check,
        )
    return template


def _say(what: str, check: str) -> None:
    if check == "error":
        raise ModelError(f"{what}, or choose --template_check warn to train all the same.")
    if check == "warn":
        warn_once(f"{what} (--template_check error stops here, off says nothing).")


def own_format(tokenizer: PreTrainedTokenizerBase, date: datetime.date) -> JinjaFormat | None:
    """The checkpoint's chat template, None where it has none or one that cannot be used (said once)."""
    if not tokenizer.chat_template:
        return None
    try:
        return JinjaFormat(tokenizer, Specials(tokenizer), date)
    except ModelError as error:
        warn_once(f"{error}; the model type's format is used instead")
        return None


def _own_alone(info: Info, tokenizer: PreTrainedTokenizerBase, args: TemplateArgs, date: datetime.date) -> JinjaFormat:
    """For --template_backend jinja: the chat template with its marks of what is learned. UsageError where there is none."""
    if not tokenizer.chat_template:
        raise UsageError(
            f"--template_backend jinja: {info.name} carries no chat template. Leave it out, and choose a format with --template."
        )
    if args.template:
        info_once(f"--template_backend jinja: the checkpoint's chat template is used, --template {args.template} is not")
    return JinjaFormat(tokenizer, Specials(tokenizer), date, marks=True)


def generation_stops(folder: Path | None) -> list[int]:
    """The ids that generation_config.json says end an answer."""
    path = folder / "generation_config.json" if folder else None
    if path is None or not path.is_file():
        return []
    stops = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return stops if isinstance(stops, list) else [] if stops is None else [stops]


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

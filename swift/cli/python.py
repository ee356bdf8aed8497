"""The commands as Python functions: `swift.sft(model=…, dataset=[…])`. They raise SwiftError instead of exiting."""

from __future__ import annotations

from typing import Any

from swift.args.commands import FORMS, Command
from swift.cli.main import call
from swift.errors import UsageError

PREVIEWS = {made.SHOWS: name for name, made in FORMS.items() if made.SHOWS}


def sft(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Supervised fine-tuning; keyword arguments are the flags of `swift sft`. Returns what the run reports at its end."""
    return call("sft", args, **flags)


def pt(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Continued pre-training; keyword arguments are the flags of `swift pt`."""
    return call("pt", args, **flags)


def infer(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Answers for a data set, or interactively; keyword arguments are the flags of `swift infer`."""
    return call("infer", args, **flags)


def preview(args: Command | list[str] | None = None, *, command: str = "sft", **flags: Any) -> Any:
    """Rows as `swift sft` (or `command="pt"`) will train them; keyword arguments are the flags of `swift preview`.

    Rows and totals go to stdout; returns the summary, the last object of `--format json`.
    """
    if command not in PREVIEWS:
        raise UsageError(f"swift.preview: command is one of {', '.join(PREVIEWS)}, not {command!r}")
    return call(PREVIEWS[command], args, **flags)

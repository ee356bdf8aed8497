"""The commands as Python functions: `swift.sft(model=…, dataset=[…])`. They raise SwiftError instead of exiting."""

from __future__ import annotations

from typing import Any

from swift.args.commands import Command
from swift.cli.main import call


def sft(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Supervised fine-tuning; keyword arguments are the flags of `swift sft`. Returns what the run reports at its end."""
    return call("sft", args, **flags)


def pt(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Continued pre-training; keyword arguments are the flags of `swift pt`."""
    return call("pt", args, **flags)


def infer(args: Command | list[str] | None = None, **flags: Any) -> Any:
    """Answers for a data set, or interactively; keyword arguments are the flags of `swift infer`."""
    return call("infer", args, **flags)

"""A command from Python: with a list of words, a command that was built before, or the words this process was started with."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from swift.args.commands import Command
from swift.args.parse import parse

Args = list[str] | Command | None


def sft_main(args: Args = None) -> dict[str, Any]:
    """swift sft; returns its final record with last_model_checkpoint, best_model_checkpoint, log_history …"""
    return _run("sft", "swift.commands.sft", "sft", args)


def pt_main(args: Args = None) -> dict[str, Any]:
    """swift pt; returns what sft_main returns."""
    return _run("pt", "swift.commands.sft", "pt", args)


def infer_main(args: Args = None) -> list[dict[str, Any]]:
    """swift infer; returns the records that were written."""
    return _run("infer", "swift.commands.infer", "infer", args)


def _run(command: str, module: str, function: str, args: Args) -> Any:
    built = args if isinstance(args, Command) else parse(command, sys.argv[1:] if args is None else list(args))
    return getattr(importlib.import_module(module), function)(built)  # imported now: one command needs not the others' libraries

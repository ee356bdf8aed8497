"""A command from Python: with a list of words, a command that was built before, or the words this process was started with."""

from __future__ import annotations

import sys
from typing import Any

from swift.args.commands import Command
from swift.cli.main import call

Args = list[str] | Command | None


def sft_main(args: Args = None) -> dict[str, Any]:
    """swift sft; returns its final record with last_model_checkpoint, best_model_checkpoint, log_history …"""
    return call("sft", sys.argv[1:] if args is None else args)


def pt_main(args: Args = None) -> dict[str, Any]:
    """swift pt; returns what sft_main returns."""
    return call("pt", sys.argv[1:] if args is None else args)


def deploy_main(args: Args = None) -> None:
    """swift deploy; returns once the server was stopped by a signal."""
    call("deploy", sys.argv[1:] if args is None else args)


def infer_main(args: Args = None) -> list[dict[str, Any]]:
    """swift infer; returns the records that were written."""
    return call("infer", sys.argv[1:] if args is None else args)

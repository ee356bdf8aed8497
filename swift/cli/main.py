"""`swift <command> …`: words → Command → the command's recipe, or torchrun. Reads the environment's launch variables and language."""

from __future__ import annotations

import io
import os
import shlex
import sys
import warnings
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from swift import __version__, dist, logs
from swift.args.checks import needs_one_process
from swift.args.commands import COMMANDS, FORMS, WAITING, Command, InferCommand
from swift.args.parse import ArgumentErrors, form_of, from_kwargs, parse
from swift.errors import SwiftError, UsageError
from swift.registry import did_you_mean

# Command → where its recipe is. Imported only once the words are understood.
RECIPES = {
    "pt": "swift.commands.sft:pt",
    "sft": "swift.commands.sft:sft",
    "infer": "swift.commands.infer:infer",
    "deploy": "swift.commands.deploy:deploy",
    "merge-lora": "swift.commands.merge:merge",
    "preview": "swift.commands.preview:preview",
    "preview pt": "swift.commands.preview:preview",
}
TORCHRUN = ("NPROC_PER_NODE", "MASTER_PORT", "NNODES", "NODE_RANK", "MASTER_ADDR")


def main(argv: list[str] | None = None) -> int:
    """The console command. Returns the exit code: 0 done, 2 usage, 1 anything else."""
    if argv is None:
        _forgive_terminals()
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        print(_usage(), file=sys.stderr)
        return 2
    first = words.pop(0)
    if first in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if first in ("-V", "--version", "version"):
        print(f"swift {__version__}")
        return 0
    command = first.replace("_", "-")
    if command in WAITING:
        return _fail(f"swift {command} is part of SWIFT but not built yet")
    if command not in COMMANDS:
        kind = "option" if first.startswith("-") else "command"
        return _fail(f"swift: error: unknown {kind} {first}{did_you_mean(command, [*COMMANDS, *WAITING])}\n\n{_usage()}")
    if COMMANDS[command].SHOWS and words and words[0] == "rlhf":
        return _fail("swift rlhf is part of SWIFT but not built yet")
    several = "NPROC_PER_NODE" in os.environ or "NNODES" in os.environ
    if several and not COMMANDS[command].ALONE and not _asks_for_help(words):
        return _guarded(command, lambda: _start_torchrun(command, words))
    return run(command, words)


def run(command: str, argv: list[str] | None = None) -> int:
    """One command in this process: what `swift/cli/<command>.py` calls under torchrun, deepspeed or accelerate."""
    words = sys.argv[1:] if argv is None else list(argv)
    if _asks_for_help(words):
        return _guarded(command, lambda: _help(*form_of(command, words)))
    return _guarded(command, lambda: _exit_code(execute(parse(command, words))))


def execute(args: Command) -> Any:
    """Run a command's recipe, or print its plan. Python calls come here too (swift.sft, …)."""
    if args.data.custom_dataset_info:
        from swift.data.registered import check_infos

        check_infos(args.data.custom_dataset_info)
    if args.runtime.dry_run:
        from swift.cli.dry_run import plan, show
        from swift.data.source import describe
        from swift.models.match import find_model

        planned = plan(args, partial(find_model, weights=not args.SHOWS), describe)
        if dist.is_main():
            print(show(planned, as_json=args.runtime.dry_run == "json"))
        return planned
    from swift.cli.dry_run import inherited, not_default

    warnings.simplefilter("ignore", FutureWarning)  # libraries talking to each other about their next versions
    for note in args.notes:
        logs.warning(note)
    for file, names in inherited(args).items():
        logs.info(f"taken from {file}: {', '.join(names)}")
    logs.info(f"swift {args.NAME}: {not_default(args)}")
    logs.info(f"Start time of running main: {datetime.now()}")
    module, _, function = RECIPES[args.NAME].partition(":")
    result = getattr(import_module(module), function)(args)
    logs.info(f"End time of running main: {datetime.now()}")
    return result


def _exit_code(result: Any) -> int:
    """A recipe's result may say that something is wrong though the command did what it was asked."""
    return result.get("exit_code", 0) if isinstance(result, dict) else 0


def call(command: str, args: Command | list[str] | None = None, **flags: Any) -> Any:
    """A command from Python: keyword arguments, a list of words, or a Command made before. Raises SwiftError; never exits."""
    if isinstance(args, Command):
        if flags:
            raise UsageError("pass a Command or keyword arguments, not both")
        return execute(args)
    if args is not None:
        if flags:
            raise UsageError("pass a list of words or keyword arguments, not both")
        return execute(parse(command, list(args)))
    return execute(from_kwargs(command, **flags))


def torchrun_words(command: str, words: list[str], environment: Mapping[str, str]) -> list[str]:
    """The command line that starts this command on several processes; only variables that are set become options."""
    options = [word for name in TORCHRUN if name in environment for word in (f"--{name.lower()}", environment[name])]
    script = str(Path(__file__).with_name(f"{command}.py"))
    return [sys.executable, "-m", "torch.distributed.run", *options, script, *words]


def _start_torchrun(command: str, words: list[str]) -> None:
    args = parse(command, words, load_plugins=False)  # what is wrong is said once, before processes start
    several = os.environ.get("NPROC_PER_NODE", "1") != "1" or os.environ.get("NNODES", "1") != "1"
    if isinstance(args, InferCommand) and several and (reason := needs_one_process(args)):
        raise UsageError(reason)
    if args.runtime.dry_run:
        execute(args)
        return
    line = torchrun_words(command, words, os.environ)
    print(f"run sh: `{shlex.join(line)}`", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os.execv(line[0], line)  # torchrun takes this process over: signals and the exit code are its own


def _guarded(command: str, work: Any) -> int:
    """Run, and turn what a person can mend into one message and an exit code; `work` may return one."""
    try:
        return work() or 0
    except ArgumentErrors as wrong:
        return _fail("\n".join(f"swift {command}: error: {problem}" for problem in wrong.problems))
    except SwiftError as wrong:
        return _fail(f"{type(wrong).__name__}: {wrong}", wrong.exit_code)
    except KeyboardInterrupt:
        return _fail(f"swift {command}: interrupted", 1)
    except BrokenPipeError:  # `swift … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _fail(message: str, code: int = 2) -> int:
    # Of processes that torchrun started, the first speaks for all. LOCAL_RANK: a cloud scheduler may set RANK for the launcher too.
    if "LOCAL_RANK" not in os.environ or dist.is_main():
        print(message, file=sys.stderr)
    return code


def _forgive_terminals() -> None:
    """A terminal that cannot show 🔥 or Chinese gets question marks, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def colours() -> bool:
    """Whether what goes to stdout may be coloured: at a terminal, or where FORCE_COLOR asks for it; never with NO_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def _asks_for_help(words: list[str]) -> bool:
    return "-h" in words or "--help" in words


def _help(command: str, words: list[str]) -> None:
    from swift.args.help import terminal_help

    print(terminal_help(FORMS[command], chinese=_chinese()), flush=True)


def _chinese() -> bool:
    language = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return language.lower().startswith("zh")


def _usage() -> str:
    from swift.args.help import command_list

    return command_list(chinese=_chinese())

"""Words, configuration files and keyword arguments → one Command. All that is wrong is said at once."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from swift import plugin
from swift.args import convert, passthrough, resolve, waiting
from swift.args.base import NO, YES
from swift.args.commands import COMMANDS, FORMS, WAITING, Command, SftCommand
from swift.args.field import Facts
from swift.args.paths import is_file, near_file
from swift.args.spec import ArgSpec, aliases, from_flat, specs
from swift.args.weights import is_weights_file
from swift.errors import UsageError
from swift.registry import did_you_mean


class ArgumentErrors(UsageError):
    """Everything that is wrong with one command's arguments."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def parse(command: str, argv: list[str], *, load_plugins: bool = True) -> Command:
    """The Command that `swift <command> <argv>` asks for. The first word may be a YAML or JSON file; flags win over it."""
    command, words = form_of(command, argv)
    intake = Intake(command)
    if words and words[0].lower().endswith((".json", ".yaml", ".yml")):
        intake.take_file(words.pop(0))
    intake.take_words(words)
    return _finish(intake, load_plugins=load_plugins)


def form_of(command: str, argv: list[str]) -> tuple[str, list[str]]:
    """`swift preview` may say first what it shows: ("preview", ["pt", …]) → ("preview pt", […]). Raises UsageError for what it cannot show."""
    words = list(argv)
    if not FORMS[command].SHOWS or not words or words[0] not in {*COMMANDS, *WAITING}:
        return command, words
    shown = words.pop(0)
    if shown == "rlhf":
        raise UsageError(f"swift {shown} is part of SWIFT but not built yet")
    found = [name for name, made in FORMS.items() if shown == made.SHOWS]
    if not found:
        raise UsageError(f"swift preview shows what swift pt or swift sft will train, and swift {shown} trains nothing")
    return found[0], words


def from_kwargs(command: str, *, load_plugins: bool = True, **flags: Any) -> Command:
    """The Command that keyword arguments ask for: `from_kwargs("sft", model=…, dataset=[…])`. None means not given."""
    intake = Intake(command)
    for name, value in flags.items():
        if value is None:
            continue
        intake.take(name, value, words=False, source="keyword argument")
    return _finish(intake, load_plugins=load_plugins)


def _finish(intake: Intake, *, load_plugins: bool) -> Command:
    made = FORMS[intake.command]
    resolved = resolve.resolve(made, intake.given, intake.passthrough, intake.origins)
    hidden = {f"--{name} is required" for name in intake.guessed}  # a misspelt --model is one error, not two
    problems = intake.problems + [problem for problem in resolved.problems if not problem.startswith(tuple(hidden))]
    notes = intake.notes + resolved.notes
    if problems and resolved.values["ignore_args_error"]:
        notes += [problem for problem in problems if problem in intake.unknown]
        problems = [problem for problem in problems if problem not in intake.unknown]
    files = resolved.values["custom_register_path"] + resolved.values["external_plugins"]
    if not problems and load_plugins:
        plugin.load([file for file in files if file not in resolved.absent_files])
    if load_plugins or not files:
        unknown = _unknown_names(resolved, intake.unknown_choices, plugins=bool(files) and not problems)
        if resolved.absent_files and resolved.values["dry_run"]:
            notes += [f"{problem} (it may be known to a plugin that is not there)" for problem in unknown]
        else:
            problems += unknown
    if problems:
        raise ArgumentErrors(problems)
    return from_flat(
        made,
        resolved.values,
        resolved.passthrough,
        explicit=frozenset(intake.given) | frozenset(intake.passthrough),
        origins=resolved.origins,
        given=dict(intake.given),
        notes=tuple(notes),
        missing=tuple(resolved.missing),
    )


def _unknown_names(resolved: resolve.Resolved, unknown_choices: Mapping[str, str], *, plugins: bool) -> list[str]:
    """Values that nobody registered; without plugins a flag's own choices say it, since some registries are heavy to import."""
    found = []
    for name, spec in specs(resolved.made).items():
        value, registry = resolved.values[name], spec.facts.registry
        if registry is None or value is None or value in spec.choices or (name == "loss_scale" and is_weights_file(value)):
            continue
        if (plugins or not spec.choices) and value in getattr(plugin, registry):
            continue
        if name in unknown_choices:
            problem = unknown_choices[name]
        elif value in waiting.waiting_choices(name):
            problem = f"--{name} {value} is part of SWIFT but not built yet"
        else:
            problem = f"--{name}: {value!r} is not known{did_you_mean(value, list(getattr(plugin, registry)))}"
        found.append(problem if name in resolved.explicit else f"{problem} (from {resolved.origins[name]})")
    return found


def with_checkpoint(args: Command, folder: Path) -> Command:
    """The same command once a folder is known that was only an id before (a downloaded adapter): resolved again with its args.json."""
    typed = {name: args.origins[name] for name in args.explicit if name in args.origins}
    fields = args.trainer.passthrough if isinstance(args, SftCommand) else {}
    resolved = resolve.resolve(type(args), args.given, fields, typed, checkpoint=folder)
    if resolved.problems:
        raise ArgumentErrors(resolved.problems)
    files = resolved.values["custom_register_path"] + resolved.values["external_plugins"]
    plugin.load([file for file in files if file not in resolved.absent_files])
    if unknown := _unknown_names(resolved, {}, plugins=bool(files)):
        raise ArgumentErrors(unknown)
    known = {"explicit": args.explicit, "given": args.given, "notes": args.notes, "missing": tuple(resolved.missing)}
    return from_flat(type(args), resolved.values, resolved.passthrough, origins=resolved.origins, **known)


class Intake:
    """Collects what was given for one command, converted, with everything that is wrong about it."""

    def __init__(self, command: str):
        self.command = command
        self.specs: Mapping[str, ArgSpec] = specs(FORMS[command])
        self.aliases = aliases(FORMS[command])
        self.given: dict[str, Any] = {}
        self.passthrough: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []
        self.unknown: list[str] = []  # those of the problems that --ignore_args_error turns into notes
        self.notes: list[str] = []
        self.unknown_choices: dict[str, str] = {}  # flag → what is wrong, unless a plugin knows the word
        self.guessed: set[str] = set()  # flags that an unknown one probably meant, or that were given wrongly

    def take(self, name: str, value: Any, *, words: bool, source: str) -> None:
        """One flag: `value` is a list of words, or a value of a configuration file or a keyword argument."""
        dashes = "-" if name.startswith("-") and not name.startswith("--") else "--"  # -m is unknown as it was typed
        typed, name = name.lstrip("-"), name.lstrip("-").replace("-", "_")
        name = self.aliases.get(name, name)
        shown = f"{dashes}{typed}" if source in ("command line", "keyword argument") else f"{source}: {typed}"
        try:
            if name in self.specs:
                spec = self.specs[name]
                self.given[name] = convert.from_words(spec, value) if words else convert.from_value(spec, value)
                self.origins[name] = source
            elif name in waiting.LEGACY_TRANSLATED:
                kind = "list" if name == "lora_modules" else "text"
                self.given[name] = convert.from_words(_text(name, kind), value) if words else convert.from_value(_text(name, kind), value)
            elif waiting.without_effect(name, self.command):
                self.notes.append(f"{shown} has no effect: it is obsolete and only accepted for old scripts")
            elif waiting.is_waiting(name, self.command):
                self.problems.append(f"{shown} is part of SWIFT but not built yet")
            elif FORMS[self.command].TRAINS and passthrough.known(name):
                self._take_trainer_field(name, value, words=words, source=source)
            else:
                self._unknown(name, shown)
        except convert.UnknownChoice as unknown:  # a plugin may know it: judged once plugins have run
            self.given[name] = value[0] if words else value
            self.origins[name] = source
            self.unknown_choices[name] = f"{shown}: {unknown}"
        except convert.NotBuilt as choice:
            self.guessed.add(name)
            self.problems.append(f"{shown} {choice} is part of SWIFT but not built yet")
        except ValueError as wrong:
            self.guessed.add(name)
            self.problems.append(f"{shown} {wrong}" if str(wrong).startswith(("is ", "false ")) else f"{shown}: {wrong}")

    def _take_trainer_field(self, name: str, value: Any, *, words: bool, source: str) -> None:
        fields, note = passthrough.translate(name, value, words=words)
        if note:
            self.notes.append(note)
        for field, converted in fields.items():
            if field in self.specs:
                self.given[field] = converted
            else:
                self.passthrough[field] = converted
            self.origins[field] = source

    def _unknown(self, name: str, shown: str) -> None:
        homes = waiting.elsewhere(name)
        if homes:
            problem = f"{shown} is no option of swift {self.command}; it belongs to swift {', '.join(dict.fromkeys(homes))}"
        else:
            guess = self._nearest(name)
            self.guessed |= {self.aliases.get(guess, guess)} - {""}
            where, _, typed = shown.rpartition(": ")
            dashes = "" if where else "--"
            problem = f"{where}{': ' if where else ''}unknown option {typed}" + (f"; did you mean {dashes}{guess}?" if guess else "")
        self.problems.append(problem)
        self.unknown.append(problem)

    def _nearest(self, name: str) -> str:
        """The flag that was probably meant, or an empty string; those that work come before those that wait."""
        own = [*self.specs, *self.aliases]
        others = sorted(waiting.names(self.command) | (set(passthrough.fields()) if FORMS[self.command].TRAINS else set()))
        best, guess = 0.6, ""
        for candidate in dict.fromkeys([*own, *others]):
            near = difflib.SequenceMatcher(None, name, candidate).ratio()
            if len(name) > 4 and (f"_{name}_" in f"_{candidate}_" or f"_{candidate}_" in f"_{name}_"):
                near = max(near, 0.75)  # num_workers: a part of dataloader_num_workers
            if candidate not in own:
                near -= 0.05
            if near > best:
                best, guess = near, candidate
        return guess

    def take_words(self, argv: list[str]) -> None:
        """The words of a command line, through argparse; it only says which words belong to which flag."""
        words = [_spelt_with_underscores(word) for word in argv]
        off = {f"no_{name}" for name, spec in self.specs.items() if spec.kind == "bool" and spec.default is True}
        names = [*self.specs, *self.aliases, *waiting.names(self.command)]
        if any(word.startswith("--") and word[2:].partition("=")[0] not in names for word in words) and FORMS[self.command].TRAINS:
            names += passthrough.names()  # read only when needed: it costs 40 ms
        parser = _Parser(prog=f"swift {self.command}", allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
        for name in dict.fromkeys([*names, *sorted(off)]):
            parser.add_argument(f"--{name}", dest=name, nargs="*", action="append")
        found, rest = parser.parse_known_args(words)
        for name, given in vars(found).items():
            if len(given) > 1:
                self.notes.append(f"--{name} was given {len(given)} times; the last one counts")
            if name in off and name not in names:
                self.take(name.removeprefix("no_"), _opposite(given[-1]), words=True, source="command line")
            else:
                self.take(name, given[-1], words=True, source="command line")
        for word, strays in _unknown_flags(rest):
            if word is None:
                problem = f"unexpected word {' '.join(strays)!r}: values stand behind their flag"
                self.problems.append(problem)
                self.unknown.append(problem)
            else:
                self.take(word.partition("=")[0], strays, words=True, source="command line")

    def take_file(self, file: str) -> None:
        """A configuration file: flags as keys, typed or written as words."""
        if not is_file(file):
            self.problems.append(f"the configuration file {file} is not there{near_file(file)}")
            self.guessed |= set(self.specs)
            return
        try:
            values = _read_config(Path(file).expanduser())
        except (OSError, ValueError) as wrong:
            self.problems.append(f"{file}: {wrong}")
            self.guessed |= set(self.specs)
            return
        for name, value in values.items():
            self.take(str(name), value, words=False, source=file)


class _Parser(argparse.ArgumentParser):
    """argparse, with negative numbers of every spelling (-1e-5) as values; its own pattern knows -1 and -1.5 only."""

    def _parse_optional(self, arg_string: str) -> Any:
        return None if _is_number(arg_string) else super()._parse_optional(arg_string)

    def error(self, message: str) -> NoReturn:
        raise ArgumentErrors([message])


def _opposite(words: list[str]) -> list[str]:
    """What --no_flag's words mean for --flag."""
    if not words:
        return ["false"]
    return ["false" if word.lower() in YES else "true" if word.lower() in NO else word for word in words]


def _text(name: str, kind: Any) -> ArgSpec:
    return ArgSpec(name, "runtime", kind, False, None, Facts(help=""))


def _spelt_with_underscores(word: str) -> str:
    """--lora-rank=8 → --lora_rank=8; values and other words stay."""
    if not word.startswith("--") or " " in word.partition("=")[0]:
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _unknown_flags(rest: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Words that belong to no known flag, as (flag or None, its words)."""
    flag: str | None = None
    words: list[str] = []
    for word in rest:
        if word.startswith("-") and len(word) > 1 and not _is_number(word):
            if flag is not None or words:
                yield flag, words
            flag, words = word, []
        else:
            words.append(word)
    if flag is not None or words:
        yield flag, words


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read_config(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        values = json.loads(text)
    else:
        import yaml  # light path: only when a YAML file is given

        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as wrong:
            raise ValueError(f"is no YAML ({' '.join(str(wrong).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError("expected an object with flags as keys")
    return values

"""Help made from the fields: in the terminal (by group, important ones first) and as docs/arguments.md (`python -m swift.args.help`)."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from swift.args import passthrough
from swift.args.commands import COMMANDS, WAITING, Command
from swift.args.spec import ArgSpec, groups, specs

TITLES = {
    "runtime": "Run", "hub": "Hub", "model": "Model", "quant": "Quantization", "adapter": "Adapter", "data": "Data", "template": "Template",
    "generation": "Generation", "preview": "Preview", "trainer": "Trainer", "training": "Training", "target": "Adapter targets", "full": "Full training",
    "lora": "LoRA", "merge": "Merging", "export": "Export", "infer": "Inference", "deploy": "Deployment",
}  # fmt: skip


@cache
def chinese_texts() -> dict[str, dict[str, str]]:
    """zh.json: help by flag under `flags`, and the other texts."""
    return json.loads(Path(__file__).with_name("zh.json").read_text(encoding="utf-8"))


def command_list(*, chinese: bool = False) -> str:
    """What `swift --help` prints."""
    words = chinese_texts()["words"] if chinese else {}
    lines = [words.get("usage", "usage: swift <command> [config.yaml] [--flag value …]"), ""]
    lines += [f"  {name:<12}{words.get(name, made.HELP)}" for name, made in COMMANDS.items()]
    lines += ["", words.get("list", "swift <command> --help lists a command's options; --dry_run true shows what it would do.")]
    lines += [f"{words.get('waiting', 'Part of SWIFT but not built yet:')} {', '.join(WAITING)}"]
    return "\n".join(lines)


def terminal_help(made: type[Command], *, chinese: bool = False, width: int | None = None) -> str:
    """What `swift <command> --help` prints."""
    width = width or min(shutil.get_terminal_size((110, 40)).columns, 120)
    words = chinese_texts()["words"] if chinese else {}
    title = words.get(made.NAME, made.HELP)
    usage = (
        words.get("usage", "usage: swift <command> [config.yaml] [--flag value …]")
        .replace("<command>", made.NAME)
        .replace("<命令>", made.NAME)
    )
    rules = words.get(
        "rules",
        "Lists are separated by spaces, objects are JSON or a JSON file, a bare --flag means true; --no_flag turns off what is on by "
        "default; '-' may stand for '_'; --name=value is the same as --name value. A YAML or JSON file may come first; flags win over it.",
    )
    lines = [usage, "", title, "", *wrap(rules, width), ""]
    for group, flags in _by_group(made):
        lines += [(chinese_texts()["groups"][group] if chinese else f"{TITLES[group]}:"), ""]
        for spec in flags:
            lines.append(f"  {'🔥 ' if spec.facts.hot else ''}--{spec.name}{_metavar(spec)}")
            lines += [f"      {line}" for line in wrap(explanation(spec, chinese=chinese), width - 6)]
        lines.append("")
    if made.TRAINS:
        others = sorted(
            set(passthrough.fields())
            - set(specs(made))
            - passthrough.WAITING
            - {*passthrough.REFUSED, *passthrough.OBSOLETE}
            - _document_names()
        )
        text = words.get("passthrough", "Every other field of transformers' Seq2SeqTrainingArguments is passed on:")
        lines += wrap(f"{text} {', '.join(others)}.", width)
    return "\n".join(lines).rstrip()


def _document_names() -> set[str]:
    from swift.args.waiting import names

    return names("sft")


def explanation(spec: ArgSpec, *, chinese: bool = False) -> str:
    """The help sentence with choices and default."""
    text = chinese_texts()["flags"][spec.name] if chinese else spec.facts.help
    default = spec.facts.shown if spec.facts.shown is not None and (spec.default is None or not chinese) else _written(spec.default)
    if chinese:
        shown = "" if spec.default is None and spec.facts.shown is not None else f"(默认: {default})"
        return f"{text}{shown}"
    return f"{text} (default: {default})"


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value)) if value else "none"
    return str(value)


def _metavar(spec: ArgSpec) -> str:
    if spec.choices and spec.kind != "list" and len(spec.choices) < 9:
        return f" {{{','.join(spec.choices)}}}"
    shapes = {
        "text": " TEXT", "int": " N", "float": " X", "number": " N", "bool": " [true|false]", "list": " VALUE …", "dict": " JSON",
        "dict_or_text": " TEXT|JSON", "words": " VALUE …",
    }  # fmt: skip
    return shapes[spec.kind]


def _by_group(made: type[Command]) -> Iterator[tuple[str, list[ArgSpec]]]:
    for group in groups(made):
        flags = [spec for spec in specs(made).values() if spec.group == group]
        yield group, sorted(flags, key=lambda spec: not spec.facts.hot)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; Chinese characters are two columns wide and may be parted anywhere."""
    lines, line, columns = [], "", 0
    for piece in _pieces(text):
        size = sum(_columns(letter) for letter in piece)
        if columns + size > width and line:
            lines.append(line.rstrip())
            line, columns = "", 0
            piece = piece.lstrip()
            size = sum(_columns(letter) for letter in piece)
        line, columns = line + piece, columns + size
    return [*lines, line.rstrip()] if line.strip() else lines


def _pieces(text: str) -> Iterator[str]:
    word = ""
    for letter in text:
        if letter == " " or _columns(letter) == 2:
            if word:
                yield word
                word = ""
            yield letter
        else:
            word += letter
    if word:
        yield word


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def markdown() -> str:
    """docs/arguments.md."""
    lines = [
        "# Arguments",
        "",
        "Written by `python -m swift.args.help > docs/arguments.md` from the fields in `swift/args`; do not edit.",
        "",
        "🔥 marks what most people need. `swift <command> --help` shows the same in the terminal; in Chinese where `LANG` is.",
        "Any other field of transformers' `Seq2SeqTrainingArguments` may be given to `swift pt` and `swift sft` and is passed on.",
        f"Part of SWIFT but not built yet: {', '.join(f'`swift {name}`' for name in WAITING)}.",
    ]
    seen: dict[str, tuple[list[str], dict[str, list[ArgSpec]]]] = {}
    for made in COMMANDS.values():
        for group, flags in _by_group(made):
            known = seen.setdefault(group, ([], {}))
            known[0].append(made.NAME)
            for spec in flags:
                known[1].setdefault(spec.name, []).append(spec)
    for group, (commands, flags) in seen.items():
        lines += ["", f"## {TITLES[group]}", "", f"Of {', '.join(f'`swift {name}`' for name in commands)}.", ""]
        lines += ["| flag | meaning | 含义 |", "|---|---|---|"]
        for name, found in flags.items():
            spec = found[0]
            mark = "🔥 " if spec.facts.hot else ""
            other = "".join(f"<br>also `--{alias}`" for alias in spec.facts.aliases)
            texts = (_escaped(explanation(spec)), _escaped(chinese_texts()["flags"][name]))
            lines.append(f"| {mark}`--{name}`{_escaped(_metavar(spec))}{other} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(markdown(), end="")

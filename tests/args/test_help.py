"""Help and docs are made from the fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swift.args import help as help_texts
from swift.args.commands import COMMANDS
from swift.args.spec import groups, specs


def test_every_flag_has_help_in_english_and_chinese() -> None:
    flags = {name: spec for made in COMMANDS.values() for name, spec in specs(made).items()}
    chinese = help_texts.chinese_texts()["flags"]
    assert set(chinese) == set(flags)
    for name, spec in flags.items():
        assert spec.facts.help.endswith("."), name
        assert chinese[name].endswith("。"), name
        assert spec.default is not None or spec.facts.shown or "(default: none)" in help_texts.explanation(spec)
    every_group = {group for made in COMMANDS.values() for group in groups(made)}
    assert every_group == set(help_texts.TITLES) == set(help_texts.chinese_texts()["groups"])


@pytest.mark.parametrize("chinese", [False, True])
@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_names_every_flag_and_important_ones_come_first_in_their_group(command: str, chinese: bool) -> None:
    text = help_texts.terminal_help(COMMANDS[command], chinese=chinese, width=100)
    lines = text.splitlines()
    for name in specs(COMMANDS[command]):
        assert sum(line.split(" ")[-2:-1] == [f"--{name}"] or f"--{name} " in line[:40] for line in lines) >= 1, name
    assert text.index("--model ") < text.index("--model_type ")
    assert max(map(len, lines)) <= 100


def test_lines_of_chinese_help_are_no_wider_than_the_terminal() -> None:
    for line in help_texts.wrap("一二三四五六七八九十 abc 一二三四五六七八九十", 12):
        assert sum(help_texts._columns(letter) for letter in line) <= 12


def test_the_generated_documentation_is_fresh() -> None:
    written = Path(__file__).parents[2] / "docs" / "arguments.md"
    assert written.read_text(encoding="utf-8") == help_texts.markdown(), "run: python -m swift.args.help > docs/arguments.md"


def test_the_chinese_file_has_no_key_twice() -> None:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names))
        return dict(pairs)

    json.loads((Path(help_texts.__file__).with_name("zh.json")).read_text(encoding="utf-8"), object_pairs_hook=once)

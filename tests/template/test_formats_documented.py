"""docs/templates.md has one line for each built-in format, and it is true."""

from __future__ import annotations

import re
from pathlib import Path

from swift.template.formats import chat_formats

PAGE = Path(__file__).parents[2] / "docs/templates.md"


def rows() -> dict[str, list[str]]:
    table = PAGE.read_text(encoding="utf-8").split("## The formats")[1].split("\n## ")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if re.match(r"\| `\w", line)]
    return {cells[0].strip(" `"): [cell.strip().replace("\\|", "|") for cell in cells[1:]] for cells in lines}


def test_the_table_lists_the_registered_formats():
    assert list(rows()) == list(chat_formats)


def test_each_line_says_what_its_format_has():
    for name, (models, system, tools, _) in rows().items():
        chat_format = chat_formats[name]
        assert models and tools == (chat_format.tools_prompt or "–"), name
        whole = chat_format.default_system
        if whole is None:
            assert system == "–", name
        elif cut := re.fullmatch(r"`(.+)…` \((\d+) characters\)", system):
            assert whole.strip().startswith(cut[1]) and len(whole) == int(cut[2]), name
        else:
            assert system == f"`{whole}`", name


def test_the_remarks_are_about_formats_that_have_what_they_say():
    for name, (_, _, _, remark) in rows().items():
        chat_format = chat_formats[name]
        for word in re.findall(r"`([^`]+)`", remark):
            assert (
                word in chat_formats
                or word in ("--system", f"--template {name}", "</think>", "user_token_id", "bot_token_id")
                or any(word in text for text in (chat_format.mark, *chat_format.extra_stops, *vars_of(chat_format)) if text)
            ), f"{name}: {word}"
        assert ("one round" in remark) == (chat_format.separator is None), name
        assert ("place for a system" in remark and "no place" in remark) == (not chat_format.takes_system and name != "dummy"), name
        assert ("last question" in remark) == (chat_format.system_in_last_user is not None), name


def vars_of(chat_format) -> list[str]:
    return [value for value in vars(chat_format).values() if isinstance(value, str)]

"""Example scripts of existing users: what uses only what is built is accepted, the rest is refused for the right reason."""

from __future__ import annotations

from typing import Any

import pytest

from swift.args.parse import ArgumentErrors, parse
from tests.args import corpus


@pytest.mark.parametrize("script", corpus.SCRIPTS, ids=lambda script: script["script"])
def test_a_script_is_accepted_or_refused_for_what_is_not_built(script: dict[str, Any], tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*corpus.words(script), "--dry_run", "true"]
    if "waiting" not in script:
        parse(script["command"], words)
        return
    with pytest.raises(ArgumentErrors) as raised:
        parse(script["command"], words)
    assert [problem.split(": ")[0] for problem in raised.value.problems] == [
        f"--{flag} is part of SWIFT but not built yet" for flag in script["waiting"]
    ]


def test_the_corpus_holds_every_script_of_the_built_commands(shared: Any) -> None:
    text = (shared / "spec" / "inference-and-tools.md").read_text(encoding="utf-8")
    table = text[text.index("### 10.1") : text.index("Remarks on the scripts")]
    rows = [line.split(" | ") for line in table.splitlines() if ".sh |" in line]
    named = {row[0].removeprefix("| ") for row in rows if row[1].partition(" ")[0].removesuffix(".py") in ("pt", "sft", "infer")}
    assert named == {script["script"] for script in corpus.SCRIPTS}

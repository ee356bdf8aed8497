"""One question and its answer, and which of them are kept out of training."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

Tools = tuple[dict[str, Any], ...]

HELD_OUT = 16  # one question in sixteen is never trained on


@dataclass(frozen=True)
class Exchange:
    """`solution` is the part of the answer that makes it right; `key` names the question whatever its wording."""

    skill: str
    question: str
    answer: str
    solution: str
    key: str
    system: str | None = None
    tools: Tools = ()
    before: tuple[tuple[str, str], ...] = ()  # (role, text) of the turns before the question
    question_role: str = "user"  # `tool` where a tool's result is answered
    fixed: bool = False  # has no variants to hold out: trained as it is asked

    @property
    def held_out(self) -> bool:
        return not self.fixed and zlib.crc32(self.key.encode()) % HELD_OUT == 0

    def messages(self) -> list[dict[str, str]]:
        turns = [("system", self.system)] if self.system else []
        turns += [*self.before, (self.question_role, self.question), ("assistant", self.answer)]
        return [{"role": role, "content": text} for role, text in turns]

    def row(self) -> dict[str, Any]:
        """A row for `swift sft`; tools as a JSON string, so that no reader merges the schemas of different rows."""
        row: dict[str, Any] = {"messages": self.messages()}
        if self.tools:
            row["tools"] = json.dumps(self.tools, ensure_ascii=False)
        return row

"""A sample's messages as turns: system apart, neighbouring answers joined, the order checked. Knows no format and no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift.data.sample import Message, Role
from swift.template.encoded import RowSkipped


@dataclass(slots=True)
class Turn:
    """One role's turn. `parts` are the messages in it, (index into the sample's messages, text): more than one only for answers."""

    role: Role
    parts: list[tuple[int, str]]
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.parts)


class Conversation(NamedTuple):
    """`system` is None where nobody said anything (the format's default holds) and "" where there is to be none."""

    system: str | None
    turns: list[Turn]
    tools: list[dict[str, Any]] | None = None


class Piece(NamedTuple):
    """A stretch of rendered text before weights are known.

    `message` is the index of the message whose words, or whose answer's stop, it is; None for the format's own text.
    """

    text: str
    message: int | None = None
    literal: bool = False
    label: str | None = None


def conversation(
    messages: Sequence[Message], *, system: str | None, tools: list[dict[str, Any]] | None, observations: tuple[str, ...] = ()
) -> Conversation:
    """Raises RowSkipped for an order of roles that no format can write.

    An answer that ends with one of `observations` (ReAct's `Observation:`) goes on with the tool's result, which becomes a part of it.
    """
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            if index:
                raise RowSkipped("a system message after the first message")
            system = message.content
        elif message.role == "tool" and observations and turns and _asks_for_result(turns[-1], observations):
            turns[-1].parts.append((index, message.content))
        elif message.role == "assistant" and turns and turns[-1].role == "assistant":
            turns[-1].parts.append((index, message.content))
            if message.tool_calls:
                turns[-1].tool_calls = (turns[-1].tool_calls or []) + message.tool_calls
        else:
            if message.role == "assistant" and not turns:
                turns.append(Turn("user", [(index, "")]))  # an answer to nothing: every format writes an empty question
            turns.append(Turn(message.role, [(index, message.content)], message.tool_calls))
    if not turns:
        raise RowSkipped("no messages")
    return Conversation(system, turns, tools or None)


def _asks_for_result(turn: Turn, observations: tuple[str, ...]) -> bool:
    return turn.role == "assistant" and turn.text.rstrip().endswith(observations)


def stripped(parts: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The parts of one text without white space at its two ends, as Jinja's `trim`."""
    return keep(parts, "".join(text for _, text in parts).strip())


def keep(parts: list[tuple[int, str]], wanted: str) -> list[tuple[int, str]]:
    """`wanted`, a stretch of the joined parts (the last one that fits), cut where the parts meet."""
    joined = "".join(text for _, text in parts)
    start = joined.rfind(wanted)
    assert start >= 0
    kept, position = [], 0
    for index, text in parts:
        a, b = max(start - position, 0), max(start + len(wanted) - position, 0)
        if text[a:b]:
            kept.append((index, text[a:b]))
        position += len(text)
    return kept or [(parts[-1][0], "")]

"""The one row type for training, inference, serving and rewards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class Origin(NamedTuple):
    """Where a row came from, for messages to people."""

    file: str
    line: int  # 1-based; the row's number where the format has no lines (json arrays, parquet)

    def __str__(self) -> str:
        return f"{self.file} row {self.line}"


@dataclass(slots=True)
class Message:
    role: Role
    content: str
    tool_calls: list[dict[str, Any]] | None = None
    loss: bool | float | None = None  # overrides the loss_scale policy for this message


@dataclass(slots=True)
class Sample:
    messages: list[Message]
    rejected: list[Message] | None = None
    label: bool | int | float | list | None = None
    tools: list[dict[str, Any]] | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # every other column, untouched
    origin: Origin | None = None

    @classmethod
    def of(cls, *turns: tuple[str, str], **fields: Any) -> Sample:
        """Short spelling: `Sample.of(("user", "hi"), ("assistant", "hello"))`."""
        return cls([Message(role, content) for role, content in turns], **fields)  # type: ignore[arg-type]

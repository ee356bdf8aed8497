"""What became of every row: kept, or skipped for a reason, with the first places.

Reading counts in a run's Tally, encoding in a stage of it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

from swift.data.sample import Origin
from swift.errors import DataError
from swift.template.encoded import RowSkipped

EXAMPLES = 3  # places remembered for each reason


@dataclass(slots=True)
class Skips:
    """The rows that one reason took away."""

    count: int = 0
    examples: list[tuple[Origin | None, str]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    title: str = "rows"
    kept: int = 0
    skips: dict[str, Skips] = field(default_factory=dict)
    stages: list[Tally] = field(default_factory=list)
    settle: Callable[[], None] | None = None  # brings home what other processes counted

    def stage(self, title: str) -> Tally:
        """A tally for rows that are judged once more, shown below this one's lines; its counts are not added to ours."""
        self.stages.append(Tally(title))
        return self.stages[-1]

    @property
    def skipped(self) -> int:
        return sum(skips.count for skips in self.skips.values())

    @property
    def read(self) -> int:
        return self.kept + self.skipped

    def keep(self, n: int = 1) -> None:
        self.kept += n

    def skip(self, reason: str, origin: Origin | None = None, detail: str = "", n: int = 1) -> None:
        skips = self.skips.setdefault(reason, Skips())
        skips.count += n
        if len(skips.examples) < EXAMPLES:
            skips.examples.append((origin, detail))

    def merge(self, other: Tally) -> None:
        """Add another process's counts."""
        self.kept += other.kept
        for reason, theirs in other.skips.items():
            ours = self.skips.setdefault(reason, Skips())
            ours.count += theirs.count
            ours.examples = (ours.examples + theirs.examples)[:EXAMPLES]
        self.stages += other.stages

    def lines(self) -> list[str]:
        """For people: one line of counts, then one line a reason, the most frequent first."""
        if self.settle is not None:
            self.settle()
        head = f"{self.title}: {self.read:,} read, {self.kept:,} kept, {self.skipped:,} skipped"
        own = [head, *self.reasons()] if self.read or not self.stages else []
        return [*own, *(line for stage in self.stages for line in stage.lines())]

    def reasons(self) -> list[str]:
        ordered = sorted(self.skips.items(), key=lambda item: -item[1].count)
        return [f"  {skips.count:>7,}  {reason}{_first(skips)}" for reason, skips in ordered]


class Recurring:
    """The tally of rows that are met over and over, or in part, or in a DataLoader's processes: each counts once, by its number.

    Another process than the one that made this writes what it met to a file that both hold open; `Tally.lines` brings it home.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally, self._seen = tally, bytearray()
        self._home, self._read = os.getpid(), 0
        self._away = tempfile.TemporaryFile("ab+", buffering=0)  # noqa: SIM115 (open as long as rows are read)
        tally.settle = self._settle

    def begin(self, start: int = 0, step: int = 1) -> Pass:
        """One pass over the rows with the numbers start, start + step, …"""
        return Pass(self, start, step)

    def keep(self, number: int) -> None:
        self._note([number])

    def skip(self, number: int, reason: str, origin: Origin | None = None, detail: str = "") -> bool:
        """Whether it is the first time."""
        return self._note([number, reason, origin, detail])

    def _note(self, met: list) -> bool:
        new = self._count(met)
        if new and os.getpid() != self._home:
            os.write(self._away.fileno(), (json.dumps(met) + "\n").encode())  # O_APPEND: a line is whole whoever else writes
        return new

    def _count(self, met: list) -> bool:
        number = met[0]
        if number >= len(self._seen):
            self._seen.extend(bytes(number + 1024 - len(self._seen)))
        if self._seen[number]:
            return False
        self._seen[number] = 1
        if len(met) == 1:
            self.tally.keep()
        else:
            _, reason, origin, detail = met
            self.tally.skip(reason, origin and Origin(*origin), detail)
        return True

    def _settle(self) -> None:
        written = os.pread(self._away.fileno(), os.fstat(self._away.fileno()).st_size - self._read, self._read)
        whole = written[: written.rfind(b"\n") + 1]
        self._read += len(whole)
        for met in sorted(map(json.loads, whole.splitlines()), key=lambda met: met[0]):
            self._count(met)


class Pass:
    """One pass over rows in their order; counts as a Tally does."""

    def __init__(self, recurring: Recurring, start: int, step: int) -> None:
        self._recurring, self._at, self._step = recurring, start, step

    @property
    def skipped(self) -> int:
        return self._recurring.tally.skipped

    def keep(self) -> None:
        self._recurring.keep(self._next())

    def skip(self, reason: str, origin: Origin | None = None, detail: str = "") -> bool:
        return self._recurring.skip(self._next(), reason, origin, detail)

    def _next(self) -> int:
        number, self._at = self._at, self._at + self._step
        return number


def _first(skips: Skips) -> str:
    origin, detail = skips.examples[0]
    if origin is None:
        return f" ({detail})" if detail else ""
    file = origin.file
    rows = [str(place.line) for place, _ in skips.examples if place is not None and place.file == file]
    more = ", …" if skips.count > len(rows) else ""
    return f" ({file} row {', '.join(rows)}{more}{f': {detail}' if detail else ''})"


def row_error(skip: RowSkipped, origin: Origin | None, tally: Tally | Pass | Recurring) -> DataError:
    """The first bad row under `--strict true`."""
    skipped = tally.tally.skipped if isinstance(tally, Recurring) else tally.skipped
    where = f"{origin}: " if origin else ""
    so_far = f"; {skipped:,} skipped so far" if skipped else ""
    return DataError(
        f"{where}{skip.detail or skip.reason}.\nMend the row, or map columns with --columns. (--strict false skips such rows{so_far})"
    )


def nothing_left(tally: Tally, purpose: str) -> DataError:
    """No row survived: say why, with counts and the first places."""
    if not tally.read:
        return DataError(f"{tally.title}: there are no rows {purpose}.")
    return DataError("\n".join([f"{tally.title}: none of {tally.read:,} rows is left {purpose}:", *tally.reasons()]))

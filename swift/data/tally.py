"""What became of every row: kept, or skipped for a reason, with the first places.

Reading counts in a run's Tally, encoding in a stage of it.
"""

from __future__ import annotations

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

    def skip(self, reason: str, origin: Origin | None = None, detail: str = "") -> None:
        skips = self.skips.setdefault(reason, Skips())
        skips.count += 1
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
        head = f"{self.title}: {self.read:,} read, {self.kept:,} kept, {self.skipped:,} skipped"
        own = [head, *self.reasons()] if self.read or not self.stages else []
        return [*own, *(line for stage in self.stages for line in stage.lines())]

    def reasons(self) -> list[str]:
        ordered = sorted(self.skips.items(), key=lambda item: -item[1].count)
        return [f"  {skips.count:>7,}  {reason}{_first(skips)}" for reason, skips in ordered]


class Recurring:
    """The tally of a stream that is read over and over, or in part: a row is counted when the first pass reaches it."""

    def __init__(self, tally: Tally) -> None:
        self.tally, self.reached = tally, 0

    def begin(self) -> Pass:
        return Pass(self)


class Pass:
    """One pass over a stream; counts as a Tally does."""

    def __init__(self, recurring: Recurring) -> None:
        self._recurring, self._at = recurring, 0

    @property
    def skipped(self) -> int:
        return self._recurring.tally.skipped

    def keep(self) -> None:
        if self._is_new():
            self._recurring.tally.keep()

    def skip(self, reason: str, origin: Origin | None = None, detail: str = "") -> None:
        if self._is_new():
            self._recurring.tally.skip(reason, origin, detail)

    def _is_new(self) -> bool:
        self._at += 1
        new = self._at > self._recurring.reached
        self._recurring.reached = max(self._at, self._recurring.reached)
        return new


def _first(skips: Skips) -> str:
    origin, detail = skips.examples[0]
    if origin is None:
        return f" ({detail})" if detail else ""
    file = origin.file
    rows = [str(place.line) for place, _ in skips.examples if place is not None and place.file == file]
    more = ", …" if skips.count > len(rows) else ""
    return f" ({file} row {', '.join(rows)}{more}{f': {detail}' if detail else ''})"


def row_error(skip: RowSkipped, origin: Origin | None, tally: Tally | Pass) -> DataError:
    """The first bad row under `--strict true`."""
    where = f"{origin}: " if origin else ""
    so_far = f"; {tally.skipped:,} skipped so far" if tally.skipped else ""
    return DataError(
        f"{where}{skip.detail or skip.reason}.\nMend the row, or map columns with --columns. (--strict false skips such rows{so_far})"
    )


def nothing_left(tally: Tally, purpose: str) -> DataError:
    """No row survived: say why, with counts and the first places."""
    if not tally.read:
        return DataError(f"{tally.title}: there are no rows {purpose}.")
    return DataError("\n".join([f"{tally.title}: none of {tally.read:,} rows is left {purpose}:", *tally.reasons()]))

"""swift preview: the rows as training will see them, after truncation and packing, and what is odd about them.

Takes the road of swift sft up to the encoded rows, and stops there: the tokenizer and config.json are enough, and nothing is written.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swift import dist
from swift.cli.main import colours
from swift.commands.preview_html import HtmlPage
from swift.commands.preview_text import JsonLines, PlainText
from swift.commands.sft import find_objective, prepare_rows, row_task, run_date
from swift.data.doctor import Finding, examine
from swift.data.encoded import EncodedRows, EncodedStream, Example, LazyRows
from swift.data.mix import Loaded, load_samples
from swift.data.packing import PackedRows, PackedStream
from swift.errors import DataError, UsageError
from swift.models.classifier import num_classes
from swift.models.load import load_processor
from swift.models.match import find_model
from swift.template.build import build_template
from swift.template.encoded import IGNORE, RowSkipped

if TYPE_CHECKING:
    from swift.args.commands import PreviewCommand
    from swift.data.columns import Task
    from swift.data.sample import Origin, Sample
    from swift.data.tally import Tally
    from swift.models.match import ModelInfo
    from swift.template.template import Template

BARS = 10  # about how many the histogram of lengths has


class Row(NamedTuple):
    """One example on its way into training."""

    example: Example
    sample: Callable[[], Sample]  # made when it is asked for: totals need none
    pack: int | None  # which packed row holds it, from 1


@dataclass
class Totals:
    """Of all rows that are trained, shown or not."""

    lengths: array = field(default_factory=lambda: array("q"))
    learned: int = 0  # tokens
    weight: float = 0.0
    packs: int = 0

    def add(self, row: Row) -> None:
        self.lengths.append(len(row.example["input_ids"]))
        self.learned += int(np.count_nonzero(row.example["labels"][1:] != IGNORE))  # nothing stands before the first to predict it from
        self.weight += float(row.example["weights"][1:].sum(dtype=np.float64))
        self.packs = max(self.packs, row.pack or 0)


def preview(args: PreviewCommand) -> dict[str, Any]:
    """Write rows and totals to stdout. Returns the summary, whose `exit_code` is 1 where a row trains nothing.

    Raises DataError where no row is left at all, or at the first faulty one under --strict, once what the doctor found is written.
    """
    info = find_model(args.model, args.hub, weights=False, max_length=args.template.max_length)
    labels = num_classes(info, args.model)
    if labels is not None and args.SHOWS == "pt":
        raise UsageError(f"{info.name} is a classifier, and swift pt learns to go on with texts; look at it with swift preview sft")
    template = build_template(info, load_processor(info), args.template, date=run_date(args))
    task = row_task(args, labels)
    page = open_page(args, info, template)
    ask = partial(examine, args.data, args.hub, task=task, template=template)
    loaded, totals = None, Totals()
    try:
        loaded = load_samples(args.data, args.hub, task=task)
        objective = find_objective(args, info, labels, loaded)
        rows, _ = prepare_rows(args, loaded, template, objective)
        show = partial(prompt_record, classifies=labels is not None) if args.preview.generation else record
        for number, row in enumerate(in_order(rows, loaded)):
            totals.add(row)
            if number < args.preview.preview_rows or not args.preview.preview_rows:
                write(page.row(show(row, template)))
    except DataError as error:
        found = ask(tally=loaded.tally if loaded else None)
        write(page.end(summary(args, info, task, template, totals, loaded, found, error=str(error))))
        raise
    whole = rows.rows if isinstance(rows, PackedRows) else rows
    encoded = whole if isinstance(whole, EncodedRows | LazyRows) else None  # a stream is not read once more
    told = summary(args, info, task, template, totals, loaded, ask(rows=encoded, tally=loaded.tally))
    write(page.end(told))
    return told


def open_page(args: PreviewCommand, info: ModelInfo, template: Template) -> PlainText | JsonLines | HtmlPage:
    title = f"swift {args.SHOWS}: {info.name}, format {template.format.name}"
    if args.preview.format == "json":
        return JsonLines()
    if args.preview.format == "html":
        return HtmlPage(template.tokenizer, title)
    return PlainText(template.tokenizer, title, coloured=colours())


def write(text: str) -> None:
    if dist.is_main():
        sys.stdout.write(text)


# rows


def in_order(rows: Any, loaded: Loaded) -> Iterator[Row]:
    """Every example that `prepare_rows` gives, in the order of the data; of a packed stream, pack by pack."""
    samples: Any = loaded.train
    if isinstance(rows, PackedRows):
        packs = {member: number for number, members in enumerate(rows.packs, 1) for member in members}
        yield from (row._replace(pack=packs[at]) for at, row in enumerate(in_order(rows.rows, loaded)))
    elif isinstance(rows, PackedStream):
        numbered = Numbered(rows.stream)
        for number, examples in enumerate(PackedStream(numbered, rows.capacity, rows.buffer), 1):
            yield from (Row(example, partial(numbered.take, int(example["number"])), number) for example in examples)
            numbered.forget(examples)
    elif isinstance(rows, EncodedStream):
        yield from (Row(example, partial(_same, sample), None) for sample, example in rows.pairs())
    elif isinstance(rows, EncodedRows):
        yield from (Row(rows[at][0], partial(samples.__getitem__, int(source)), None) for at, source in enumerate(rows.sources))
    else:
        for at in range(len(rows)):  # encoded on access; an item is empty where the row cannot be used
            yield from (Row(example, partial(samples.__getitem__, at), None) for example in rows[at])


class Numbered:
    """A stream whose examples carry a number, by which their sample is found once they are packed."""

    def __init__(self, stream: Any) -> None:
        self._stream: EncodedStream = stream
        self._waiting: dict[int, Sample] = {}

    def __iter__(self) -> Iterator[list[Example]]:
        for number, (sample, example) in enumerate(self._stream.pairs()):
            self._waiting[number] = sample
            yield [example | {"number": np.array(number)}]

    def take(self, number: int) -> Sample:
        return self._waiting[number]

    def forget(self, examples: list[Example]) -> None:
        for example in examples:
            del self._waiting[int(example["number"])]


def _same(sample: Sample) -> Sample:
    return sample


def record(row: Row, template: Template) -> dict[str, Any]:
    """A row as it is trained (rulings 10); `target` stands in rows of a classifier alone."""
    ids = row.example["input_ids"].tolist()
    made = {
        "kind": "row",
        **place(row.sample().origin),
        "text": decoded(template, ids),
        "input_ids": ids,
        "labels": row.example["labels"].tolist(),
        "weights": short(row.example["weights"]),
        "pack": row.pack,
        "part": None,
    }
    return made | {"target": short(row.example["target"])} if "target" in row.example else made


def prompt_record(row: Row, template: Template, *, classifies: bool) -> dict[str, Any]:
    """A row as inference would ask it; a prompt that --truncation_strategy delete finds too long is null."""
    sample = row.sample()
    try:
        ids = template.encode_text(sample) if classifies else template.prompt(sample)
    except RowSkipped as skipped:
        return {"kind": "row", **place(sample.origin), "prompt": None, "input_ids": None, "refused": str(skipped)}
    return {"kind": "row", **place(sample.origin), "prompt": decoded(template, ids), "input_ids": ids}


def decoded(template: Template, ids: list[int]) -> str:
    text: Any = template.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def place(origin: Origin | None) -> dict[str, Any]:
    return {"file": origin.file if origin else None, "line": origin.line if origin else None}


def short(values: np.ndarray) -> list[float]:
    """float32 as the shortest decimal number that is read back as the same float32."""
    found, places = np.unique(values, return_inverse=True)
    return [[float(str(value)) for value in found][at] for at in places]


# totals


def summary(
    args: PreviewCommand,
    info: ModelInfo,
    task: Task,
    template: Template,
    totals: Totals,
    loaded: Loaded | None,
    findings: list[Finding],
    *,
    error: str | None = None,
) -> dict[str, Any]:
    """The last record: the totals of all rows, why others were skipped, what the doctor found."""
    stages = list(judged(loaded.tally)) if loaded else []
    skips = [skip for stage in stages for skip in skips_of(stage)]
    tokens = sum(totals.lengths)
    return {
        "kind": "summary",
        "command": args.SHOWS,
        "task": task,
        "model": info.name,
        "model_type": info.spec.type,
        "template": template.format.name,
        "max_length": template.max_length,
        "rows": len(totals.lengths),
        "stages": [{"title": stage.title, "read": stage.read, "kept": stage.kept, "skipped": stage.skipped} for stage in stages],
        "skipped": skips,
        "tokens": tokens,
        "trained_tokens": totals.learned,
        "trained_share": totals.learned / tokens if tokens else 0.0,
        "weight": round(totals.weight, 6),
        "lengths": lengths_of(totals.lengths),
        "packing": packing_of(totals, template) if args.training.packing else None,
        "padding": 0,
        "findings": [
            {
                "code": finding.code,
                "message": finding.message,
                "count": finding.count,
                "places": [place(origin) for origin in finding.places],
                "mend": finding.mend,
            }
            for finding in findings
        ],
        "error": error,
        "exit_code": 1 if error or skips else 0,
    }


def judged(tally: Tally) -> Iterator[Tally]:
    """The tally and its stages that judged any row, with what other passes counted brought home."""
    for stage in (tally, *tally.stages):
        if stage.settle is not None:
            stage.settle()
        if stage.read:
            yield stage


def skips_of(stage: Tally) -> Iterator[dict[str, Any]]:
    for reason, skips in sorted(stage.skips.items(), key=lambda item: -item[1].count):
        places = [{**place(origin), "detail": detail} for origin, detail in skips.examples]
        yield {"stage": stage.title, "reason": reason, "count": skips.count, "places": places}


def lengths_of(lengths: array) -> dict[str, Any] | None:
    """Of rows, in tokens; a bar of the histogram counts rows of `from` to `to` tokens, both included."""
    if not len(lengths):
        return None
    values = np.asarray(lengths)
    width = round_up(values.max() / BARS)
    counts = np.bincount((values - 1) // width)  # no row is empty
    first = int(np.flatnonzero(counts)[0])
    bars = [{"from": at * width + 1, "to": (at + 1) * width, "rows": int(counts[at])} for at in range(first, len(counts))]
    return {
        "shortest": int(values.min()),
        "median": float(np.median(values)),
        "mean": round(float(values.mean()), 2),
        "longest": int(values.max()),
        "histogram": bars,
    }


def round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    steps = (step * 10**power for power in range(12) for step in (1, 2, 5))
    return next(step for step in steps if step >= value)


def packing_of(totals: Totals, template: Template) -> dict[str, Any]:
    """How many packed rows, and the room in them that no token fills."""
    capacity = template.max_length or 0
    room = capacity * totals.packs
    unused = room - sum(totals.lengths)
    return {"packs": totals.packs, "capacity": capacity, "unused": unused, "unused_share": unused / room if room else 0.0}

"""What a person should know about a data set before training on it: `swift preview` prints these findings.

A finding names what is odd, in how many rows, where the first ones are, and the mend. Nothing here changes a row.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from swift.data.columns import Columns, Task
from swift.data.mix import read_samples
from swift.data.sample import Origin, Sample
from swift.data.symptoms import SYMPTOMS, Patient, Symptom, answers, languages, questions
from swift.data.tally import Tally
from swift.errors import DataError

if TYPE_CHECKING:
    from swift.args.base import DataArgs, HubArgs

PLACES = 3  # named for each finding
SKIPPED = {  # reason of a skipped row → its mend
    "unknown role": "use system, user, assistant and tool, or map the column that holds the role",
    "two questions in a row": "join them, or add the answer between",
    "system message that is not the first": "move the system text to the front",
    "empty answer": "fill in the answer, or leave the row out",
    "no messages": "fill in the messages, or leave the row out",
    "messages cannot be read": "write messages as a list of objects with role and content",
    "a message without content": "name the text of a message content",
    "content part that is not text": "give the text alone, or use a multimodal model",
    "no column that SWIFT knows": 'name your columns with --columns, e.g. \'{"my_question": "query", "my_answer": "response"}\'',
    "rejected equals the answer": "leave the pair out: it says nothing about which answer is better",
    "label cannot be read": "number the classes from 0",
    "tools cannot be read": "write tools as a JSON list of objects",
    "broken Unicode": "write the file again as UTF-8, without halves of surrogate pairs",
    "more cells than columns": "put cells that hold a comma between quotes",
}


@dataclass(frozen=True)
class Finding:
    """`code` is stable, for scripts; `message` says what is odd, `count` in how many rows, `mend` what to do."""

    code: str
    message: str
    count: int
    places: tuple[Origin, ...]
    mend: str

    def line(self) -> str:
        """For people: one line."""
        where = ", ".join(map(str, self.places)) + (", …" if self.count > len(self.places) else "")
        rows = f"{self.count:,} row{'' if self.count == 1 else 's'}"
        return f"{self.code} ({rows}{f': {where}' if where else ''}): {self.message}. Mend: {self.mend}."


class TokenRows(Protocol):
    """Encoded rows: `[i]` gives the examples of row i as arrays."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> list[dict[str, np.ndarray]]: ...


class TemplateFacts(Protocol):
    """What the doctor asks of a Template."""

    tokenizer: Any
    stop_ids: frozenset[int]
    max_length: int | None


@dataclass(slots=True)
class Count:
    rows: int = 0
    places: list[Origin] = field(default_factory=list)

    def add(self, origin: Origin | None) -> None:
        self.rows += 1
        if origin is not None and len(self.places) < PLACES:
            self.places.append(origin)


class Chart:
    """The samples of one run as they come by: what was seen of each symptom, and what must be remembered to compare rows."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self.rows = 0
        self.seen: dict[str, Count] = {symptom.code: Count() for symptom in SYMPTOMS}
        self.whole: set[bytes] = set()  # digests of rows, and of what is said in them
        self.words: set[bytes] = set()
        self.twice, self.leaked, self.mixed, self.contrary = Count(), Count(), Count(), Count()
        self.plain = 0  # rows whose question and answer have a plain language
        self.labels: Counter[str] = Counter()
        self.of_text: dict[bytes, str] = {}  # digest of a question → its label
        self.said: Counter[str] = Counter()  # short answers

    def add(self, sample: Sample) -> None:
        self.rows += 1
        for symptom in SYMPTOMS:
            if symptom.seen(sample, self.patient):
                self.seen[symptom.code].add(sample.origin)
        self.words.add(digest(sample))
        whole = digest(sample, whole=True)
        if whole in self.whole:
            self.twice.add(sample.origin)
        self.whole.add(whole)
        spoken = languages(sample)
        if spoken is not None:
            self.plain += 1
            if spoken[0] != spoken[1]:
                self.mixed.add(sample.origin)
        if sample.label is not None:
            self.labels[repr(sample.label)] += 1
            first = self.of_text.setdefault(digest(sample, labelled=False), repr(sample.label))
            if first != repr(sample.label):
                self.contrary.add(sample.origin)
        if (last := answers(sample)[-1:]) and len(last[0].content) < 200 and questions(sample):
            self.said[last[0].content.strip()] += 1

    def compare(self, sample: Sample) -> None:
        """A row to judge by: is it one of the training rows?"""
        if digest(sample) in self.words:
            self.leaked.add(sample.origin)


def examine(
    data: DataArgs,
    hub_args: HubArgs,
    *,
    task: Task = "sft",
    template: TemplateFacts | None = None,
    rows: TokenRows | None = None,
    tally: Tally | None = None,
) -> list[Finding]:
    """All findings, the ones that touch most rows first.

    Reads the data sets of `data` anew, so that rows which cannot be used are seen too. `rows` are the encoded training rows, `tally` is
    the run's, with what encoding skipped.
    """
    special = frozenset(getattr(template.tokenizer, "all_special_tokens", ())) if template is not None else frozenset()
    chart = Chart(Patient(task, special))
    columns = Columns(data.columns, keep_extra=not data.remove_unused_columns, task=task, seed=data.data_seed)
    skipped = Tally()
    findings = []
    for word in data.dataset:
        findings += _read(word, data, hub_args, columns, skipped, chart.add)
    for word in data.val_dataset:
        findings += _read(word, data, hub_args, columns, skipped, chart.compare)
    findings += _of_columns(columns)
    findings += _of_skips(skipped)
    findings += _of_chart(chart)
    if template is not None and rows is not None:
        findings += _of_tokens(rows, template)
    for stage in tally.stages if tally is not None else ():
        findings += _of_skips(stage, None if stage.title.startswith("validation") else chart)
    return sorted(_merged(findings), key=lambda finding: -finding.count)


def _read(word: str, data: DataArgs, hub_args: HubArgs, columns: Columns, tally: Tally, take: Any) -> Iterator[Finding]:
    try:
        for sample in read_samples(word, data, hub_args, columns, tally):
            take(sample)
    except DataError as error:
        yield _of_file(error)


# files


def _of_file(error: DataError) -> Finding:
    """A file that cannot be read to its end: how many of its lines are broken."""
    found = re.match(r"(.+?) line (\d+): ", str(error))
    if found is None:
        return Finding("unreadable-file", str(error).rstrip("."), 1, (), "see the message")
    path, line = Path(found.group(1)), int(found.group(2))
    lines = list(_broken_lines(path)) if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".txt", ".csv", ".tsv")) else []
    utf8 = "not UTF-8" in str(error)
    code, mend = (
        ("bad-utf8", "save the file as UTF-8 (iconv -f <its encoding> -t utf-8)")
        if utf8
        else ("broken-json", "write one whole JSON object on each line; a program writes them best (json.dumps)")
    )
    places = tuple(Origin(str(path), number) for number in lines[:PLACES]) or (Origin(str(path), line),)
    message = str(error).partition(": ")[2].rstrip(".") + "; the file is read no further"
    return Finding(code, message, max(len(lines), 1), places, mend)


def _broken_lines(path: Path) -> Iterator[int]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    json_lines = path.name.lower().removesuffix(".gz").endswith(".jsonl")
    with suppress(EOFError, OSError, zlib.error), opened(path, "rb") as file:  # a .gz that is cut off: what there is of it
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if json_lines and text.strip():
                    json.loads(text)
            except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
                yield number


def _of_columns(columns: Columns) -> Iterator[Finding]:
    for note in columns.notes.values():
        yield Finding(note.kind.replace(" ", "-"), note.what, note.count, (note.origin,), note.mend)


def _of_skips(tally: Tally, chart: Chart | None = None) -> Iterator[Finding]:
    """Rows that cannot be used. With `chart`, only what encoding found and the chart does not say already."""
    for reason, skips in tally.skips.items():
        if chart is not None and reason in ("no answer", "empty answer"):
            continue
        places = tuple(origin for origin, _ in skips.examples if origin is not None)
        detail = skips.examples[0][1] if skips.examples else ""
        mend = SKIPPED.get(reason, "mend these rows, or leave them out")
        if reason.startswith("longer than max_length"):
            share = skips.count / max(tally.read, 1)
            if share <= 0.1:
                continue
            mend = "raise --max_length, or cut rows with --truncation_strategy left or right"
            yield Finding("mostly-too-long", f"{share:.0%} of the rows are {reason} and left out", skips.count, places, mend)
            continue
        if "truncation" in reason:
            mend = "raise --max_length: the questions alone fill it"
        yield Finding(re.sub(r"[^a-z]+", "-", reason.lower()).strip("-"), detail or reason, skips.count, places, mend)


# rows and sets of rows


def _of_chart(chart: Chart) -> Iterator[Finding]:
    for symptom in SYMPTOMS:
        count = chart.seen[symptom.code]
        if count.rows > symptom.share * chart.rows:
            yield _finding(symptom, count)
    if chart.twice.rows > 0.01 * chart.rows:
        what = "rows are there more than once, word for word"
        yield Finding("duplicate-rows", what, chart.twice.rows, tuple(chart.twice.places), "leave the repetitions out; NAME#N repeats rows")
    if chart.leaked.rows:
        what = "validation rows are training rows too: the validation loss will look better than it is"
        yield Finding("leakage", what, chart.leaked.rows, tuple(chart.leaked.places), "take them out of one of the two")
    # a set of translations differs in all rows, and is meant to
    if chart.mixed.rows and (chart.plain < 4 or chart.mixed.rows <= 0.5 * chart.plain):
        what = "the answer is written in another script than the question"
        yield Finding(
            "mixed-languages", what, chart.mixed.rows, tuple(chart.mixed.places), "check that these answers are the ones you want"
        )
    if chart.contrary.rows:
        what = "the same text has another label in an earlier row"
        yield Finding("contrary-labels", what, chart.contrary.rows, tuple(chart.contrary.places), "decide for one label")
    labelled = sum(chart.labels.values())
    if labelled >= 4 and len(chart.labels) == 1:
        what = f"every label is {next(iter(chart.labels))}: there is nothing to tell apart"
        yield Finding("one-label", what, labelled, (), "add rows of the other labels")
    if 0 < labelled < chart.rows:
        what = f"rows have no label, {labelled:,} others have one"
        yield Finding("label-missing", what, chart.rows - labelled, (), "add the label, or leave these rows out")
    answer, times = chart.said.most_common(1)[0] if chart.said else ("", 0)
    if times >= 10 and times > 0.8 * chart.rows and not labelled:
        what = f"{times / chart.rows:.0%} of the answers are {answer[:60]!r}"
        yield Finding("one-answer", what, times, (), "check which column is the answer")


def _finding(symptom: Symptom, count: Count) -> Finding:
    return Finding(symptom.code, symptom.what, count.rows, tuple(count.places), symptom.mend)


# tokens


def _of_tokens(rows: TokenRows, template: TemplateFacts) -> Iterator[Finding]:
    """Of the encoded rows: two BOS tokens, no stop token at the end, cut at max_length."""
    tokenizer, limit = template.tokenizer, template.max_length
    bos = tokenizer.bos_token_id
    double = unstopped = cut = total = 0
    for index in range(len(rows)):
        for example in rows[index]:
            ids, weights = example["input_ids"], example["weights"]
            total += 1
            double += bos is not None and bool(ids[:1] == bos) and bool(ids[1:2] == bos)
            learned = np.flatnonzero(weights)
            unstopped += len(learned) > 0 and int(example["labels"][learned[-1]]) not in template.stop_ids
            cut += limit is not None and len(ids) == limit
    if double:
        mend = f"remove {tokenizer.bos_token} from the texts: it is written before each row anyway"
        yield Finding("double-bos", "rows begin with two BOS tokens", double, (), mend)
    if unstopped:
        what = "the last learned token of rows is not one that ends an answer: from these the model does not learn to stop"
        yield Finding("missing-eos", what, unstopped, (), "raise --max_length, or give loss to the end of the last answer")
    if cut > 0.1 * total:
        what = f"{cut / total:.0%} of the rows are cut at --max_length {limit}"
        yield Finding("mostly-truncated", what, cut, (), "raise --max_length, or split long rows")


def digest(sample: Sample, *, labelled: bool = True, whole: bool = False) -> bytes:
    """A row's questions and answers as 16 bytes: equal for rows that say the same. `whole`: with its system text, tools and columns."""
    said: list[Any] = [(m.role, m.content.strip(), m.tool_calls) for m in sample.messages if m.role != "system"]
    said += [[(m.role, m.content.strip()) for m in sample.rejected]] if sample.rejected else []
    said += [sample.label] if labelled else []
    said += [[m.content for m in sample.messages if m.role == "system"], sample.tools, sample.extra] if whole else []
    return hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(errors="replace"), digest_size=16).digest()


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of several files under one code and message are one."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = (finding.code, finding.message)
        if key in found:
            before = found[key]
            places = (*before.places, *finding.places)[:PLACES]
            finding = Finding(finding.code, finding.message, before.count + finding.count, places, finding.mend)
        found[key] = finding
    return list(found.values())

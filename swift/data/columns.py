"""A row's columns → Sample: messages, ShareGPT, alpaca, query/response, preference and plain text, with `--columns` before all of it.

Which columns mean what is ALIASES; where a row has several for one meaning, the first in the list is taken and this is said once.
"""

from __future__ import annotations

import difflib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swift import logs
from swift.data.messages import are_messages, check_order, is_blank, read_history, read_messages, read_transcript
from swift.data.sample import Message, Origin, Sample
from swift.data.values import read_label, read_tools, text
from swift.template.encoded import RowSkipped

Task = Literal["sft", "pt", "infer", "seq_cls"]

# Meaning → column names in order of priority, compared without case.
ALIASES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations"),
    "system": ("system", "system_prompt"),
    "query": ("query", "prompt", "question", "instruction", "problem", "input"),
    "response": (
        "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution", "text", "completion", "content",
    ),
    "history": ("history",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "rejected_response": ("rejected_response",),
    "rejected_messages": ("rejected_messages",),
    "label": ("label", "labels", "kto_tag"),
    "tools": ("tools",),
    "images": ("images", "image"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
    "objects": ("objects",),
}  # fmt: skip
MEDIA = ("images", "videos", "audios", "objects")
TEXT_TO_CLASSIFY = ("text", "content", "sentence")  # names of an answer that are the question where a text is classified
BESIDE = ("system", "rejected_response", "rejected_messages", "label", "tools", *MEDIA)  # read in every shape of row
NAMES = sorted({name for names in ALIASES.values() for name in names})


@dataclass(slots=True)
class Note:
    """Something about a file's columns that a person should look at: what, since which row, in how many rows."""

    kind: Literal["misspelt column", "ambiguous columns", "half a pair"]
    what: str
    mend: str
    origin: Origin  # the first row
    count: int = 0


@dataclass(slots=True)
class Plan:
    """How rows with one set of columns are read."""

    shape: Literal["messages", "alpaca", "query"]
    source: dict[str, str]  # meaning → column of the row
    extra: list[tuple[str, str]]  # name in Sample.extra, column of the row; in the row's order
    notes: list[Note]


class Columns:
    """Turns rows into Samples for one run; raises RowSkipped for a row that cannot be used."""

    def __init__(self, mapping: Mapping[str, str] | None = None, *, keep_extra: bool = False, task: Task = "sft", seed: int = 42) -> None:
        self.mapping = {name.lower(): target for name, target in (mapping or {}).items()}
        self.keep_extra, self.task, self.seed = keep_extra, task, seed
        self.mapped: set[str] = set()  # names of `mapping` that some row had
        self.seen: set[str] = set()  # all column names so far, in lower case
        self.notes: dict[tuple[str, str, str], Note] = {}  # (file, kind, columns) → note
        self._file = ""
        self._plans: dict[tuple[bool, tuple[str, ...]], Plan] = {}
        self._told: set[str] = set()

    def __call__(self, values: dict[str, Any], origin: Origin, *, renamed: bool = False) -> Sample:
        """`renamed`: the mapping is done already, by a registered data set's conversion."""
        if origin.file != self._file:
            self._file, self._plans, self._told = origin.file, {}, set()
        present = tuple(key for key, value in values.items() if value is not None)
        plan = self._plans.get((renamed, present))
        if plan is None:
            plan = self._plans[renamed, present] = self._make_plan(present, origin, renamed)
        for note in plan.notes:
            note.count += 1
        return self._sample(plan, values, origin)

    # Columns to plan

    def _make_plan(self, present: tuple[str, ...], origin: Origin, renamed: bool) -> Plan:
        self.seen.update(column.lower() for column in present)
        names = {column.lower(): column for column in present} if renamed else self._renamed(present, origin)
        notes: list[Note] = []
        query, response = ALIASES["query"], ALIASES["response"]
        if self.task == "seq_cls":
            query, response = (*query, *TEXT_TO_CLASSIFY), tuple(name for name in response if name not in TEXT_TO_CLASSIFY)
        # what a data set of preferences calls chosen is the answer; beside our own columns for it, these are only columns
        pair = "chosen" in names and "rejected" in names and "rejected_response" not in names and "rejected_messages" not in names
        source: dict[str, str] = {}
        if pair:
            source = {"chosen": names["chosen"], "rejected": names["rejected"]}
        shape: Literal["messages", "alpaca", "query"]
        if any(name in names for name in ALIASES["messages"]):
            shape = "messages"
            self._take("messages", ALIASES["messages"], names, source, origin, notes)
        elif "instruction" in names and "input" in names:
            shape = "alpaca"
            source |= {"instruction": names["instruction"], "input": names["input"]}
            if not pair:
                self._take("response", ("output", *response), names, source, origin, notes)
            self._take("history", ALIASES["history"], names, source, origin, notes)
        else:
            shape = "query"
            self._take("query", query, names, source, origin, notes)
            if not pair:
                self._take("response", response, names, source, origin, notes)
            self._take("history", ALIASES["history"], names, source, origin, notes)
        for meaning in BESIDE:
            self._take(meaning, ALIASES[meaning], names, source, origin, notes)

        used = {column: meaning for meaning, column in source.items()}
        extra, unused = [], []
        for name, column in names.items():
            meaning = used.get(column)
            if meaning in MEDIA:
                extra.append((meaning, column))
            elif meaning is None or name == "solution":  # rewards read the solution that is also the answer
                if self.keep_extra:
                    extra.append((name if name in self.mapping.values() else column, column))
                if meaning is None:
                    unused.append(column)
        self._tell(unused, names, used, origin, notes)
        return Plan(shape, source, extra, notes)

    def _note(self, kind: Any, columns: str, what: str, mend: str, origin: Origin) -> Note:
        return self.notes.setdefault((origin.file, kind, columns), Note(kind, what, mend, origin))

    def _renamed(self, present: tuple[str, ...], origin: Origin) -> dict[str, str]:
        """Name after `--columns`, in lower case → column. A mapped column comes before one that has the name by itself."""
        own = {column.lower(): column for column in present}
        asked: dict[str, str] = {}
        for name, target in self.mapping.items():
            if name not in own:
                continue
            self.mapped.add(name)
            if target.lower() in asked and name != target.lower():
                logs.warn_once(f"{origin.file}: --columns maps several columns to {target!r}; {asked[target.lower()]!r} is used")
            asked.setdefault(target.lower(), own[name])
        moved = {own[name] for name in self.mapping if name in own}
        names = {}
        for column in present:
            if column in moved:
                names.update((target, source) for target, source in asked.items() if source == column)
            elif column.lower() not in asked:
                names[column.lower()] = column
        return names

    def _take(
        self, meaning: str, aliases: tuple[str, ...], names: dict[str, str], source: dict[str, str], origin: Origin, notes: list[Note]
    ) -> None:
        found = list(dict.fromkeys(names[name] for name in aliases if name in names and names[name] not in source.values()))
        if not found or meaning in source:
            return
        source[meaning] = found[0]
        others = [name for name in found[1:] if name.lower() != "solution"]
        if others:
            several = ", ".join(map(repr, found))
            what = f"columns {several} can all be the {meaning}; {found[0]!r} is used"
            mend = f"Choose another with --columns '{json.dumps({others[0]: meaning})}'"
            notes.append(self._note("ambiguous columns", several, what, mend, origin))
            logs.warn_once(f"{origin.file}: {what}. {mend}")
            self._told.update(others)

    def _tell(self, unused: list[str], names: dict[str, str], used: dict[str, str], origin: Origin, notes: list[Note]) -> None:
        """Name columns that nothing reads, once a file, with a suggestion where one looks misspelt."""
        fresh = [column for column in unused if column not in self._told and column.lower() not in self.mapping]
        self._told.update(fresh)
        free = [name for name in NAMES if name not in names]
        plain = []
        for column in unused:
            near = [] if column.lower() in NAMES else difflib.get_close_matches(column.lower(), free, n=1, cutoff=0.78)
            if near:
                what = f"column {column!r} is not known and not used (did you mean {near[0]!r}?)"
                mend = f"rename it in the file, or with --columns '{json.dumps({column: near[0]})}'"
                notes.append(self._note("misspelt column", column, what, mend, origin))
                if column in fresh:
                    logs.warn_once(f"{origin}: {what}")
            elif column in fresh:
                plain.append(column)
        half = [name for name in ("chosen", "rejected") if name in names and names[name] in unused]
        if len(half) == 1 and not ("chosen" in names and "rejected" in names):
            what = "of chosen and rejected there is only one column; it is not used"
            notes.append(self._note("half a pair", half[0], what, "give both, or map it to response with --columns", origin))
            logs.warn_once(f"{origin.file}: {what}")
        if plain and not self.keep_extra:
            names_of = ", ".join(plain)
            logs.info_once(f"{origin.file}: columns that are not used: {names_of} (--columns maps, --remove_unused_columns false keeps)")
        media = [meaning for meaning in used.values() if meaning in MEDIA]
        if media:
            logs.warn_once(f"{origin.file}: {', '.join(media)} are kept but not shown to a text model; tags such as <image> stay text")

    # Plan and row to sample

    def _sample(self, plan: Plan, values: dict[str, Any], origin: Origin) -> Sample:
        def get(meaning: str) -> Any:
            column = plan.source.get(meaning)
            return None if column is None else values[column]

        messages = read_messages(get("messages")) if plan.shape == "messages" else self._flat_messages(plan, get, values, origin)
        system = get("system")
        # An empty cell of a table says nothing; an empty string in JSON asks for no system text at all.
        if system == "" and origin.file.removesuffix(".gz").endswith((".csv", ".tsv")):
            system = None
        if system is not None and (not messages or messages[0].role != "system"):
            messages.insert(0, Message("system", text(system, "system")))
        if "chosen" in plan.source:
            asked = _without_answer(messages)
            messages = _answered(asked, get("chosen"), "chosen")
            check_order(messages)
            rejected = _judged(messages, _answered(asked, get("rejected"), "rejected"), "rejected")
        else:
            if self.task == "infer" and messages and is_blank(messages[-1]):
                messages.pop()  # a placeholder for the answer that is asked for
            check_order(messages)
            rejected = _rejected(messages, get("rejected_response"), get("rejected_messages"))
        return Sample(
            messages,
            rejected=rejected,
            label=read_label(get("label")),
            tools=read_tools(get("tools")),
            extra={name: values[column] for name, column in plan.extra},
            origin=origin,
        )

    def _flat_messages(self, plan: Plan, get: Callable[[str], Any], values: dict[str, Any], origin: Origin) -> list[Message]:
        if plan.shape == "alpaca":
            parts = [text(get("instruction"), "instruction"), text(get("input"), "input")]
            query: Any = "\n".join(part for part in parts if part)
        else:
            query = get("query")
        response = get("response")
        if query is None and response is None and "chosen" not in plan.source:
            columns = ", ".join(list(values)[:8])
            raise RowSkipped("no column that SWIFT knows", f"none of its columns is a prompt, an answer or messages: {columns}")
        messages = read_history(get("history"))
        for name, value in (("query", query), ("response", response)):
            if are_messages(value):  # a prompt and a completion that are conversations
                messages += read_messages(value, name)
            elif value is not None:
                messages.append(Message("user" if name == "query" else "assistant", text(self._one_of(value, origin), name)))
        return messages

    def _one_of(self, value: Any, origin: Origin) -> Any:
        """One element of a list of alternatives, by chance that depends on data_seed and the row only."""
        if isinstance(value, list) and value:
            return random.Random(f"{self.seed} {origin.line}").choice(value)
        return value


def to_row(sample: Sample) -> dict[str, Any]:
    """The row that reads back as this sample, in the messages shape."""
    row: dict[str, Any] = {"messages": [_to_message(message) for message in sample.messages]}
    if sample.rejected is not None:
        row["rejected_messages"] = [_to_message(message) for message in sample.rejected]
    if sample.label is not None:
        row["label"] = sample.label
    if sample.tools is not None:
        row["tools"] = sample.tools
    return row | sample.extra


def _to_message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls is not None:
        row["tool_calls"] = message.tool_calls
    if message.loss is not None:
        row["loss"] = message.loss
    return row


# Pairs of answers


def _without_answer(messages: list[Message]) -> list[Message]:
    end = len(messages)
    while end and messages[end - 1].role == "assistant":
        end -= 1
    return messages[:end]


def _answered(asked: list[Message], value: Any, name: str) -> list[Message]:
    """`asked` with the answer that a column chosen or rejected holds: a text, a message, messages, or a whole conversation of its own."""
    prompted = any(message.role != "system" for message in asked)
    if isinstance(value, str):
        transcript = None if prompted else read_transcript(value)
        return [*asked, *(transcript or [Message("assistant", text(value, name))])]
    answer = read_messages(value, name)
    if answer[0].role == "assistant":
        return [*asked, *answer]
    return [*(message for message in asked if message.role == "system" and answer[0].role != "system"), *answer]


def _judged(messages: list[Message], rejected: list[Message], name: str) -> list[Message]:
    """The worse conversation, if it asks the same and answers otherwise."""
    check_order(rejected, f"{name} message")
    asked, asked_too = ([(m.role, m.content) for m in side if m.role != "assistant"] for side in (messages, rejected))
    if asked != asked_too:
        raise RowSkipped(f"{name} asks something else", f"the two conversations differ in more than the answers ({name})")
    if [(m.content, m.tool_calls) for m in messages] == [(m.content, m.tool_calls) for m in rejected]:
        raise RowSkipped("rejected equals the answer", f"{name} is the same as the answer")
    return rejected


def _rejected(messages: list[Message], response: Any, conversation: Any) -> list[Message] | None:
    """The conversation with the worse answer, its own history included."""
    if conversation is not None:
        rejected = read_messages(conversation, "rejected_messages")
        if messages[0].role == "system":
            rejected = [messages[0], *(rejected[1:] if rejected[0].role == "system" else rejected)]
        return _judged(messages, rejected, "rejected_messages")
    if response is None:
        return None
    answer = text(response, "rejected_response")
    if messages[-1].role != "assistant":
        return [*messages, Message("assistant", answer)]
    if answer == messages[-1].content:
        raise RowSkipped("rejected equals the answer", "rejected_response is the same as the last answer")
    return [*messages[:-1], Message("assistant", answer)]

"""Converters of rows that people subclass, and `Table`: what a function over a whole data set is given.

A converter turns the columns of a row into columns that columns.py knows; what it returns replaces the row.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from swift import logs
from swift.data.columns import ALIASES, MEDIA, NAMES, to_row
from swift.data.messages import are_messages, read_history, read_messages
from swift.data.sample import Message, Sample
from swift.data.values import literal, text
from swift.errors import PluginError
from swift.registry import did_you_mean
from swift.template.encoded import RowSkipped

Values = dict[str, Any]
Result = Values | list[Values] | None


def rename(values: Values, mapping: Mapping[str, str]) -> Values:
    """The row with its columns renamed; sources are compared without case, and a renamed column comes before one of the same name.

    Of several columns for one target the first in the mapping is taken; where the target is none that SWIFT knows (`_` hides), all are.
    """
    own = {name.lower(): name for name, value in values.items() if value is not None}
    moved: dict[str, str] = {}
    hidden: set[str] = set()
    for source, target in mapping.items():
        column = own.get(source.lower())
        if column is None:
            continue
        if moved.setdefault(target, column) != column and target.lower() not in NAMES:
            hidden.add(column)
    if not moved:
        return values
    gone = {*moved, *moved.values(), *hidden}
    return {name: value for name, value in values.items() if name not in gone} | {to: values[name] for to, name in moved.items()}


class RowPreprocessor:
    """Subclasses write `preprocess`. `columns` renames before it; `dataset_sample` draws that many rows first."""

    columns: Mapping[str, str]

    def __init__(
        self,
        *,
        columns: Mapping[str, str] | None = None,
        dataset_sample: int | None = None,
        random_state: Any = 42,
        traceback_limit: int = 10,
    ) -> None:
        self.columns = dict(columns or {})
        self.dataset_sample, self.traceback_limit = dataset_sample, traceback_limit
        self.random_state = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)

    def preprocess(self, row: Values) -> Result:
        """The row in columns that SWIFT knows, several rows, or None to leave it out."""
        raise NotImplementedError(f"{type(self).__name__} must have a method preprocess(self, row)")

    def prepare_dataset(self, dataset: Any) -> Any:
        """All rows before the first is converted; for subclasses that need them."""
        return dataset

    @property
    def by_row(self) -> bool:
        """Whether each row can be converted by itself, as it is read."""
        plain = type(self).prepare_dataset is RowPreprocessor.prepare_dataset and type(self).__call__ is RowPreprocessor.__call__
        return plain and self.dataset_sample is None

    def convert(self, row: Values) -> Result:
        return self.preprocess(dict(rename(row, self.columns)))

    def __call__(self, dataset: Iterable[Values], *, num_proc: int = 1, strict: bool = False, **options: Any) -> Table:
        """All rows. Those that fail are left out and counted, or with `strict` stop the run. Rows are converted in this process."""
        rows = self.prepare_dataset(dataset)
        if self.dataset_sample is not None:
            rows = list(rows)
            drawn = self.random_state.permutation(len(rows))[: self.dataset_sample]
            rows = [rows[at] for at in drawn]
        found: list[Values] = []
        failed = 0
        for row in rows:
            try:
                found += as_rows(self.convert(row))
            except Exception as error:  # the subclass is a person's code, a faulty row must not end the run
                if strict:
                    raise
                failed += 1
                if failed == 1:
                    logs.warning(f"{type(self).__name__}: a row is left out: {type(error).__name__}: {error}")
        if failed:
            logs.warning(f"{type(self).__name__}: {failed:,} rows could not be converted and are left out")
        return Table(found)


def as_rows(result: Any) -> list[Values]:
    """What a conversion returned, as rows. Raises RowSkipped for what is none."""
    if result is None:
        return []
    rows = list(result) if isinstance(result, list | tuple) else [result]
    for row in rows:
        if not isinstance(row, Mapping):
            raise RowSkipped("the data set's own conversion gave no row", f"it gave {type(row).__name__} instead of a dictionary")
    return rows


class ResponsePreprocessor(RowPreprocessor):
    """`query`, `response`, `system` and `history`, or another name of theirs, → `messages`."""

    meanings: tuple[str, ...] = ("system", "query", "response", "history", *MEDIA)

    def convert(self, row: Values) -> Result:
        row = rename(row, self.columns)
        return self.preprocess(dict(rename(row, _aliases(row, self.meanings))))

    def preprocess(self, row: Values) -> Result:
        row = dict(row)
        system, query, response, history = (row.pop(name, None) for name in ("system", "query", "response", "history"))
        if isinstance(response, list | tuple) and response and not are_messages(response):
            response = response[self.random_state.randint(len(response))]
        messages = [] if system is None else [Message("system", text(system, "system"))]
        messages += read_history(history)
        for name, value in (("query", query), ("response", response)):
            if are_messages(value):
                messages += read_messages(value, name)
            elif value is not None:
                messages.append(Message("user" if name == "query" else "assistant", text(value, name)))
        return {"messages": _written(messages), **row}


class AlpacaPreprocessor(ResponsePreprocessor):
    """`instruction`, `input` and `output` → `messages`."""

    meanings = ("system", "history", *MEDIA)

    @staticmethod
    def concat_inst_input(instruction: str | None, input_: str | None) -> str:
        return "\n".join(part for part in (instruction, input_) if part)

    def preprocess(self, row: Values) -> Result:
        row = dict(row)
        query = self.concat_inst_input(row.pop("instruction", None), row.pop("input", None))
        response = row.pop("output", None)
        row = rename(row, _aliases(row, ("response",)))
        return super().preprocess({**row, "query": query, "response": row.get("response") if response is None else response})


class MessagesPreprocessor(RowPreprocessor):
    """Messages whose keys and roles have names of their own → `messages`; `inner_key` is where in the column the list stands."""

    def __init__(
        self,
        *,
        role_key: str | None = None,
        content_key: str | None = None,
        user_role: str | Sequence[str] | None = None,
        assistant_role: str | Sequence[str] | None = None,
        system_role: str | None = None,
        tool_role: str | None = None,
        inner_key: str | None = None,
        repair_messages: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.role_key, self.content_key, self.inner_key, self.repair_messages = role_key, content_key, inner_key, repair_messages
        roles = {"user": user_role, "assistant": assistant_role, "system": system_role, "tool": tool_role}
        self.roles = {name: to for to, names in roles.items() for name in ([names] if isinstance(names, str) else names or [])}

    def convert(self, row: Values) -> Result:
        row = rename(row, self.columns)
        return self.preprocess(dict(rename(row, _aliases(row, ("messages", "system", *MEDIA)))))

    def preprocess(self, row: Values) -> Result:
        row = dict(rename(row, _aliases(row, ("messages", "system"))))
        value = row.pop("messages", None)
        if self.inner_key is not None and isinstance(value, Mapping):
            value = value.get(self.inner_key)
        if self.repair_messages is not None:
            value = self.repair_messages(value)
        messages = read_messages(self._spelt(value))
        system = row.pop("system", None)
        if system is not None and messages[0].role != "system":
            messages.insert(0, Message("system", text(system, "system")))
        row = {"messages": _written(messages), **row}
        rejected = row.get("rejected_messages")
        return row if rejected is None else row | {"rejected_messages": _written(read_messages(self._spelt(rejected), "rejected_messages"))}

    def _spelt(self, value: Any) -> Any:
        """The same messages with our names for keys and roles."""
        value = literal(value, "messages") if isinstance(value, str) else value
        if not isinstance(value, list | tuple):
            return value
        return [self._message(item) if isinstance(item, Mapping) else item for item in value]

    def _message(self, item: Mapping[str, Any]) -> Values:
        keys = {name: to for name, to in ((self.role_key, "role"), (self.content_key, "content")) if name}
        # without a role's key the roles are keys themselves: {"question": …, "answer": …}
        message = {keys.get(name) or self.roles.get(name) or name: value for name, value in item.items()}
        for key in ("role", "from"):
            if key in message:
                message[key] = self.roles.get(message[key], message[key])
        return message


class AutoPreprocessor(RowPreprocessor):
    """One of the three above, by the row's columns."""

    def preprocess(self, row: Values) -> Result:
        if any(name in row for name in ALIASES["messages"]):
            return MessagesPreprocessor().convert(row)
        if "instruction" in row and "input" in row:
            return AlpacaPreprocessor().convert(row)
        return ResponsePreprocessor().convert(row)


def _aliases(row: Values, meanings: Iterable[str]) -> dict[str, str]:
    """The column of each meaning that a row has under another name; the first of ALIASES where it has several."""
    own = {name.lower(): name for name, value in row.items() if value is not None}
    found = {}
    for meaning in meanings:
        name = next((own[alias] for alias in ALIASES[meaning] if alias in own), None)
        if name is not None and name != meaning:
            found[name] = meaning
    return found


def _written(messages: list[Message]) -> list[Values]:
    return to_row(Sample(messages))["messages"]


class Table(Sequence[Values]):
    """Rows in memory, with those methods of datasets.Dataset that functions over a whole data set use most; others need that package."""

    def __init__(self, rows: Iterable[Values] = ()) -> None:
        self._rows = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Values: ...
    @overload
    def __getitem__(self, at: str) -> list[Any]: ...
    @overload
    def __getitem__(self, at: slice) -> dict[str, list[Any]]: ...
    def __getitem__(self, at: int | str | slice) -> Any:
        """A row; with a column's name its values; with a slice each column's values, as datasets.Dataset has it."""
        if isinstance(at, str):
            return [row.get(at) for row in self._rows]
        if isinstance(at, slice):
            return {name: [row.get(name) for row in self._rows[at]] for name in self.column_names}
        return dict(self._rows[at])

    def __iter__(self) -> Iterator[Values]:
        return (dict(row) for row in self._rows)

    @property
    def column_names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row))

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def map(self, function: Callable[..., Any], *, with_indices: bool = False, batched: bool = False, **options: Any) -> Any:
        """`function` of each row gives columns that are added to it."""
        if batched:
            return self._arrow("map")(function, with_indices=with_indices, batched=True, **options)
        gone = options.get("remove_columns") or []
        gone = {gone} if isinstance(gone, str) else set(gone)
        rows = []
        for number, row in enumerate(self):
            given = function(dict(row), number) if with_indices else function(dict(row))
            rows.append({name: value for name, value in row.items() if name not in gone} | dict(given or {}))
        return Table(rows)

    def filter(self, function: Callable[..., Any], *, with_indices: bool = False, batched: bool = False, **options: Any) -> Any:
        if batched:
            return self._arrow("filter")(function, with_indices=with_indices, batched=True, **options)
        return Table(row for number, row in enumerate(self) if (function(row, number) if with_indices else function(row)))

    def select(self, indices: Iterable[int]) -> Table:
        return Table(self._rows[int(at)] for at in indices)

    def shuffle(self, seed: int | None = None) -> Table:
        return self.select(np.random.default_rng(seed).permutation(len(self)))

    def rename_column(self, name: str, to: str) -> Table:
        return self.rename_columns({name: to})

    def rename_columns(self, names: Mapping[str, str]) -> Table:
        for name in names:
            if self._rows and name not in self.column_names:
                raise ValueError(f"there is no column {name!r}{did_you_mean(name, self.column_names)}")
        return Table({names.get(name, name): value for name, value in row.items()} for row in self._rows)

    def remove_columns(self, names: str | Iterable[str]) -> Table:
        gone = {names} if isinstance(names, str) else set(names)
        return Table({name: value for name, value in row.items() if name not in gone} for row in self._rows)

    def select_columns(self, names: str | Iterable[str]) -> Table:
        kept = [names] if isinstance(names, str) else list(names)
        return Table({name: row.get(name) for name in kept} for row in self._rows)

    def add_column(self, name: str, column: Sequence[Any]) -> Table:
        return Table({**row, name: value} for row, value in zip(self._rows, column, strict=True))

    def to_list(self) -> list[Values]:
        return list(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._arrow(name)

    def _arrow(self, name: str) -> Any:
        """The attribute of a datasets.Dataset with the same rows."""
        if importlib.util.find_spec("datasets") is None:
            raise PluginError(f"a conversion of a whole data set uses .{name}, which needs datasets. Install it with: pip install datasets")
        from datasets import Dataset  # pyright: ignore[reportMissingImports]

        return getattr(Dataset.from_list(self.to_list()), name)


__all__ = [
    "AlpacaPreprocessor",
    "AutoPreprocessor",
    "MessagesPreprocessor",
    "ResponsePreprocessor",
    "RowPreprocessor",
    "Table",
    "as_rows",
    "rename",
]

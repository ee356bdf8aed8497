"""One word of --dataset → its parts (subsets, each with its files) → rows, converted as the registered data set says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift import hub
from swift.data.conversions import CONVERSIONS
from swift.data.folder import files_of_subset
from swift.data.known import Known, find_known
from swift.data.preprocess import MessagesPreprocessor, Table, as_rows, rename
from swift.data.registered import Subset, Values
from swift.data.sample import Origin
from swift.data.source import Item, Row, find_files, locate, read_file
from swift.errors import DataError, PluginError, SwiftError
from swift.template.encoded import RowSkipped

if TYPE_CHECKING:
    from swift.args.base import DataArgs, HubArgs

LEFT_OUT = "left out by the data set's own conversion"


class Part:
    """Rows that are read and converted in one way; `rows()` reads them anew each time."""

    def __init__(self, title: str, read: Callable[[], Iterator[Row]], how: Subset | None, data: DataArgs) -> None:
        self.title, self._read, self._data = title, read, data
        self._how = how or Subset()
        self._mapping = data.columns or {}
        # A conversion wants the names that --columns gives; they are not to be given twice (columns.py).
        self.renamed = bool(self._how.convert or self._how.convert_all or self._how.messages)
        self.mapped: set[str] = set()  # names of --columns that some row had, in lower case

    def rows(self) -> Iterator[Row]:
        """Columns that columns.py knows, or the reason why there are none, each with its origin."""
        how = self._how
        if how.convert_all is not None:
            return self._all(how.convert_all)
        if self.renamed:
            return self._each(self._conversion())
        if how.columns:
            own = {name.lower() for name in self._mapping}  # --columns says otherwise
            columns = {name: target for name, target in how.columns.items() if name.lower() not in own}
            return ((row if isinstance(row, RowSkipped) else rename(row, columns), origin) for row, origin in self._read())
        return self._read()

    def _named(self, values: Values) -> Values:
        if self._mapping:
            self.mapped |= {name.lower() for name in values} & {name.lower() for name in self._mapping}
            values = rename(values, self._mapping)
        return rename(values, self._how.columns) if self._how.columns else values

    def _conversion(self) -> Callable[[Values], Any]:
        convert = self._how.convert
        if convert is None:
            options: dict[str, Any] = dict(self._how.messages or {})
            return MessagesPreprocessor(**options).convert
        function = CONVERSIONS[convert] if isinstance(convert, str) else convert
        return lambda values: function(values, self._data)

    def _each(self, convert: Callable[[Values], Any]) -> Iterator[Row]:
        for values, origin in self._read():
            if isinstance(values, RowSkipped):
                yield values, origin
                continue
            try:
                rows: list[Any] = as_rows(convert(self._named(values))) or [RowSkipped(LEFT_OUT)]
            except RowSkipped as skip:
                rows = [skip]
            except Exception as error:  # a plug-in's code, or a row that is not as the data set was published
                rows = [RowSkipped("the data set's own conversion failed", _said(error))]
            for row in rows:
                yield row, origin

    def _all(self, function: Callable[..., Any]) -> Iterator[Row]:
        """A function that wants the whole data set: all rows are held in memory."""
        rows: list[Values] = []
        for values, origin in self._read():
            if isinstance(values, RowSkipped):
                yield values, origin
            else:
                rows.append(self._named(values))
        try:
            found = _called(function, Table(rows), num_proc=1, strict=self._data.strict)
        except SwiftError:
            raise
        except Exception as error:
            raise PluginError(f"{self.title}: the data set's preprocess_func failed: {_said(error)}") from error
        yield from _numbered(found, self.title)


def open_item(item: Item, data: DataArgs, hub_args: HubArgs) -> list[Part]:
    """The parts of an item, in the order they are read; what must be fetched is fetched here."""
    known = find_known(item.name, hf=hub.uses_hf(hub_args), infos=data.custom_dataset_info)
    force = data.download_mode == "force_redownload"
    if known is None:
        files = find_files(item, hub_args, force_download=force)
        return [Part(item.name, _reader(files), None, data)]
    subsets = known.spec.chosen(item.subsets, item.name)
    if known.spec.load_function is not None:
        return [Part(item.name, _loader(known, subset, data, hub_args), subset, data) for subset in subsets]
    revision = known.spec.hf_revision if hub.uses_hf(hub_args) else known.spec.ms_revision
    path = locate(known.name, hub_args, revision=revision, force_download=force)
    if path.is_file():
        registered = {subset.name.lower() for subset in known.spec.subsets} | {"default", "all"}
        strange = [name for name in item.subsets if name.lower() not in registered]
        if strange:
            raise DataError(f"{item.name} is a file and has no subset {strange[0]!r}; remove what follows the colon")
        return [Part(item.name, _reader([path]), subset, data) for subset in subsets]
    parts = []
    for subset in subsets:
        files = files_of_subset(path, item.name, subset.subset or subset.name, subset.split or ("train",))
        parts.append(Part(item.name, _reader(files), subset, data))
    return parts


def _reader(files: list[Path]) -> Callable[[], Iterator[Row]]:
    return lambda: (row for file in files for row in read_file(file))


def _loader(known: Known, subset: Subset, data: DataArgs, hub_args: HubArgs) -> Callable[[], Iterator[Row]]:
    """A plug-in's load_function in place of files."""
    function = known.spec.load_function
    assert function is not None

    def read() -> Iterator[Row]:
        options = {"num_proc": 1, "strict": data.strict, "streaming": False, "use_hf": hub.uses_hf(hub_args)}
        try:
            found = _called(function, Item(known.name, (subset.name,)), known.spec, **options)
        except SwiftError:
            raise
        except Exception as error:
            raise PluginError(f"{known.name}: the data set's load_function failed: {_said(error)}") from error
        yield from _numbered(found, known.name)

    return read


def _called(function: Callable[..., Any], *words: Any, **options: Any) -> Any:
    """Call with as many of the words and options as the function takes."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function(*words, **options)
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        options = {name: value for name, value in options.items() if any(one.name == name for one in parameters)}
    if not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.name not in options]
        words = words[: len(places)]
    return function(*words, **options)


def _numbered(rows: Iterable[Any], title: str) -> Iterator[Row]:
    """Rows of a function, which know no file: the data set's name and their number stand for it."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield row, Origin(title, number)
        else:
            yield RowSkipped("not an object", f"the row is {type(row).__name__}, not a dictionary of columns"), Origin(title, number)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

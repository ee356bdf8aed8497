"""`register_dataset(DatasetMeta(...))` as people's files have it, over swift.data.known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from swift.data import known
from swift.data.preprocess import AutoPreprocessor, RowPreprocessor
from swift.data.registered import DatasetSpec, Subset, Values, read_infos
from swift.errors import PluginError

PreprocessFunc = Callable[..., Any]


@dataclass
class SubsetDataset:
    """A subset: `name` is what --dataset calls it, `subset` what the hub does. What is None is as the data set says."""

    name: str | None = None
    subset: str = "default"
    split: Sequence[str] | None = None
    preprocess_func: PreprocessFunc | None = None
    is_weak_subset: bool = False


@dataclass
class DatasetMeta:
    """A data set. `preprocess_func`: a RowPreprocessor, or a function from all rows (and num_proc, strict) to rows."""

    ms_dataset_id: str | None = None
    hf_dataset_id: str | None = None
    dataset_path: str | None = None
    dataset_name: str | None = None
    ms_revision: str | None = None
    hf_revision: str | None = None
    subsets: Sequence[str | SubsetDataset] = ("default",)
    split: Sequence[str] = ("train",)
    preprocess_func: PreprocessFunc | None = None
    load_function: Callable[..., Any] | None = None
    tags: Sequence[str] = ()
    help: str | None = None
    huge_dataset: bool = False


def register_dataset(dataset_meta: DatasetMeta, *, exist_ok: bool = False) -> None:
    """Make a data set known to --dataset by its ids, its path and its name. Raises PluginError for a field that is not as expected."""
    if not isinstance(dataset_meta, DatasetMeta):
        raise PluginError(f"register_dataset takes a DatasetMeta, not {type(dataset_meta).__name__}")
    known.register_dataset(to_spec(dataset_meta), exist_ok=exist_ok)


def register_dataset_info(dataset_info: str) -> list[DatasetSpec]:
    """Register what a file of --custom_dataset_info, or its text, says."""
    return [known.register_dataset(spec) for spec in read_infos([dataset_info])]


def to_spec(meta: DatasetMeta) -> DatasetSpec:
    if not any((meta.ms_dataset_id, meta.hf_dataset_id, meta.dataset_path, meta.dataset_name)):
        raise PluginError("DatasetMeta: one of ms_dataset_id, hf_dataset_id and dataset_path must say which data set it is")
    return DatasetSpec(
        ms_dataset_id=meta.ms_dataset_id,
        hf_dataset_id=meta.hf_dataset_id,
        dataset_path=meta.dataset_path,
        dataset_name=meta.dataset_name,
        ms_revision=meta.ms_revision,
        hf_revision=meta.hf_revision,
        subsets=tuple(_subset(one) for one in _list(meta.subsets, "subsets")),
        split=tuple(_list(meta.split, "split")),
        load_function=meta.load_function,
        tags=tuple(meta.tags),
        help=meta.help or "",
        huge_dataset=meta.huge_dataset,
        **_conversion(meta.preprocess_func),
    )


def _subset(value: str | SubsetDataset) -> Subset:
    if isinstance(value, str):
        return Subset(value)
    if not isinstance(value, SubsetDataset):
        raise PluginError(f"DatasetMeta: subsets holds names and SubsetDataset, not {type(value).__name__}")
    split = None if value.split is None else tuple(_list(value.split, "split"))
    return Subset(
        value.name or value.subset, value.subset, split, is_weak_subset=value.is_weak_subset, **_conversion(value.preprocess_func)
    )


def _list(value: Any, field: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise PluginError(f"DatasetMeta: {field} must be a list, not {value!r}")
    return list(value)


def _conversion(function: PreprocessFunc | None) -> dict[str, Any]:
    """A converter's fields of DatasetSpec and Subset."""
    if function is None:
        return {}
    if isinstance(function, type):
        raise PluginError(f"DatasetMeta: preprocess_func is the class {function.__name__}; make one: preprocess_func={function.__name__}()")
    if not callable(function):
        raise PluginError(f"DatasetMeta: preprocess_func must be a RowPreprocessor or a function, not {type(function).__name__}")
    if type(function) is AutoPreprocessor and function.by_row:
        return {"columns": function.columns} if function.columns else {}
    if isinstance(function, RowPreprocessor) and function.by_row:
        return {"convert": _ByRow(function)}
    return {"convert_all": function}


class _ByRow:
    def __init__(self, converter: RowPreprocessor) -> None:
        self.converter = converter

    def __call__(self, values: Values, data: Any) -> Any:
        return self.converter.convert(values)

"""Models, templates and rows for scripts that put the parts together themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swift.args.base import DataArgs, HubArgs, ModelArgs, TemplateArgs
from swift.data.columns import to_row
from swift.data.mix import Samples, SampleStream, load_samples
from swift.errors import UsageError
from swift.hub import download
from swift.models.load import load_model as load_weights
from swift.models.load import load_processor
from swift.models.match import ModelInfo, find_model
from swift.models.spec import model_specs
from swift.template.build import build_template
from swift.template.template import Template

if TYPE_CHECKING:
    from swift.args.commands import InferCommand

Rows = list[dict[str, Any]] | Iterator[dict[str, Any]]


def get_model_tokenizer(
    model_id_or_path: str,
    torch_dtype: Any = None,
    device_map: Any = None,
    *,
    load_model: bool = True,
    use_hf: bool | None = None,
    hub_token: str | None = None,
    revision: str | None = None,
    model_type: str | None = None,
    attn_impl: Any = None,
    task_type: str | None = None,
    num_labels: int | None = None,
    max_memory: dict[Any, Any] | None = None,
    rope_scaling: Any = None,
    max_length: int | None = None,
    model_kwargs: dict[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """(model, tokenizer); the model is None where `load_model` is false, a classifier with `num_labels`.

    `rope_scaling` ("linear", "dynamic", "yarn") stretches positions for rows of `max_length` tokens.
    """
    dtype = None if torch_dtype is None else str(torch_dtype).removeprefix("torch.")
    model = ModelArgs(
        model_id_or_path,
        model_type,
        revision,
        dtype,  # type: ignore[arg-type]
        attn_impl,
        device_map,
        max_memory,
        rope_scaling,
        task_type=task_type,  # type: ignore[arg-type]
        num_labels=num_labels,
        model_kwargs=model_kwargs,
        trust_remote_code=trust_remote_code,
    )
    info = find_model(model, HubArgs(bool(use_hf), hub_token), max_length=max_length)
    return (load_weights(info, model, training=False) if load_model else None), load_processor(info)


def prepare_model_template(args: InferCommand) -> tuple[Any, Template]:
    """(model with its adapters on it, template) of InferArguments or DeployArguments."""
    from swift.commands.infer import ready_engine

    engine = ready_engine(args)
    return engine.shelf.model, engine.template


def get_template(
    template_type: str | None,
    processor: Any,
    default_system: str | None = None,
    max_length: int | None = None,
    *,
    use_chat_template: bool = True,
    truncation_strategy: str = "raise",
    loss_scale: str = "default",
    padding_side: str = "right",
) -> Template:
    """The template of a tokenizer that was loaded from a folder; `template_type` None: the one that `swift sft` would take.

    "raise" and "delete" are one strategy: RowSkipped is raised for a row that is too long.
    """
    strategy = "delete" if truncation_strategy == "raise" else truncation_strategy
    if strategy not in ("delete", "left", "right"):
        raise UsageError(f"get_template: truncation_strategy is raise, delete, left or right, not {truncation_strategy!r}")
    args = TemplateArgs(
        template=template_type,
        system=default_system,
        max_length=max_length,
        truncation_strategy=strategy,  # type: ignore[arg-type]
        loss_scale=loss_scale,  # type: ignore[arg-type]
        use_chat_template=use_chat_template,
        padding_side=padding_side,  # type: ignore[arg-type]
    )
    folder = Path(processor.name_or_path or "-")
    known = (folder / "config.json").is_file()
    info = find_model(ModelArgs(str(folder.absolute())), HubArgs()) if known else ModelInfo(folder.name, None, model_specs["auto"])
    return build_template(info, processor, args)


def load_dataset(
    datasets: str | list[str],
    *,
    split_dataset_ratio: float = 0.0,
    seed: int | None = None,
    num_proc: int = 1,
    streaming: bool = False,
    use_hf: bool | None = None,
    hub_token: str | None = None,
    strict: bool = False,
    download_mode: Any = "reuse_dataset_if_exists",
    columns: dict[str, str] | None = None,
    remove_unused_columns: bool = True,
    model_name: list[str] | None = None,
    model_author: list[str] | None = None,
) -> tuple[Rows, Rows | None]:
    """(training rows, validation rows or None), each row a dictionary with `messages` that InferRequest(**row) takes."""
    data = DataArgs(
        dataset=[datasets] if isinstance(datasets, str) else list(datasets),
        split_dataset_ratio=split_dataset_ratio,
        data_seed=42 if seed is None else seed,
        dataset_num_proc=num_proc,
        streaming=streaming,
        download_mode=download_mode,
        columns=columns,
        strict=strict,
        remove_unused_columns=remove_unused_columns,
        model_name=model_name,
        model_author=model_author,
    )
    loaded = load_samples(data, HubArgs(bool(use_hf), hub_token), task="sft")
    return _rows(loaded.train) or [], _rows(loaded.val)


def _rows(samples: Samples | SampleStream | None) -> Rows | None:
    if samples is None:
        return None
    return [to_row(sample) for sample in samples] if isinstance(samples, Samples) else map(to_row, samples)


def sample_dataset(rows: list[dict[str, Any]], n: int | None, seed: int = 42) -> list[dict[str, Any]]:
    """`n` rows as `--dataset name#n` draws them: whole copies in order, then a random remainder. None: all of them."""
    if n is None:
        return rows
    if not rows or n < 1:
        raise UsageError(f"sample_dataset: {n} rows cannot be drawn from {len(rows)}")
    copies, remainder = divmod(n, len(rows))
    drawn = np.random.RandomState(seed).permutation(len(rows))[:remainder]
    return rows * copies + [rows[at] for at in drawn]


def safe_snapshot_download(
    model_id_or_path: str,
    revision: str | None = None,
    *,
    use_hf: bool | None = None,
    hub_token: str | None = None,
    download_model: bool = True,
) -> str:
    """The local folder of a model or adapter; without `download_model`, everything but its weights is fetched."""
    if model_id_or_path.lower() == "swift/nano":
        return str(find_model(ModelArgs(model_id_or_path), HubArgs()).path)
    hub = HubArgs(bool(use_hf), hub_token)
    return str(download(model_id_or_path, "model", hub, revision=revision, weights=download_model))

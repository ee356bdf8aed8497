"""Which model is meant: from what was asked (a path, a hub id, --model_type) to a ModelInfo. Imports neither torch nor transformers."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swift import hub as hubs
from swift.errors import ModelError, UsageError
from swift.models.families import model_specs
from swift.models.spec import ModelSpec

if TYPE_CHECKING:
    from swift.args.base import HubArgs, ModelArgs

LENGTH_KEYS = (
    "seq_length",
    "max_position_embeddings",
    "n_positions",
    "model_max_length",
    "seq_len",
    "max_seq_len",
    "max_sequence_length",
    "max_seq_length",
)
DTYPE_KEYS = ("torch_dtype", "dtype", "params_dtype")
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class ModelInfo:
    """What was found about a model; never written back into what was asked."""

    name: str  # the last part of its path or id
    path: Path | None  # its folder; None when it is only known once downloaded
    spec: ModelSpec
    config: dict[str, Any] = field(default_factory=dict)  # config.json
    max_length: int | None = None
    torch_dtype: str | None = None  # as config.json says


def find_model(model: ModelArgs, hub: HubArgs, *, download: bool = True) -> ModelInfo:
    """The model's folder (fetched unless `download` is false) and its type.

    The type is --model_type, or what the name says, or an args.json beside the weights, or config.json's architecture. Raises UsageError
    for an unknown --model_type and ModelError for a folder that holds no model.
    """
    if not model.model:
        raise UsageError("--model is missing: give a hub id or a folder, for example --model Qwen/Qwen2.5-7B-Instruct")
    asked = model_specs[model.model_type] if model.model_type else None
    name = model_name(model.model)
    path = _folder(model, hub, download)
    if path is None:
        return ModelInfo(name, None, asked or _by_name(name) or model_specs["auto"])
    config = _config(path)
    _need_weights(path)
    spec = asked or _by_name(name) or _by_args(path) or _by_architecture(config)
    return ModelInfo(name, path, spec, config, _max_length(config), _first(config, DTYPE_KEYS))


def model_name(model: str) -> str:
    """The last part of a path or id; a folder in the hub's cache is named after its repository, ModelScope's `___` is a dot."""
    parts = [part for part in model.replace("\\", "/").split("/") if part not in ("", ".")]
    for part, after in pairwise(parts):
        if part.startswith("models--") and after == "snapshots":
            return part.split("--")[-1]
    name = parts[-1].partition(":")[0] if not is_path(model) else parts[-1] if parts else model
    return name.replace("___", ".")


def is_path(model: str) -> bool:
    """Whether a model's name is a path, never a hub id (rulings 11)."""
    return model.startswith((".", "/", "~")) or Path(model).expanduser().is_dir()


def check_model(info: ModelInfo) -> None:
    """Whether a folder's safetensors are whole: every shard of the index there, each file as long as its header says. No network.

    Raises ModelError naming what is missing or cut short.
    """
    if info.path is None:
        return
    index = info.path / "model.safetensors.index.json"
    wanted: dict[str, set[str]] = {}
    if index.is_file():
        for tensor, file in json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).items():
            wanted.setdefault(file, set()).add(tensor)
    else:
        wanted = {path.name: set() for path in info.path.glob("model*.safetensors")}
    faults = []
    for file, tensors in sorted(wanted.items()):
        path = info.path / file
        if not path.is_file():
            faults.append(f"{file} is missing")
            continue
        header = _header(path)
        if header is None:
            faults.append(f"{file} is broken or cut short")
        elif absent := tensors - header:
            faults.append(f"{file} lacks {len(absent)} tensors of the index, {min(absent)} for one")
    if faults:
        raise ModelError(f"{info.path}: {'; '.join(faults)}. Fetch the model again (--check_model false skips this check).")


# where it is


def _folder(model: ModelArgs, hub: HubArgs, download: bool) -> Path | None:
    name = model.model or ""
    if name.lower() == "swift/nano":
        from swift import nano  # the embedded files; nothing else needs them

        return nano.model_path(name)
    if is_path(name):
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if not download:
            return None  # a dry run lists it as missing
        raise ModelError(f"--model {name}: there is no such folder")
    if not download:
        return None
    return hubs.download(name, "model", hub, revision=model.model_revision)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        if (path / "adapter_config.json").is_file() or (path / "default" / "adapter_config.json").is_file():
            raise ModelError(
                f"{path} holds an adapter, not a model. Give it with --adapters {path}, and the model that it was trained on with --model."
            )
        raise ModelError(f"{path} has no config.json: it is no model folder")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is no JSON: {error}") from None


def _need_weights(path: Path) -> None:
    if any(next(path.glob(pattern), None) for pattern in ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")):
        return
    raise ModelError(f"{path} has no weights: there is neither a *.safetensors nor a *.bin file in it")


# what it is


def _by_name(name: str) -> ModelSpec | None:
    return _by_type(_names().get(name.lower()))


def _by_type(kind: str | None) -> ModelSpec | None:
    return model_specs[kind] if kind and kind in model_specs else None


def _names() -> dict[str, str]:
    return _names_of(tuple(model_specs))  # plug-ins may have registered more


@cache
def _names_of(types: tuple[str, ...]) -> dict[str, str]:
    table: dict[str, str] = {}
    for kind in types:
        for name in model_specs[kind].names:
            table.setdefault(name.rpartition("/")[2].lower(), kind)
    return table


def _by_args(path: Path) -> ModelSpec | None:
    """What a checkpoint of ours says of itself."""
    file = path / "args.json"
    if not file.is_file():
        return None
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        return None
    return _by_type(kind)


def _by_architecture(config: dict[str, Any]) -> ModelSpec:
    """The one type of this architecture, or `auto` with those that share it: its chat template tells them apart (template/build.py)."""
    architecture = next(iter(config.get("architectures") or []), None)
    found = [spec for spec in model_specs.values() if architecture in spec.architectures]
    if len(found) == 1:
        return found[0]
    candidates = tuple((spec.type, spec.chat_format) for spec in found if spec.chat_format)
    return replace(model_specs["auto"], candidates=candidates)


def _max_length(config: dict[str, Any]) -> int | None:
    lengths = [part[key] for part in _parts(config) for key in LENGTH_KEYS if isinstance(part.get(key), int)]
    return min(lengths, default=None)


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(part[key]).removeprefix("torch.") for part in _parts(config) for key in keys if part.get(key)), None)


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [config, *(config[key] for key in LANGUAGE_PARTS if isinstance(config.get(key), dict))]


def _header(path: Path) -> set[str] | None:
    """The tensors that a safetensors file holds; None where it is shorter or longer than its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return None
        length = struct.unpack("<Q", start)[0]
        if length > size - 8:
            return None
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return None
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    return set(header) if size == 8 + length + end else None

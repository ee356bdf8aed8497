"""Which model is meant: from what was asked (a path, a hub id, --model_type) to a ModelInfo. Imports neither torch nor transformers."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from swift import hub as hubs
from swift.args.base import HubArgs, ModelArgs
from swift.args.paths import model_suffix
from swift.errors import ModelError, UsageError
from swift.models.families import model_specs
from swift.models.options import read_options
from swift.models.rope import Rope, longest, parts, stretch
from swift.models.spec import ModelSpec, last_part
from swift.registry import did_you_mean

DTYPE_KEYS = ("torch_dtype", "dtype", "params_dtype")


@dataclass(frozen=True)
class ModelInfo:
    """What was found about a model; never written back into what was asked."""

    name: str  # the last part of its path or id
    path: Path | None  # its folder; None when it is only known once downloaded
    spec: ModelSpec
    config: dict[str, Any] = field(default_factory=dict)  # config.json
    max_length: int | None = None  # the longest row, with `rope` where that stretches it
    torch_dtype: str | None = None  # as config.json says
    rope: Rope | None = None
    options: dict[str, Any] = field(default_factory=dict)  # --model_kwargs, with defaults
    args: ModelArgs = field(default_factory=ModelArgs)  # what was asked


def find_model(model: ModelArgs, hub: HubArgs, *, download: bool = True, weights: bool = True, max_length: int | None = None) -> ModelInfo:
    """The model's folder (fetched unless `download` is false) and its type; `max_length` is what --rope_scaling stretches it to.

    `weights` false: its config and tokenizer are enough, and its weights are neither fetched nor asked for.
    The type is --model_type, or what the name says, or an args.json beside the weights, or config.json's architecture. Raises UsageError
    for an unknown --model_type and ModelError for a folder that holds no model.
    """
    if not model.model:
        raise UsageError("--model is missing: give a hub id or a folder, for example --model Qwen/Qwen2.5-7B-Instruct")
    asked = _by_flag(model.model_type)
    name = model_suffix(model.model)
    spec = asked or _by_name(name)
    path = _folder(model, hub, spec, download, weights)
    if path is None:
        spec = spec or model_specs["auto"]
        return ModelInfo(name, None, spec, options=read_options(spec, model.model_kwargs), args=model)
    config = _config(path)
    if weights:
        _need_weights(path)
    spec = spec or _by_args(path) or _by_config(config)
    rope = stretch(config, model.rope_scaling, max_length)
    return ModelInfo(
        name,
        path,
        spec,
        config,
        rope.max_length if rope else longest(config),
        _first(config, DTYPE_KEYS),
        rope,
        read_options(spec, model.model_kwargs),
        model,
    )


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


def _folder(model: ModelArgs, hub: HubArgs, spec: ModelSpec | None, download: bool, weights: bool) -> Path | None:
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
    return _fetch(model, hub, spec, weights)


def _fetch(model: ModelArgs, hub: HubArgs, spec: ModelSpec | None, weights: bool) -> Path:
    """From the hub. Code that may not be run is said before gigabytes of weights have come for nothing."""
    name = model.model or ""
    ignore = spec.group_of(model_suffix(name)).ignore if spec else ()
    try:
        if weights and spec is not None and spec.remote_code and spec.loader is None and not model.trust_remote_code:
            from swift.models.remote_code import runs_own_code

            path = hubs.download(name, "model", hub, revision=model.model_revision, weights=False)
            runs_own_code(path, _config(path), trusted=False)
        return hubs.download(name, "model", hub, revision=model.model_revision, weights=weights, ignore=ignore)
    except ModelError as error:
        other = _id_there(name, spec, hub)
        if other is None or "does not exist" not in str(error):
            raise
        raise ModelError(f"{error} There this model is called {other}.") from error


def _id_there(name: str, spec: ModelSpec | None, hub: HubArgs) -> str | None:
    """What a known model is called on the hub that is asked, where that is another id."""
    last = model_suffix(name).lower()
    for pair in spec.hub_ids if spec else []:
        if any(last_part(known).lower() == last for known in pair if known):
            there = pair.hugging_face if hubs.uses_hf(hub) else pair.modelscope
            return there if there and "/" in there and there.lower() != name.partition(":")[0].lower() else None
    return None


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


def _by_flag(kind: str | None) -> ModelSpec | None:
    if kind is not None and kind not in model_specs:
        near = did_you_mean(kind, list(model_specs)) or f"; {len(model_specs)} types are (swift/models/families, and plug-ins)"
        raise UsageError(f"--model_type: {kind!r} is not known{near}")
    return model_specs[kind] if kind is not None else None


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
            table.setdefault(name.lower(), kind)
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


def _by_config(config: dict[str, Any]) -> ModelSpec:
    """The one type of this architecture, or `auto` with those that share it: its chat template tells them apart (template/build.py).

    Types that are known by no architecture are found by config.json's model_type.
    """
    architecture = next(iter(config.get("architectures") or []), None)
    found = [spec for spec in model_specs.values() if architecture in spec.architectures]
    found = found or [spec for spec in model_specs.values() if config.get("model_type") in spec.config_types]
    if len(found) == 1:
        return found[0]
    candidates = tuple((spec.type, spec.chat_format) for spec in found if spec.chat_format)
    return replace(model_specs["auto"], candidates=candidates)


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(part[key]).removeprefix("torch.") for part in parts(config) for key in keys if part.get(key)), None)


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

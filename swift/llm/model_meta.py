"""`register_model(ModelMeta(...))` as people's files have it, turned into a ModelSpec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from swift import logs
from swift.errors import PluginError
from swift.models import spec as specs
from swift.models.families import model_specs

if TYPE_CHECKING:
    from swift.args.base import ModelArgs
    from swift.models.match import ModelInfo


@dataclass
class Model:
    """A model's id on ModelScope, on Hugging Face, and its folder here."""

    ms_model_id: str | None = None
    hf_model_id: str | None = None
    model_path: str | None = None
    ms_revision: str | None = None
    hf_revision: str | None = None


@dataclass
class ModelGroup:
    models: Sequence[Model]
    ignore_patterns: Sequence[str] | None = None
    requires: Sequence[str] | None = None
    tags: Sequence[str] = ()


@dataclass
class ModelMeta:
    """A model type. `get_function(model_dir, model_info, model_kwargs, load_model, **kwargs)` gives (model, tokenizer)."""

    model_type: str
    model_groups: Sequence[ModelGroup]
    template: str | None
    get_function: Callable[..., Any] | None = None
    model_arch: Any = None
    architectures: Sequence[str] = ()
    additional_saved_files: Sequence[str] = ()
    torch_dtype: Any = None
    is_multimodal: bool = False
    is_reward: bool = False
    task_type: str | None = None
    ignore_patterns: Sequence[str] | None = None
    requires: Sequence[str] = field(default_factory=list)
    tags: Sequence[str] = ()


def register_model(model_meta: ModelMeta | specs.ModelSpec, *, exist_ok: bool = False) -> None:
    """Make a model type known to --model_type, by its ids and its architecture. Raises PluginError for a field that cannot be expressed."""
    if isinstance(model_meta, specs.ModelSpec):
        model_specs.register(model_meta.type, exist_ok=exist_ok)(model_meta)
        return
    if not isinstance(model_meta, ModelMeta):
        raise PluginError(f"register_model takes a ModelMeta, not {type(model_meta).__name__}")
    model_specs.register(model_meta.model_type, exist_ok=exist_ok)(to_spec(model_meta))


def to_spec(meta: ModelMeta) -> specs.ModelSpec:
    name = meta.model_type
    if not isinstance(name, str) or not name:
        raise PluginError(f"ModelMeta: model_type must be its name, not {name!r}")
    _refuse(meta)
    if meta.model_arch is not None:
        logs.info_once(f"model type {name}: model_arch is not needed; what an adapter is put on is found in the model itself")
    own = None if meta.get_function in (None, *STANDARD) else _Own(meta.get_function)
    return specs.ModelSpec(
        type=name,
        ids=tuple(entry for group in _list(meta.model_groups, "model_groups", name) for entry in _ids(group, meta)),
        chat_format=meta.template,
        architectures=tuple(meta.architectures),
        requires=tuple(meta.requires),
        ignore=tuple(meta.ignore_patterns or ()),
        tags=tuple(meta.tags),
        task_type=(meta.task_type or ("seq_cls" if meta.is_reward else "causal_lm")),  # type: ignore[arg-type]
        num_labels=1 if meta.is_reward else None,
        loader=own.model if own else None,
        tokenizer_loader=own.tokenizer if own else None,
    )


def _refuse(meta: ModelMeta) -> None:
    name = meta.model_type
    if meta.is_multimodal:
        raise PluginError(f"model type {name}: is_multimodal: models of images and sound are part of SWIFT but not built yet")
    if meta.task_type not in (None, "causal_lm", "seq_cls"):
        raise PluginError(f"model type {name}: task_type {meta.task_type!r} is not causal_lm or seq_cls")
    if list(meta.additional_saved_files):
        raise PluginError(
            f"model type {name}: additional_saved_files are not copied to checkpoints; take the field away and copy them yourself"
        )
    if meta.torch_dtype is not None:
        raise PluginError(f"model type {name}: torch_dtype is taken from config.json or --torch_dtype; take the field away")


def _ids(group: ModelGroup, meta: ModelMeta) -> list[str | specs.Group]:
    if not isinstance(group, ModelGroup):
        raise PluginError(f"model type {meta.model_type}: model_groups holds ModelGroup, not {type(group).__name__}")
    texts: list[str] = []
    for model in _list(group.models, "ModelGroup.models", meta.model_type):
        if not isinstance(model, Model):
            raise PluginError(
                f"model type {meta.model_type}: a ModelGroup holds Model(ms_model_id, hf_model_id), not {type(model).__name__}"
            )
        if model.ms_revision or model.hf_revision:
            raise PluginError(f"model type {meta.model_type}: a revision is given with --model_revision; take it out of Model")
        if model.ms_model_id or model.hf_model_id:
            texts.append(f"{model.ms_model_id or ''} -> {model.hf_model_id or ''}")
        if model.model_path:
            texts.append(Path(model.model_path).name)
    if group.requires is None and group.ignore_patterns is None:
        return [*texts]
    requires = meta.requires if group.requires is None else group.requires
    ignore = (meta.ignore_patterns or ()) if group.ignore_patterns is None else group.ignore_patterns
    return [specs.Group(tuple(texts), tuple(requires), tuple(ignore))]


def _list(value: Any, what: str, name: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise PluginError(f"model type {name}: {what} must be a list, not {type(value).__name__}")
    return list(value)


# Loading


def get_model_tokenizer_with_flash_attn(
    model_dir: str, model_info: Any, model_kwargs: dict[str, Any] | None = None, load_model: bool = True, **kwargs: Any
) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder in SWIFT's own way; the model is None where `load_model` is false.

    For functions of people's own, which change one of the two afterwards. Weights go where the command's flags say.
    """
    if kwargs.get("automodel_class") is not None:
        raise PluginError("automodel_class: SWIFT takes the class from config.json; load the model in the function itself")
    from swift.models.load import load_model as load_weights  # pulls in torch, which registering does not need
    from swift.models.load import load_processor

    info, args = model_info.info, model_info.args
    plain = replace(info, path=Path(model_dir), spec=replace(info.spec, loader=None, tokenizer_loader=None))
    return (load_weights(plain, args, training=False) if load_model else None), load_processor(plain)


get_model_tokenizer_from_local = get_model_tokenizer_with_flash_attn
STANDARD = (get_model_tokenizer_with_flash_attn,)


class _Own:
    """A person's get_function, called once for the tokenizer and once for the model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise PluginError(f"ModelMeta: get_function must be a function, not {type(function).__name__}")
        self.function = function

    def model(self, folder: Path, info: ModelInfo, args: ModelArgs) -> Any:
        return self._call(folder, info, args, load_model=True)[0]

    def tokenizer(self, folder: Path, info: ModelInfo, args: ModelArgs) -> Any:
        return self._call(folder, info, args, load_model=False)[1]

    def _call(self, folder: Path, info: ModelInfo, args: ModelArgs, *, load_model: bool) -> tuple[Any, Any]:
        from swift.models.load import weight_dtype
        from swift.models.placement import placement

        told = SimpleNamespace(
            info=info,
            args=args,
            model_dir=str(folder),
            model_type=info.spec.type,
            torch_dtype=weight_dtype(args.torch_dtype, info.torch_dtype),
            max_model_len=info.max_length,
            config=None,
            rope_scaling=None,
        )
        # a model that was loaded needs its place; a tokenizer has none
        given = placement(args) if load_model else {}
        try:
            answer = self.function(str(folder), told, given, load_model, **self._more(args))
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"model type {info.spec.type}: its get_function failed: {type(error).__name__}: {error}") from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise PluginError(f"model type {info.spec.type}: its get_function must return (model, tokenizer), not {type(answer).__name__}")
        return answer

    def _more(self, args: ModelArgs) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters
        return {"attn_impl": args.attn_impl} if "attn_impl" in parameters else {}

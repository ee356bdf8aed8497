"""From what was found about a model (`ModelInfo`) to a tokenizer and weights in memory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils.logging import disable_progress_bar

from swift import logs
from swift.args.base import QuantArgs
from swift.errors import ModelError, UsageError, need
from swift.models import rope
from swift.models.classifier import classifier_class, lay_out, num_classes, quietly, say_fresh
from swift.models.placement import check_map, placement
from swift.models.quantized import bnb_config, check_quantization, exchange, reads_quantized
from swift.models.remote_code import CAUSAL, CLASSIFIER, native_class, runs_own_code, tokenizer_runs_own_code
from swift.models.requirements import check_requirements, use_repository

if TYPE_CHECKING:
    from swift.args.base import ModelArgs
    from swift.models.match import ModelInfo

disable_progress_bar()  # transformers draws bars for reading and writing weights, which take no time worth a line
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def load_processor(info: ModelInfo) -> PreTrainedTokenizerBase:
    """The checkpoint's own tokenizer; the pad token falls back to EOS where it has none, and EOS to the pad token.

    Raises ModelError where the folder has no usable tokenizer, or one whose code the user did not allow to run.
    """
    folder = local_folder(info)
    use_repository(info, info.args)
    if info.spec.tokenizer_loader is not None:
        tokenizer = info.spec.tokenizer_loader(folder, info, info.args)
    else:
        trusted = tokenizer_runs_own_code(folder, info.config, trusted=info.args.trust_remote_code)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
        except Exception as error:  # transformers raises whatever its parsers raise
            raise ModelError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.pad_token
    return tokenizer


def load_model(info: ModelInfo, args: ModelArgs, *, training: bool, quant: QuantArgs | None = None) -> PreTrainedModel:
    """Weights in the asked, found or fitting dtype, on this process's device; those of linear layers in few bits where `quant` asks for it.

    For training the model takes samples laid end to end (rows.py). Raises ModelError for missing or broken weights, and for
    code that the user did not allow to run.
    """
    folder = local_folder(info)
    quant = quant or QuantArgs()
    check_requirements(info)
    check_quantization(info, quant)
    use_repository(info, args)
    labels = _labels(info, args)
    own = info.spec.loader
    model = own(folder, info, args) if own else _from_folder(info, args, quant, folder, labels, training=training)
    if labels is not None:
        lay_out(model, eager=args.attn_impl == "eager")
    elif training:
        from swift.models.rows import keep_rows_apart  # registers attentions with transformers: only where they are used

        if not keep_rows_apart(model, eager=args.attn_impl == "eager", flash=args.attn_impl == "flash_attn"):
            logs.info_once(f"{type(model).__name__}: rows go through it one after the other, because it has no attention over several")
    logs.info(f"{type(model).__name__} in {str(model.dtype).removeprefix('torch.')} on {model.device}, from {folder}")
    return model


def _from_folder(
    info: ModelInfo, args: ModelArgs, quant: QuantArgs, folder: Path, labels: int | None, *, training: bool
) -> PreTrainedModel:
    auto = CAUSAL if labels is None else CLASSIFIER
    own_code = runs_own_code(folder, info.config, trusted=args.trust_remote_code, auto=auto)
    native = None if own_code else native_class(info.config, auto)
    # Kimi K2: its model_type is nothing to transformers, its architecture is
    direct = native if info.config.get("model_type") not in CONFIG_MAPPING else None
    config = _config(folder, direct, own_code=own_code)
    if info.rope is not None:
        rope.apply(info.rope, config)
    options: dict[str, Any] = {
        "config": config,
        "dtype": weight_dtype(args.torch_dtype, info.torch_dtype),
        "trust_remote_code": own_code,
        **placement(args),
    }
    if quant.quant_method is not None and "quantization_config" not in info.config:
        options["quantization_config"] = bnb_config(quant, options["dtype"], classifier=labels is not None)
    if args.attn_impl is not None:
        options["attn_implementation"] = attention_name(args.attn_impl)
    made: Any = direct or AutoModelForCausalLM
    if labels is not None:
        made = classifier_class(info, labels, options, training=training)
    try:
        with quietly() if labels is not None else nullcontext():
            model, report = _read(made, folder, options)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {first_line(error)}") from error
    if reads_quantized(info, quant):
        exchange(model)
    check_map(model, args.device_map)
    if args.attn_impl is None and model.config._attn_implementation == "eager":
        logs.info_once("attention is eager: this model's code has no sdpa")
    if absent := sorted(report["missing_keys"]) if labels is None else []:
        raise ModelError(
            f"{folder}: {len(absent)} weights of {type(model).__name__} are not in it and would be random ({', '.join(absent[:3])} …): "
            "it holds another kind of model than its config.json says"
        )
    if labels is not None:
        say_fresh(model, report, training=training)
    return model


def _config(folder: Path, direct: type | None, *, own_code: bool) -> PreTrainedConfig:
    """The transformers config. It forgets code files that are not run, so that a saved checkpoint does not name what it has not got."""
    reader: Any = AutoConfig if direct is None else direct.config_class  # type: ignore[attr-defined]
    try:
        config = reader.from_pretrained(folder, **({"trust_remote_code": own_code} if direct is None else {}))
    except Exception as error:
        raise ModelError(f"{folder}: config.json cannot be read: {first_line(error)}") from error
    if not own_code and hasattr(config, "auto_map"):
        del config.auto_map
    return config


def _read(made: Any, folder: Path, options: dict[str, Any]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """from_pretrained, with eager attention where the model's code has no sdpa."""
    try:
        return made.from_pretrained(folder, output_loading_info=True, **options)
    except ValueError as error:
        if options.get("attn_implementation") != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        logs.warn_once("--attn_impl sdpa: this model's code has no sdpa attention; eager is used")
        return made.from_pretrained(folder, output_loading_info=True, **{**options, "attn_implementation": "eager"})


def _labels(info: ModelInfo, args: ModelArgs) -> int | None:
    """The number of classes, None for a model that writes text. Raises UsageError for a task that its type is not made for."""
    labels = num_classes(info, args)
    kind = info.spec.task_type
    if labels is None and args.task_type is None and kind == "seq_cls":
        raise UsageError(f"{info.name}: models of type {info.spec.type} classify texts; say into how many classes with --num_labels")
    if labels is None and args.task_type is None and kind == "embedding":
        raise UsageError(
            f"{info.name}: models of type {info.spec.type} turn texts into vectors, which is part of SWIFT but not built yet. "
            "--num_labels makes it a classifier, --task_type causal_lm a language model where it is a decoder"
        )
    return labels


def local_folder(info: ModelInfo) -> Path:
    if info.path is None:
        raise ModelError(f"the model {info.name} is not on this machine and was not downloaded")
    return info.path


def weight_dtype(asked: str | None, found: str | None) -> torch.dtype:
    """--torch_dtype, else config.json's. On a CPU without fast bfloat16 or float16 arithmetic, float32 unless asked."""
    if asked is not None:
        return DTYPES[asked]
    if torch.cuda.is_available():
        return DTYPES.get(found or "", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    if found == "bfloat16" and cpu_has_fast_bfloat16():
        return torch.bfloat16
    if found in ("float16", "bfloat16"):
        logs.info_once(f"weights are stored in {found} and used in float32, in which this CPU is faster (--torch_dtype)")
    return torch.float32


def cpu_has_fast_bfloat16() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def attention_name(attn_impl: str) -> str:
    if attn_impl == "flash_attn":
        need("flash_attn", why="--attn_impl flash_attn")
        return "flash_attention_2"
    return attn_impl


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

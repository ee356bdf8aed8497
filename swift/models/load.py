"""From what was found about a model (`ModelInfo`) to a tokenizer and weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from swift import dist, logs
from swift.errors import ModelError, UsageError, need

if TYPE_CHECKING:
    from swift.args.base import ModelArgs
    from swift.models.match import ModelInfo

disable_progress_bar()  # transformers draws bars for reading and writing weights, which take no time worth a line
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def load_processor(info: ModelInfo) -> PreTrainedTokenizerBase:
    """The checkpoint's own tokenizer; the pad token falls back to EOS where it has none.

    Raises ModelError where the folder has no usable tokenizer, or wants to run code of its own.
    """
    folder = local_folder(info)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(info: ModelInfo, args: ModelArgs, *, training: bool) -> PreTrainedModel:
    """Weights in the asked, found or fitting dtype, on this process's device.

    Training takes variable-length attention where the model's code allows it. Raises ModelError for missing or broken weights.
    """
    folder = local_folder(info)
    dtype = weight_dtype(args.torch_dtype, info.torch_dtype)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": False, "device_map": device_map(args)}
    if args.attn_impl is not None:
        options["attn_implementation"] = attention_name(args.attn_impl)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {first_line(error)}") from error
    if training and args.attn_impl != "flash_attn":
        from swift.models.attention import use_varlen  # registers attentions with transformers: only where they are used

        if not use_varlen(model, eager=args.attn_impl == "eager"):
            raise ModelError(
                f"{type(model).__name__} cannot be trained without padding: its code does not go through transformers' "
                "AttentionInterface, so variable-length attention cannot be given to it"
            )
    logs.info(f"{type(model).__name__} in {str(dtype).removeprefix('torch.')} on {model.device}, from {folder}")
    return model


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


def device_map(args: ModelArgs) -> Any:
    """--device_map, else this process's device: the GPU of its local rank, or the CPU."""
    if args.device_map is not None:
        if dist.is_distributed() and args.device_map == "auto":
            raise UsageError("--device_map auto spreads one process over all GPUs; with several processes each has its own. Leave it out")
        return args.device_map
    if not torch.cuda.is_available():
        return {"": "cpu"}
    if torch.cuda.device_count() > 1 and not dist.is_distributed():
        return "auto"  # several visible GPUs in one process: the layers are spread over them
    return {"": dist.local_rank()}


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

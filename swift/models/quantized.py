"""Weights in 4 or 8 bits (--quant_method): what is asked, what a checkpoint has already, and what of it lies in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from swift import logs
from swift.args.base import QuantArgs
from swift.args.quantize import EXTRA
from swift.errors import ModelError, UsageError, need

if TYPE_CHECKING:
    from swift.models.match import ModelInfo

GIB = 2**30
# Kept whole: output layers, as transformers does by itself where no list is given, and what a classifier may have fresh.
KEPT_WHOLE = ("lm_head", "score", "classifier", "pooler", "pre_classifier", "embed_out")


class Quantized(nn.Module):
    """A linear layer whose weight is packed. Its parts are read anew when it is moved, and when it is given another weight."""

    in_features: int
    out_features: int
    weight: Any  # Params4bit or Int8Params
    parts: tuple[Tensor, ...]  # packed weight, then its scales: plain tensors, which compiled layers take as they are
    facts: tuple[Any, ...]  # kind, [N, K], and how long the blocks are that share a scale

    def read_parts(self) -> None:
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if "parts" in self.__dict__:
            self.read_parts()
        return self

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, param)
        if name == "weight" and "parts" in self.__dict__:
            self.read_parts()


def quantized_linears(model: nn.Module) -> Iterator[Quantized]:
    return (module for module in model.modules() if isinstance(module, Quantized))


def check_quantization(info: ModelInfo, quant: QuantArgs, *, full: bool = False) -> None:
    """Whether the model can be held as asked, before anything slow is read. `full`: its own weights are to be trained.

    Raises UsageError for a checkpoint that is quantized otherwise or is to be trained whole, and where a library is not installed.
    """
    stored = info.config.get("quantization_config")
    if stored:
        there = describe(stored)
        if full:
            raise UsageError(f"{info.name} is quantized ({there}), and such weights cannot be trained: leave out --train_type full")
        if quant.quant_bits is not None and quant.quant_bits != bits(stored):
            raise UsageError(f"{info.name} is quantized already ({there}): leave out --quant_bits {quant.quant_bits}, or give the original")
        if bits(stored) is not None:
            need("bitsandbytes", extra=EXTRA, why=f"{info.name} is quantized ({there}); reading it")
            if quant.quant_bits is not None:
                logs.info_once(f"{info.name} is quantized already ({there}); what its config.json says holds")
    elif quant.quant_method is not None:
        if info.spec.loader is not None:
            raise UsageError(f"{info.name}: models of type {info.spec.type} have a loader of their own, which --quant_bits does not reach")
        need("bitsandbytes", extra=EXTRA, why="--quant_method bnb")


def bits(stored: dict[str, Any]) -> int | None:
    """4 or 8 of a checkpoint that bitsandbytes quantized, None of another."""
    return 4 if stored.get("load_in_4bit") else 8 if stored.get("load_in_8bit") else None


def describe(stored: dict[str, Any]) -> str:
    """A checkpoint's quantization_config in a few words."""
    number = bits(stored) or stored.get("bits")
    return ", ".join([str(stored.get("quant_method", "bitsandbytes")), *([f"{number} bits"] if number else [])])


def reads_quantized(info: ModelInfo, quant: QuantArgs) -> bool:
    """Whether the model's linear layers will be bitsandbytes'."""
    stored = info.config.get("quantization_config")
    return bits(stored) is not None if stored else quant.quant_method is not None


def bnb_config(quant: QuantArgs, dtype: torch.dtype, *, classifier: bool) -> BitsAndBytesConfig:
    """What transformers is told. `dtype`: that of the weights that stay whole. A classifier's own layers are trained, so they do."""
    kept = list(KEPT_WHOLE) if classifier else None
    if quant.quant_bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=kept,
        bnb_4bit_compute_dtype=quant.bnb_4bit_compute_dtype or dtype,
        bnb_4bit_quant_type=quant.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=quant.bnb_4bit_use_double_quant,
        bnb_4bit_quant_storage=quant.bnb_4bit_quant_storage,
    )


def exchange(model: nn.Module) -> None:
    """Give a model that was read quantized our products, and say what became of its weights.

    Raises ModelError where nothing of it is quantized.
    """
    from swift.models.bnb_layers import exchange_linears  # needs bitsandbytes

    number = exchange_linears(model)
    if not number:
        raise ModelError(f"{type(model).__name__} has no linear layer that can be quantized: leave out --quant_bits")
    kind = next(quantized_linears(model)).facts[0]
    packed = sum(p.numel() * p.element_size() for p in model.parameters()) + scale_bytes(model)
    logs.info(f"{number} linear layers are quantized ({kind}): all weights take {packed / GIB:.2f} GiB")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # weights came to the GPU whole, one after the other


def scale_bytes(model: nn.Module) -> int:
    """Bytes of what lies beside packed weights and is no parameter."""
    return sum(part.numel() * part.element_size() for module in quantized_linears(model) for part in module.parts[1:])


def written_out_bytes(model: nn.Module, size: int = 2) -> int:
    """Bytes of the largest packed weight once it is written out in a type of `size` bytes."""
    return max((size * module.in_features * module.out_features for module in quantized_linears(model)), default=0)


def hidden_parameters(model: nn.Module) -> int:
    """How many more parameters a model has than its packed tensors have places."""
    return sum(module.in_features * module.out_features - module.parts[0].numel() for module in quantized_linears(model))

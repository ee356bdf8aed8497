"""Layers compiled one by one: all repeated layers of a model share one piece of compiled code, whatever the rows' lengths.

https://docs.pytorch.org/tutorials/recipes/regional_compilation.html
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import nn

from swift import logs
from swift.models.layout import inner_model, takes_rows_together

SELECTIVE = 0.7  # of the activations that a layer keeps; what is dropped is cheap to compute again
# rows and columns as two dimensions: what low_rank.py reads once a row or once a column would be read for each element otherwise
TILES: dict[str, str | int | bool | Callable[..., object]] = {"triton.prefer_nd_tiling": True}
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def why_not(model: nn.Module, computes_in: torch.dtype) -> str | None:
    """Why the layers of `model`, which compute in that dtype, cannot be compiled; None where they can."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if not takes_rows_together(model):
        return f"{type(_inner(model)).__name__} takes rows one after the other"
    if computes_in not in (torch.bfloat16, torch.float16) or str(_inner(model).config._attn_implementation) != "swift_varlen":  # type: ignore[union-attr]
        return "its attention is not the kernel for variable lengths, which takes bfloat16 and float16"
    text = _inner(model).config.get_text_config(decoder=True)  # type: ignore[union-attr]
    if any(getattr(text, name, None) for name in EXPERTS):
        return "its layers choose experts by what is in the data"
    if any(getattr(module, "lora_variant", None) for module in model.modules()):
        return "PEFT writes DoRA in a way that falls into many pieces"
    if len(layers(model)) < 2:
        return f"{type(_inner(model)).__name__} does not say what its layers are"
    return None


def layers(model: nn.Module) -> list[nn.Module]:
    """The repeated layers: those that transformers never splits over devices, of the most frequent kind."""
    inner = _inner(model)
    names = set(getattr(inner, "_no_split_modules", None) or ())
    found: dict[type, list[nn.Module]] = {}
    for module in inner.modules():
        if type(module).__name__ in names:
            found.setdefault(type(module), []).append(module)
    return max(found.values(), key=len, default=[])


def compile_layers(model: nn.Module, *, selective: bool) -> None:
    """Compile the layers of `model` in place; the first call of each kind compiles. `selective`: keep only SELECTIVE of the activations."""
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    dynamo.specialize_float = True  # LoRA's scaling as a variable would be a CPU tensor, with C++ to be compiled for it: 40 s
    functorch.activation_memory_budget = SELECTIVE if selective else 1.0
    inductor.cpp.vec_isa_ok = True  # nothing is compiled for the CPU: without this its abilities are tried out, which takes a minute
    # a first layer whose input needs no gradient would be a second piece of code: its gradient costs less than that
    _inner(model).enable_input_require_grads()  # type: ignore[operator]
    for layer in layers(model):
        layer.compile(dynamic=True, options=TILES)
    logs.info(f"{len(layers(model))} layers are compiled at the first step (--torch_compile false leaves them as they are)")


def _inner(model: nn.Module) -> nn.Module:
    return inner_model(model) or model

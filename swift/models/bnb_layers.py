"""Linear layers of bitsandbytes (--quant_method bnb) with products as training steps want them.

bitsandbytes makes and holds the weights; the products are ours, because of four things that its modules do in training:
- its 8-bit product keeps each layer's input where recomputation cannot take it back, rounds activations to 8 bits through float16, and
  looks for outliers, which waits for the GPU;
- its 4-bit product is one kernel that nobody sees into: `--activation_checkpointing selective` would take it to be cheap to compute again;
- on some CPUs an evaluation repacks 4-bit weights for good, after which training has no gradient;
- its state is reached through tensor subclasses, which a compiled layer has to look through at each call.

Here a product is the weight written out in the compute type for the moment (`swift::dequantize`), and an ordinary matrix product, in
forward and again in backward; nothing but the packed weight is kept. The modules stay bitsandbytes' own kinds, so that PEFT and
transformers know them.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import add_hook_to_module
from bitsandbytes.nn import modules as bnb
from torch import Tensor, nn

from swift.models.quantized import Quantized


class Linear4bit(Quantized, bnb.Linear4bit):
    """A 4-bit layer of bitsandbytes with the product of this module; shares its weight (`Params4bit`) and bias."""

    @classmethod
    def around(cls, linear: bnb.Linear4bit) -> Linear4bit:
        with torch.device("meta"):
            made = cls(linear.in_features, linear.out_features, bias=False, compute_dtype=linear.compute_dtype)
        made.quant_storage, made.quant_state = linear.quant_storage, linear.quant_state
        _take_over(made, linear)
        made.weight.module = made
        return made

    def read_parts(self) -> None:
        state: Any = self.weight.quant_state
        nested = (state.state2.absmax, state.state2.code, state.offset) if state.nested else ()
        self.parts = (_plain(self.weight), state.absmax, *nested)
        self.facts = (state.quant_type, list(state.shape), state.blocksize, state.state2.blocksize if state.nested else 0)

    def forward(self, x: Tensor) -> Tensor:
        computed = x if self.compute_dtype is None else x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(computed.dtype)
        if x.is_cuda and not (torch.is_grad_enabled() and x.requires_grad):
            return _fused(computed, bias, self.facts, self.parts).to(x.dtype)
        return _Product.apply(computed, bias, self.facts, *self.parts).to(x.dtype)  # type: ignore[union-attr]


class Linear8bit(Quantized, bnb.Linear8bitLt):
    """An 8-bit layer of bitsandbytes: the weight is rounded, activations are not. Shares its weight (`Int8Params`) and bias."""

    @classmethod
    def around(cls, linear: bnb.Linear8bitLt) -> Linear8bit:
        with torch.device("meta"):
            made = cls(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False, threshold=linear.state.threshold)
        weight: Any = linear.weight
        if weight.SCB is None:  # its first product took them away
            weight.SCB = linear.state.SCB
        _take_over(made, linear)
        return made

    def read_parts(self) -> None:
        scales: Any = self.weight.SCB
        self.parts = (_plain(self.weight), scales.float() / 127)
        self.facts = ("int8", [self.out_features, self.in_features], 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return _Product.apply(x, bias, self.facts, *self.parts)  # type: ignore[return-value]


def exchange_linears(model: nn.Module) -> int:
    """Put ours in the place of each quantized layer of bitsandbytes; answers how many there are. Do it before PEFT wraps the model."""
    kinds: dict[type, Any] = {bnb.Linear4bit: Linear4bit, bnb.Linear8bitLt: Linear8bit}
    found = [(name, module) for name, module in model.named_modules() if type(module) in kinds]
    for name, module in found:
        model.set_submodule(name, kinds[type(module)].around(module))
    return len(found)


def _take_over(made: Any, linear: Any) -> None:
    """The weight, bias and state of `linear` for `made`, and what accelerate hung on it to spread a model over devices."""
    made.weight, made.bias = linear.weight, linear.bias
    made.read_parts()
    made.source_cls = getattr(linear, "source_cls", nn.Linear)  # transformers writes weights back by it
    made.train(linear.training)
    if hasattr(linear, "_hf_hook"):
        add_hook_to_module(made, linear._hf_hook)


def _plain(weight: Tensor) -> Tensor:
    """The same memory without the subclass."""
    with torch._C.DisableTorchFunctionSubclass():
        return weight.detach().as_subclass(Tensor)


def _fused(x: Tensor, bias: Tensor | None, facts: tuple[Any, ...], parts: tuple[Tensor, ...]) -> Tensor:
    """The product without a gradient by bitsandbytes' kernel, which does not write the weight out for a few tokens, as answers need it."""
    kind, shape, blocksize, nested_blocksize = facts
    packed, absmax, *nested = parts
    if not nested:
        return torch.ops.bitsandbytes.gemm_4bit(x, packed, shape, absmax, blocksize, kind, bias=bias)
    if nested_blocksize != 256:  # all that the kernel knows
        return nn.functional.linear(x, _written_out(parts, facts, x.dtype, again=False), bias)
    scales, values, offset = nested
    return torch.ops.bitsandbytes.gemm_4bit(
        x, packed, shape, scales, blocksize, kind, bias=bias, absmax_8bit=absmax, absmax_code=values, absmax_offset=offset
    )


class _Product(torch.autograd.Function):
    """x Wᵀ + b, (…, K) → (…, N), of a weight that is written out twice instead of being kept."""

    @staticmethod
    def forward(ctx, x, bias, facts, *parts):  # type: ignore[override, no-untyped-def]
        ctx.facts, ctx.dtype = facts, x.dtype
        ctx.save_for_backward(*parts)
        return nn.functional.linear(x, _written_out(parts, facts, x.dtype, again=False), bias)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override, no-untyped-def]
        parts = ctx.saved_tensors
        dx = dbias = None
        if ctx.needs_input_grad[0]:
            dx = grad.to(ctx.dtype) @ _written_out(parts, ctx.facts, ctx.dtype, again=True)
        if ctx.needs_input_grad[1]:
            dbias = grad.flatten(0, -2).sum(0)
        return dx, dbias, None, *(None,) * len(parts)


def _written_out(parts: tuple[Tensor, ...], facts: tuple[Any, ...], dtype: torch.dtype, *, again: bool) -> Tensor:
    packed, *scales = parts
    kind, shape, blocksize, nested_blocksize = facts
    return torch.ops.swift.dequantize(packed, scales, kind, shape, blocksize, nested_blocksize, dtype, again)


@torch.library.custom_op(
    "swift::dequantize",
    mutates_args=(),
    schema="(Tensor packed, Tensor[] scales, str kind, int[] shape, int blocksize, int nested_blocksize, ScalarType dtype, bool again) -> Tensor",
)
def _dequantize(packed, scales, kind, shape, blocksize, nested_blocksize, dtype, again):  # type: ignore[no-untyped-def]
    """A weight (N, K) in `dtype`. One opaque operator, so that no compiler keeps its result for backward instead of the packed weight;
    `again` tells backward's call from forward's, which would otherwise be taken for one call and its result kept.

    `scales`: of 4 bits, one for each block, or (their 8-bit codes, the scales of those, the code's values, an offset); of 8 bits one a row.
    """
    if kind == "int8":
        return torch.mul(packed, scales[0][:, None], out=torch.empty(shape, dtype=dtype, device=packed.device))
    absmax = scales[0]
    if nested_blocksize:
        codes, nested, values, offset = scales
        absmax = torch.ops.bitsandbytes.dequantize_blockwise(codes, nested, values, nested_blocksize, torch.float32) + offset
    return torch.ops.bitsandbytes.dequantize_4bit(packed, absmax, blocksize, kind, shape, dtype)


@_dequantize.register_fake
def _(packed, scales, kind, shape, blocksize, nested_blocksize, dtype, again):  # type: ignore[no-untyped-def]
    return packed.new_empty(shape, dtype=dtype)

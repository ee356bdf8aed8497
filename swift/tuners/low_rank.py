"""LoRA's product as compiled layers compute it, without storing what the small matrices give.

Of W x + s·B(A x) the second term costs few operations, but written out it is as large as the first: it is stored, read and added, and in
backward once more. Here it is Σᵢ (A x)ᵢ bᵢ over the few columns bᵢ of B, plain arithmetic that the compiler puts into the kernel that reads
the first term anyway. https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from peft import LoraConfig
from peft.import_utils import is_bnb_4bit_available
from peft.tuners import lora
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

MOST = 16  # ranks beyond it are left to matrix products


class LowRank(nn.Module, LoraLayer):
    """Over one of PEFT's layers: the same weights, names and results. Where it is compiled, its product is `low_rank`."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self.plain_adapter() if torch.compiler.is_compiling() and not args and not kwargs else None
        if name is None:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        return self.base_layer(x) + low_rank(self.lora_dropout[name](x), a, b, self.scaling[name])  # type: ignore[arg-type, operator]

    def plain_adapter(self) -> str | None:
        """The one adapter that is to be added, where it is LoRA as first described and its rank is small."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(names) != 1:
            return None
        (name,) = names
        return None if name in self.lora_variant or self.lora_bias[name] or self.r[name] > MOST else name


class LowRankLinear(LowRank, lora.Linear):
    pass


@cache
def quantized_kinds() -> dict[type[nn.Module], type[nn.Module]]:
    """The same for PEFT's layers over those of bitsandbytes."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
    from peft.tuners.lora import bnb

    class LowRankLinear4bit(LowRank, bnb.Linear4bit):
        pass

    class LowRankLinear8bit(LowRank, bnb.Linear8bitLt):
        pass

    return {Linear4bit: LowRankLinear4bit, Linear8bitLt: LowRankLinear8bit}


def use_low_rank(config: LoraConfig) -> None:
    """Have PEFT make layers of this module for the linear layers that `config` adapts; nothing of it is saved with the adapter."""
    kinds = dict(quantized_kinds()) if is_bnb_4bit_available() else {}  # these are linear layers as well: they come first
    kinds[nn.Linear] = LowRankLinear
    config._register_custom_module(kinds)  # PEFT's documented door for layers of one's own


def low_rank(x: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """s · x Aᵀ Bᵀ: x (…, K), a (r, K), b (O, r) -> (…, O) in the dtype that is computed in."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return _LowRank.apply(x.flatten(0, -2), a, b, scaling).unflatten(0, x.shape[:-1])  # type: ignore[no-any-return, attr-defined]


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, a, b, scaling):  # type: ignore[override, no-untyped-def]
        within = x @ a.to(x.dtype).t()
        ctx.save_for_backward(x, within, a, b)
        ctx.scaling = scaling
        # a product with the identity is a transposed copy that the compiler does not undo: its rows are read end to end
        rows = torch.eye(len(a), dtype=x.dtype, device=x.device) @ b.to(x.dtype).t()
        return _sum_of_rows(within, rows, scaling)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override, no-untyped-def]
        x, within, a, b = ctx.saved_tensors
        back = (grad @ b.to(x.dtype)) * ctx.scaling
        da = back.t() @ x
        db = (grad.t() @ within) * ctx.scaling
        return _sum_of_rows(back, a.to(x.dtype), 1.0), da.to(a.dtype), db.to(b.dtype), None


def _sum_of_rows(factors: Tensor, rows: Tensor, scaling: float) -> Tensor:
    """factors (N, r), rows (r, K) -> scaling · factors @ rows (N, K), summed in float32, as elementwise arithmetic."""
    total = factors[:, 0, None].float() * rows[0].float()
    for number in range(1, len(rows)):
        total = total + factors[:, number, None].float() * rows[number].float()
    return (total * scaling).to(factors.dtype)

"""The output layer that answers log-probabilities of given targets without building (B, T, V) logits.

It takes the place of a model's own output layer through `set_output_embeddings`, shares its weight (same state_dict keys), and
answers plain logits while no targets are set. All chunks are one autograd node: a module per chunk fails under DDP and ZeRO.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


class LogProbHead(nn.Linear):
    """(B, T, H) -> (B, T, 1) log p(target) while `targets` (B, T) are set, 0 where a target is negative; else (B, T, V) logits.

    `learned` are the numbers of the positions with a target, in B * T (found on the CPU, so that the GPU need not be waited for): the
    others never meet the weight.
    """

    chunk = 1024  # tokens at a time: the peak is chunk * V
    targets: Tensor | None
    learned: Tensor | None
    slopes: Tensor | None  # (B, T) what ∂loss/∂log p(target) is but for a common factor, where that is known before
    want_correct: bool  # keep `correct` (B, T), whether the target is the most likely token
    correct: Tensor | None
    answer: Tensor | None  # (B, T, 1), kept for models that transform what their output layer returns
    softcap: float | None

    @classmethod
    def around(cls, linear: nn.Linear, *, softcap: float | None = None) -> LogProbHead:
        """A head that shares `linear`'s weight and bias. `softcap`: the model caps its logits at ±softcap by tanh (Gemma 2)."""
        with torch.device("meta"):
            head = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        head.weight, head.bias = linear.weight, linear.bias
        head.softcap, head.want_correct = softcap, False
        head.targets = head.learned = head.slopes = head.correct = head.answer = None
        head.train(linear.training)
        return head

    @torch.compiler.disable
    def forward(self, hidden: Tensor) -> Tensor:
        if self.targets is None:
            return super().forward(hidden)
        targets = self.targets.to(hidden.device).flatten()
        learned = (targets >= 0).nonzero().squeeze(1) if self.learned is None else self.learned.to(hidden.device)
        slopes = self.slopes.flatten()[learned].float() if self.slopes is not None and self.weight.requires_grad else None
        logps, correct = _ChunkedLogProb.apply(
            hidden.flatten(0, 1)[learned],
            self.weight,
            self.bias,
            targets[learned],
            slopes,
            self.chunk * (2 if self.weight.requires_grad else 1),  # each chunk is added to a (V, H) sum: fewer of them
            self.softcap,
            self.want_correct,
        )
        shape = self.targets.shape
        self.correct = (
            torch.zeros_like(targets, dtype=torch.bool).index_copy(0, learned, correct).view(shape) if self.want_correct else None
        )
        answer = logps.new_zeros(len(targets)).index_copy(0, learned, logps).view(*shape, 1)
        self.answer = answer
        return answer


class _ChunkedLogProb(torch.autograd.Function):
    """log softmax(cap(h Wᵀ + b))[target] of N positions that all have a target, chunk by chunk in float32.

    Where only h needs a gradient, ∂logp/∂h is formed in the same pass: logp of a position depends on that position alone, so backward
    has only to scale it. Where the weight needs one too, `slopes` (N,) say with what each logp counts, up to a common factor: then its
    gradient is formed in the same pass as well. Otherwise logits are computed again in backward. The weight's gradient is summed over the
    chunks in float32.
    """

    @staticmethod
    def forward(ctx, h, weight, bias, targets, slopes, chunk, softcap, want_correct):  # type: ignore[override, no-untyped-def]
        device = h.device.type
        need_h, need_weight, need_bias = ctx.needs_input_grad[:3]
        need_bias = need_bias and bias is not None
        ctx.autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        ctx.chunk, ctx.softcap = chunk, softcap
        ctx.early = need_h and not (need_weight or need_bias)
        ctx.whole = slopes is not None and (need_weight or need_bias)
        out = h.new_empty(len(targets), dtype=torch.float32)
        correct = torch.zeros(len(targets), dtype=torch.bool, device=h.device)
        sums = _Gradients(h, weight, bias, need_h, need_weight, need_bias) if ctx.early or ctx.whole else None
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = nn.functional.linear(h[part], weight, bias)
            if want_correct:
                correct[part] = logits.argmax(1) == targets[part]
            if sums is None:
                out[part] = _of(_logp, h)(logits, targets[part], softcap)
            else:
                factors = slopes[part] if ctx.whole and slopes is not None else None
                out[part], slope = _of(_logp_and_slope, h)(logits, targets[part], factors, softcap)
                sums.add(part, h, weight, slope)
        if sums is None:
            ctx.save_for_backward(h, weight, bias, targets)
        else:
            ctx.save_for_backward(sums.h, sums.weight, sums.bias, slopes)
            ctx.dtypes = h.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(correct)
        return out, correct

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[override, no-untyped-def]
        if ctx.early:
            dh = ctx.saved_tensors[0]
            return (dh * grad[:, None].to(dh.dtype), *(None,) * 7)
        if ctx.whole:
            *found, slopes = ctx.saved_tensors
            factor = _common_factor(grad, slopes)
            return *(_scaled(d, factor, dtype) for d, dtype in zip(found, ctx.dtypes, strict=True)), *(None,) * 5
        h, weight, bias, targets = ctx.saved_tensors
        sums = _Gradients(h, weight, bias, *ctx.needs_input_grad[:3])
        with torch.autocast(h.device.type, ctx.autocast, enabled=ctx.autocast is not None):
            for start in range(0, len(targets), ctx.chunk):
                part = slice(start, start + ctx.chunk)
                logits = nn.functional.linear(h[part], weight, bias)
                _, slope = _of(_logp_and_slope, h)(logits, targets[part], grad[part], ctx.softcap)
                sums.add(part, h, weight, slope)
        cast = (d.to(p.dtype) if d is not None else None for d, p in ((sums.weight, weight), (sums.bias, bias)))
        return sums.h, *cast, *(None,) * 5


class _Gradients:
    """What the chunks' slopes (n, V), ∂loss/∂logits, add up to: h (N, H) as it is, weight (V, H) and bias (V,) in float32; None where not needed."""

    def __init__(self, h: Tensor, weight: Tensor, bias: Tensor | None, need_h: bool, need_weight: bool, need_bias: bool):
        self.h = torch.empty_like(h) if need_h else None
        self.weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        self.bias = torch.zeros_like(bias, dtype=torch.float32) if need_bias and bias is not None else None

    def add(self, part: slice, h: Tensor, weight: Tensor, slope: Tensor) -> None:
        if self.h is not None:
            self.h[part] = slope @ weight.to(slope.dtype)
        if self.weight is not None:
            _add_product(self.weight, slope.t(), h[part].to(slope.dtype))
        if self.bias is not None:
            self.bias += slope.float().sum(0)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, where total is float32: on a GPU in the product itself, which would otherwise be written and read again."""
    if total.is_cuda and left.dtype in (torch.bfloat16, torch.float16):
        torch.ops.aten.addmm.dtype_out(total, left, right, torch.float32, out=total)
    else:
        total += left @ right


def _common_factor(grad: Tensor, slopes: Tensor) -> Tensor:
    """c of grad = c · slopes. Who gave `slopes` promised that: on a broken promise the gradients would be wrong, so it is checked."""
    factor = (grad * slopes).sum() / (slopes * slopes).sum().clamp(min=1e-30)
    broken = (grad - factor * slopes).abs().max() > 1e-3 * grad.abs().max() if len(grad) else torch.zeros((), dtype=torch.bool)
    torch._assert_async(~broken, "the loss does not weigh log-probabilities with the slopes that LogProbHead was given")  # type: ignore[attr-defined]
    return factor


def _scaled(d: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    return None if d is None else _of(_times, d)(d, factor, dtype)


def _times(d: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    return (d.float() * factor).to(dtype)


def _logp(logits: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    """(n, V), (n,) -> log p(target) (n,) float32."""
    z = logits.float()
    if softcap is not None:
        z = torch.tanh(z / softcap) * softcap
    return z.gather(1, targets[:, None]).squeeze(1) - z.logsumexp(1)


def _logp_and_slope(logits: Tensor, targets: Tensor, factors: Tensor | None, softcap: float | None) -> tuple[Tensor, Tensor]:
    """As `_logp`, with factors (n,) · ∂log p(target)/∂logits (n, V) in the logits' dtype."""
    z = logits.float()
    if softcap is not None:
        z = torch.tanh(z / softcap) * softcap
    total = z.logsumexp(1)
    hit = torch.arange(z.shape[1], device=z.device) == targets[:, None]
    slope = hit.float() - torch.exp(z - total[:, None])
    if softcap is not None:
        slope = slope * (1 - (z / softcap) ** 2)
    if factors is not None:
        slope = slope * factors[:, None]
    return z.gather(1, targets[:, None]).squeeze(1) - total, slope.to(logits.dtype)


def _of(function: Any, h: Tensor) -> Any:
    """The function itself on a CPU, compiled on a GPU: there each of its steps would read and write the whole chunk."""
    return _compiled(function) if h.is_cuda else function


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=True)

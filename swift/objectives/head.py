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
        head.targets = head.learned = head.correct = head.answer = None
        head.train(linear.training)
        return head

    @torch.compiler.disable
    def forward(self, hidden: Tensor) -> Tensor:
        if self.targets is None:
            return super().forward(hidden)
        targets = self.targets.to(hidden.device).flatten()
        learned = (targets >= 0).nonzero().squeeze(1) if self.learned is None else self.learned.to(hidden.device)
        logps, correct = _ChunkedLogProb.apply(
            hidden.flatten(0, 1)[learned], self.weight, self.bias, targets[learned], self.chunk, self.softcap, self.want_correct
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
    has only to scale it. Where the weight needs one too, logits are computed again in backward, and the weight's gradient is summed over
    the chunks in float32.
    """

    @staticmethod
    def forward(ctx, h, weight, bias, targets, chunk, softcap, want_correct):  # type: ignore[override, no-untyped-def]
        device = h.device.type
        ctx.autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        ctx.chunk, ctx.softcap = chunk, softcap
        ctx.early = ctx.needs_input_grad[0] and not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2])
        out = h.new_empty(len(targets), dtype=torch.float32)
        correct = torch.zeros(len(targets), dtype=torch.bool, device=h.device)
        dh = torch.empty_like(h) if ctx.early else None
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = nn.functional.linear(h[part], weight, bias)
            if want_correct:
                correct[part] = logits.argmax(1) == targets[part]
            if dh is None:
                out[part] = _of(_logp, h)(logits, targets[part], softcap)
            else:
                out[part], slope = _of(_logp_and_slope, h)(logits, targets[part], softcap)
                dh[part] = slope @ weight.to(slope.dtype)
        ctx.save_for_backward(*((dh,) if dh is not None else (h, weight, bias, targets)))
        ctx.mark_non_differentiable(correct)
        return out, correct

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[override, no-untyped-def]
        if ctx.early:
            (dh,) = ctx.saved_tensors
            return (dh * grad[:, None].to(dh.dtype), *(None,) * 6)
        h, weight, bias, targets = ctx.saved_tensors
        need_h, need_weight, need_bias = ctx.needs_input_grad[:3]
        dh = torch.empty_like(h) if need_h else None
        dweight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        dbias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and need_bias else None
        with torch.autocast(h.device.type, ctx.autocast, enabled=ctx.autocast is not None):
            for start in range(0, len(targets), ctx.chunk):
                part = slice(start, start + ctx.chunk)
                logits = nn.functional.linear(h[part], weight, bias)
                _, slope = _of(_logp_and_slope, h)(logits, targets[part], ctx.softcap)
                dlogits = slope * grad[part, None].to(slope.dtype)
                if dh is not None:
                    dh[part] = (dlogits @ weight.to(dlogits.dtype)).to(h.dtype)
                if dweight is not None:
                    dweight += dlogits.t() @ h[part].to(dlogits.dtype)
                if dbias is not None:
                    dbias += dlogits.float().sum(0)
        cast = (d.to(p.dtype) if d is not None and p is not None else None for d, p in ((dweight, weight), (dbias, bias)))
        return dh, *cast, None, None, None, None


def _logp(logits: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    """(n, V), (n,) -> log p(target) (n,) float32."""
    z = logits.float()
    if softcap is not None:
        z = torch.tanh(z / softcap) * softcap
    return z.gather(1, targets[:, None]).squeeze(1) - z.logsumexp(1)


def _logp_and_slope(logits: Tensor, targets: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
    """As `_logp`, with ∂log p(target)/∂logits (n, V) in the logits' dtype."""
    z = logits.float()
    if softcap is not None:
        z = torch.tanh(z / softcap) * softcap
    total = z.logsumexp(1)
    hit = torch.arange(z.shape[1], device=z.device) == targets[:, None]
    slope = hit.float() - torch.exp(z - total[:, None])
    if softcap is not None:
        slope = slope * (1 - (z / softcap) ** 2)
    return z.gather(1, targets[:, None]).squeeze(1) - total, slope.to(logits.dtype)


def _of(function: Any, h: Tensor) -> Any:
    """The function itself on a CPU, compiled on a GPU: there each of its steps would read and write the whole chunk."""
    return _compiled(function) if h.is_cuda else function


@cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=True)

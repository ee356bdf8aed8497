"""The output layer that answers log-probabilities of given targets without building (B, T, V) logits.

It takes the place of a model's own output layer through `set_output_embeddings`, shares its weight (same state_dict keys), and
answers plain logits while no targets are set. All chunks are one autograd node: a module per chunk fails under DDP and ZeRO.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LogProbHead(nn.Linear):
    """(B, T, H) -> (B, T, 1) log p(target) while `targets` (B, T) are set, 0 where a target is negative; else (B, T, V) logits."""

    chunk = 1024  # tokens at a time: the peak is chunk * V
    targets: Tensor | None
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
        head.targets = head.correct = head.answer = None
        head.train(linear.training)
        return head

    def forward(self, hidden: Tensor) -> Tensor:
        if self.targets is None:
            return super().forward(hidden)
        targets = self.targets.to(hidden.device)
        logps, correct = _ChunkedLogProb.apply(
            hidden.flatten(0, 1), self.weight, self.bias, targets.flatten(), self.chunk, self.softcap, self.want_correct
        )
        self.correct = correct.view(targets.shape) if self.want_correct else None
        answer = logps.view(*targets.shape, 1)
        self.answer = answer
        return answer


class _ChunkedLogProb(torch.autograd.Function):
    """log softmax(cap(h Wᵀ + b))[target], chunk by chunk in float32. Logits are computed again in backward; the weight's gradient is
    summed over the chunks in float32."""

    @staticmethod
    def forward(ctx, h, weight, bias, targets, chunk, softcap, want_correct):  # type: ignore[override, no-untyped-def]
        ctx.save_for_backward(h, weight, bias, targets)
        ctx.chunk, ctx.softcap = chunk, softcap
        device = h.device.type
        ctx.autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        out = h.new_empty(len(targets), dtype=torch.float32)
        correct = torch.zeros(len(targets), dtype=torch.bool, device=h.device)
        for part, logits, target, learned in _chunks(h, weight, bias, targets, chunk, softcap):
            picked = logits.gather(1, target[:, None]).squeeze(1)
            out[part] = torch.where(learned, picked - logits.logsumexp(1), 0.0)
            if want_correct:
                correct[part] = learned & (logits.argmax(1) == target)
        ctx.mark_non_differentiable(correct)
        return out, correct

    @staticmethod
    def backward(ctx, grad, _):  # type: ignore[override, no-untyped-def]
        h, weight, bias, targets = ctx.saved_tensors
        need_h, need_weight, need_bias = ctx.needs_input_grad[:3]
        dh = torch.empty_like(h) if need_h else None
        dweight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        dbias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and need_bias else None
        with torch.autocast(h.device.type, ctx.autocast, enabled=ctx.autocast is not None):
            for part, logits, target, learned in _chunks(h, weight, bias, targets, ctx.chunk, ctx.softcap):
                g = torch.where(learned, grad[part], 0.0)[:, None]
                dlogits = logits.softmax(1).mul_(-g).scatter_add_(1, target[:, None], g)  # (chunk, V) float32
                if ctx.softcap is not None:
                    dlogits *= 1 - (logits / ctx.softcap) ** 2
                low = dlogits.to(ctx.autocast or h.dtype)
                if dh is not None:
                    dh[part] = (low @ weight.to(low.dtype)).to(h.dtype)
                if dweight is not None:
                    dweight += low.t() @ h[part].to(low.dtype)
                if dbias is not None:
                    dbias += dlogits.sum(0)
        cast = (d.to(p.dtype) if d is not None and p is not None else None for d, p in ((dweight, weight), (dbias, bias)))
        return dh, *cast, None, None, None, None


def _chunks(h, weight, bias, targets, size, softcap):  # type: ignore[no-untyped-def]
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        logits = nn.functional.linear(h[part], weight, bias).float()
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        yield part, logits, targets[part].clamp(min=0), targets[part] >= 0

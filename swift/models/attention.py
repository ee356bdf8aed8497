"""Attention over samples laid end to end: each token sees only its own sample, whatever the device, without a (T, T) mask.

A batch without padding is one row of N tokens, with `cu_seq_lens_q` (S + 1,) saying where its S samples begin. On CUDA torch's own
variable-length kernel runs; elsewhere each sample is attended to by itself. Registered with transformers as `swift_varlen`, and as
`swift_varlen_eager` with the softmax written out; models whose code goes through transformers' AttentionInterface take them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.torch_version import TorchVersion
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

VARLEN, VARLEN_EAGER = "swift_varlen", "swift_varlen_eager"
TAKES_GROUPS = TorchVersion(torch.__version__) >= "2.13"  # varlen_attn has enable_gqa


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    segment_lengths: tuple[int, ...] | None = None,
    s_aux: Tensor | None = None,
    eager: bool = False,
    **_: object,
) -> tuple[Tensor, None]:
    """query (B, H, T, D), key and value (B, H_kv, T_kv, D) -> (B, T, H, D).

    With `cu_seq_lens_q`, B is 1 and T is the sum of all samples. `max_length_q` is the true longest sample: the kernel never writes
    what lies beyond it. `segment_lengths` is the same as `cu_seq_lens_q` as Python numbers, so that the CPU road need not copy back.
    `s_aux` (H,) are sinks, scores of a token that is not there (gpt-oss).
    """
    one = partial(_one_segment, dropout=dropout, scaling=scaling, window=sliding_window, softcap=softcap, sinks=s_aux, eager=eager)
    if cu_seq_lens_q is None:
        return one(query, key, value, attention_mask).transpose(1, 2), None
    if not query.is_cuda:
        lengths = list(segment_lengths) if segment_lengths is not None else cu_seq_lens_q.diff().tolist()
        parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
        return torch.cat([one(q, k, v, None) for q, k, v in parts], 2).transpose(1, 2), None
    if torch.is_autocast_enabled("cuda"):  # rotary embeddings leave float32 where weights are; autocast knows fused kernels, not this one
        query, key, value = (x.to(torch.get_autocast_dtype("cuda")) for x in (query, key, value))
    if (
        max_length_q
        and not eager
        and softcap is None
        and s_aux is None
        and dropout == 0.0
        and query.dtype in (torch.float16, torch.bfloat16)
    ):
        return _torch_varlen(query, key, value, scaling, sliding_window, cu_seq_lens_q, max_length_q), None
    return _padded(one, query, key, value, cu_seq_lens_q.diff().tolist()), None


def _padded(one: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """What no kernel takes (float32, capped scores) on a GPU, where a loop over samples would be slow: samples padded at their end, which
    causal attention never looks at. Returns (1, T, H, D)."""
    padded = [pad_sequence(list(x[0].transpose(0, 1).split(lengths)), batch_first=True).transpose(1, 2) for x in (query, key, value)]
    out = one(*padded, None).transpose(1, 2)  # (S, longest, H, D)
    return torch.cat([row[:length] for row, length in zip(out, lengths, strict=True)])[None]


def _torch_varlen(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, cu: Tensor, longest: int) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # only where a CUDA kernel is there

    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))  # (T, H, D)
    left = -1 if window is None else window - 1
    if k.shape[1] == q.shape[1]:
        out = varlen_attn(q, k, v, cu, cu, longest, longest, scale=scaling, window_size=(left, 0))
    elif TAKES_GROUPS:
        out = varlen_attn(q, k, v, cu, cu, longest, longest, scale=scaling, window_size=(left, 0), enable_gqa=True)
    else:  # the operator below varlen_attn took fewer key heads than query heads before
        window_size = {"window_size_left": left, "window_size_right": 0} if window is not None else {}
        out = torch.ops.aten._flash_attention_forward(q, k, v, cu, cu, longest, longest, 0.0, True, False, scale=scaling, **window_size)[0]
    return out[None]  # type: ignore[index]


def _one_segment(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    eager: bool,
    sinks: Tensor | None = None,
) -> Tensor:
    """(B, H, T, D) of rows that share one mask; causal where there is none."""
    length, kv_length = q.shape[2], k.shape[2]
    if mask is None and window is not None and kv_length > window:
        ahead = torch.arange(kv_length, device=q.device) - torch.arange(kv_length - length, kv_length, device=q.device)[:, None]
        mask = (ahead <= 0) & (ahead > -window)
    if softcap is not None or sinks is not None or eager:
        return _written_out(q, k, v, mask, dropout, scaling, softcap, sinks)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None and length > 1,
        scale=scaling,
        enable_gqa=k.shape[1] != q.shape[1],
    )


def _written_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """softmax(cap(q kᵀ)) v. Gemma 2 caps attention scores with tanh, gpt-oss has sinks: no fused kernel of torch knows them."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if sinks is None:
        return F.dropout(scores.softmax(-1, dtype=torch.float32).to(q.dtype), dropout) @ v
    sunk = torch.cat([scores, sinks.view(1, -1, 1, 1).to(scores.dtype).expand(*scores.shape[:-1], 1)], -1)
    return F.dropout(sunk.softmax(-1, dtype=torch.float32)[..., :-1].to(q.dtype), dropout) @ v


def _mask(*args: object, attention_mask: Tensor | None = None, **kwargs: object) -> Tensor | None:
    """No mask is built where nothing is padded: samples laid end to end are kept apart by `cu_seq_lens_q`, a single one is causal."""
    if attention_mask is None:
        return None
    return sdpa_mask(*args, attention_mask=attention_mask, **kwargs)  # type: ignore[arg-type]


AttentionInterface.register(VARLEN, varlen_attention)
AttentionInterface.register(VARLEN_EAGER, partial(varlen_attention, eager=True))
AttentionMaskInterface.register(VARLEN, _mask)
AttentionMaskInterface.register(VARLEN_EAGER, _mask)


def use_varlen(model: PreTrainedModel, *, eager: bool = False) -> bool:
    """Switch `model` to variable-length attention; False where its code does not go through transformers' AttentionInterface."""
    name = VARLEN_EAGER if eager else VARLEN
    model.set_attn_implementation(name)
    return model.config._attn_implementation == name

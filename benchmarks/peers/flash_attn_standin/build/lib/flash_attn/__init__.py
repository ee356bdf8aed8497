"""A stand-in for measuring peers where the flash-attn package cannot be installed: its functions, answered by the kernels inside torch.

Those are FlashAttention 2 as well, so the peers run at the speed that the package would give them. q, k, v: (B, T, heads, D) for
flash_attn_func, (tokens, heads, D) for flash_attn_varlen_func. No alibi, no soft cap, no paged cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__version__ = "2.8.3"


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    deterministic: bool = False,
) -> Tensor:
    kernel = torch.ops.aten._flash_attention_forward
    return kernel(q, k, v, None, None, q.shape[1], k.shape[1], dropout_p, causal, False, scale=softmax_scale, **_window(window_size))[0]


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    deterministic: bool = False,
    block_table: Tensor | None = None,
) -> Tensor:
    if block_table is not None:
        raise NotImplementedError("the stand-in for flash-attn has no paged cache")
    borders = (cu_seqlens_q.int(), cu_seqlens_k.int(), int(max_seqlen_q), int(max_seqlen_k))
    kernel = torch.ops.aten._flash_attention_forward
    return kernel(q, k, v, *borders, dropout_p, causal, False, scale=softmax_scale, **_window(window_size))[0]


def flash_attn_with_kvcache(*_: Any, **__: Any) -> Tensor:
    raise NotImplementedError("the stand-in for flash-attn serves training only")


def _window(size: tuple[int, int]) -> dict[str, int | None]:
    left, right = size
    return {"window_size_left": None if left < 0 else left, "window_size_right": None if right < 0 else right}

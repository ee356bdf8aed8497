"""Triton kernels of the decode step: what stands between the matrix products, each as one kernel. plain.py's `Torch` says the same in torch.

T tokens, H query heads of size D, H_kv key heads. Imported only where CUDA is.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from swift.engines.pt.attention import Layout
from swift.engines.pt.cache import by_row

BLOCK = 64  # cache rows that a program reads at a time
PROGRAMS = 264  # two for each multiprocessor of an H100: a small batch is cut into more pieces of its keys
MOST_PIECES = 32


def _at(kernel: Any, grid: tuple[int, ...]) -> Any:
    """Triton's way of saying how many programs run."""
    return kernel[grid]


@triton.jit
def _decode(Q, K, V, OUT, PART, PEAK, USED, START, scale, softcap, window, sk, hk, sv, hv,
            G: tl.constexpr, GP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, KH: tl.constexpr, S: tl.constexpr, BN: tl.constexpr,
            CAP: tl.constexpr, WINDOW: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """One program: one answer, one key head with all its G query heads, one of S pieces of its keys. sk, hk: elements from row to row, from head to head."""
    b = tl.program_id(0)
    h = tl.program_id(1)
    s = tl.program_id(2)
    used = tl.load(USED + b)
    start = tl.load(START + b)
    first = tl.maximum(used - window, 0) if WINDOW else 0
    g = tl.arange(0, GP)
    d = tl.arange(0, DP)
    n = tl.arange(0, BN)
    real = (g[:, None] < G) & (d[None, :] < D)
    q = tl.load(Q + b * (KH * G * D) + (h * G + g[:, None]) * D + d[None, :], mask=real, other=0.0)
    peak = tl.full([GP], -1e30, tl.float32)
    total = tl.zeros([GP], tl.float32)
    acc = tl.zeros([GP, DP], tl.float32)
    piece = tl.cdiv(tl.cdiv(used - first, BN), S) * BN
    low = first + s * piece
    high = tl.minimum(used, low + piece)
    for j in range(low, high, BN):
        row = j + n
        there = row < high
        at = (start + row).to(tl.int64)
        mask = there[:, None] & (d[None, :] < D)
        k = tl.load(K + at[:, None] * sk + h.to(tl.int64) * hk + d[None, :], mask=mask, other=0.0)
        x = tl.dot(q, tl.trans(k), input_precision="ieee" if EXACT else "tf32") * scale
        if CAP:
            x = softcap * (2 * tl.sigmoid(2 * x / softcap) - 1)
        x = tl.where(there[None, :], x, -1e30)
        higher = tl.maximum(peak, tl.max(x, 1))
        e = tl.exp(x - higher[:, None])
        c = tl.exp(peak - higher)
        v = tl.load(V + at[:, None] * sv + h.to(tl.int64) * hv + d[None, :], mask=mask, other=0.0)
        acc = acc * c[:, None] + tl.dot(e.to(v.dtype), v, input_precision="ieee" if EXACT else "tf32")
        total = total * c + tl.sum(e, 1)
        peak = higher
    if S == 1:
        tl.store(OUT + b * (KH * G * D) + (h * G + g[:, None]) * D + d[None, :], (acc / total[:, None]).to(OUT.dtype.element_ty), mask=real)
    else:
        base = ((b * KH + h) * S + s) * GP
        tl.store(PART + (base + g[:, None]) * DP + d[None, :], acc)
        tl.store(PEAK + (base + g) * 2, peak)
        tl.store(PEAK + (base + g) * 2 + 1, total)


@triton.jit
def _join(PART, PEAK, OUT, G: tl.constexpr, GP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, KH: tl.constexpr, S: tl.constexpr):
    """One program: one answer, one query head; its S pieces become one."""
    b = tl.program_id(0)
    head = tl.program_id(1)
    h = head // G
    g = head % G
    s = tl.arange(0, S)
    d = tl.arange(0, DP)
    base = ((b * KH + h) * S + s) * GP + g
    peak = tl.load(PEAK + base * 2)
    total = tl.load(PEAK + base * 2 + 1)
    weight = tl.exp(peak - tl.max(peak, 0))
    part = tl.load(PART + base[:, None] * DP + d[None, :])
    out = tl.sum(part * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(OUT + (b * KH * G + head) * D + d, out.to(OUT.dtype.element_ty), mask=d < D)


def decode_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    used: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """q (B, H, D); keys and values (rows, H_kv, D), a row's elements of a head together; starts and used (B,) -> (B, H, D).

    Answer b sees rows [starts[b], starts[b] + used[b]), of these with `window` the last.
    """
    q = q.contiguous()
    rows, heads, size = q.shape
    key_heads = keys.shape[1]
    groups = heads // key_heads
    padded_groups, padded_size = max(16, triton.next_power_of_2(groups)), max(16, triton.next_power_of_2(size))
    pieces = min(MOST_PIECES, triton.next_power_of_2(max(1, PROGRAMS // (rows * key_heads))))
    out = torch.empty_like(q)
    part, peak = out, out
    if pieces > 1:
        part = torch.empty(rows, key_heads, pieces, padded_groups, padded_size, device=q.device, dtype=torch.float32)
        peak = torch.empty(rows, key_heads, pieces, padded_groups, 2, device=q.device, dtype=torch.float32)
    shape = {"G": groups, "GP": padded_groups, "D": size, "DP": padded_size, "KH": key_heads, "S": pieces}
    _at(_decode, (rows, key_heads, pieces))(
        q, keys, values, out, part, peak, used, starts, scale, softcap or 1.0, window or 0, *keys.stride()[:2], *values.stride()[:2], **shape,
        BN=BLOCK, CAP=softcap is not None, WINDOW=window is not None, EXACT=q.dtype == torch.float32, num_warps=4, num_stages=3,
    )  # fmt: skip
    if pieces > 1:
        _at(_join, (rows, heads))(part, peak, out, **shape)
    return out


@triton.jit
def _add_norm(H, DELTA, WEIGHT, SUM, NORMED, eps, C: tl.constexpr, CP: tl.constexpr, ADD: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, CP)
    real = c < C
    h = tl.load(H + t * C + c, mask=real, other=0.0)
    if ADD:
        h = (h.to(tl.float32) + tl.load(DELTA + t * C + c, mask=real, other=0.0).to(tl.float32)).to(H.dtype.element_ty)
        tl.store(SUM + t * C + c, h, mask=real)
    x = h.to(tl.float32)
    x = x / tl.sqrt(tl.sum(x * x, 0) / C + eps)
    w = tl.load(WEIGHT + c, mask=real, other=0.0)
    tl.store(NORMED + t * C + c, x.to(H.dtype.element_ty) * w, mask=real)


def add_norm(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(h + delta, its RMS norm), (T, C) each."""
    h = h.contiguous()
    size = h.shape[-1]
    normed, summed = torch.empty_like(h), torch.empty_like(h) if delta is not None else h
    padded = triton.next_power_of_2(size)
    warps = min(16, max(1, padded // 512))
    other = h if delta is None else delta.contiguous()
    _at(_add_norm, (h.shape[0],))(h, other, weight, summed, normed, eps, C=size, CP=padded, ADD=delta is not None, num_warps=warps)
    return summed, normed


@triton.jit
def _turn(
    QKV,
    COS,
    SIN,
    OUT,
    K,
    V,
    WHERE,
    sk,
    hk,
    sv,
    hv,
    sc,
    D: tl.constexpr,
    HALF: tl.constexpr,
    HP: tl.constexpr,
    H: tl.constexpr,
    KH: tl.constexpr,
):
    """One program: one token, one head of q, k or v."""
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    i = tl.arange(0, HP)
    real = i < HALF
    source = QKV + (t * (H + 2 * KH) + head) * D
    a = tl.load(source + i, mask=real)
    b = tl.load(source + HALF + i, mask=real)
    if head < H + KH:
        cos = tl.load(COS + t * sc + i, mask=real).to(tl.float32)
        sin = tl.load(SIN + t * sc + i, mask=real).to(tl.float32)
        cos2 = tl.load(COS + t * sc + HALF + i, mask=real).to(tl.float32)
        sin2 = tl.load(SIN + t * sc + HALF + i, mask=real).to(tl.float32)
        x = a.to(tl.float32)
        y = b.to(tl.float32)
        a = (x * cos - y * sin).to(QKV.dtype.element_ty)
        b = (y * cos2 + x * sin2).to(QKV.dtype.element_ty)
    if head < H:
        target = OUT + (t * H + head) * D
    else:
        row = tl.load(WHERE + t).to(tl.int64)
        if head < H + KH:  # noqa: SIM108
            target = K + row * sk + (head - H).to(tl.int64) * hk
        else:
            target = V + row * sv + (head - H - KH).to(tl.int64) * hv
    tl.store(target + i, a, mask=real)
    tl.store(target + HALF + i, b, mask=real)


def turning(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return cos, sin


def turn_and_keep(number: int, qkv: Tensor, heads: int, key_heads: int, turn: tuple[Tensor, Tensor], at: Layout) -> Tensor:
    """Rotary embedding of q and k; k and v go to the cache. qkv (T, H + 2 H_kv, D); returns q (T, H, D)."""
    tokens, _, size = qkv.shape
    if number not in at.cache.keys:
        at.cache.make(number, qkv[:, :key_heads], qkv[:, :key_heads])
    keys, values = by_row(at.cache.keys[number]), by_row(at.cache.values[number])
    out = torch.empty(tokens, heads, size, dtype=qkv.dtype, device=qkv.device)
    cos, sin = turn
    half = size // 2
    _at(_turn, (tokens, heads + 2 * key_heads))(
        qkv, cos, sin, out, keys, values, at.where, *keys.stride()[:2], *values.stride()[:2], cos.stride(0),
        D=size, HALF=half, HP=triton.next_power_of_2(half), H=heads, KH=key_heads, num_warps=1,
    )  # fmt: skip
    return out


@triton.jit
def _silu_mul(X, OUT, C: tl.constexpr, BLOCK_C: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    real = c < C
    gate = tl.load(X + t * (2 * C) + c, mask=real, other=0.0).to(tl.float32)
    up = tl.load(X + t * (2 * C) + C + c, mask=real, other=0.0)
    silu = (gate * tl.sigmoid(gate)).to(OUT.dtype.element_ty)
    tl.store(OUT + t * C + c, silu * up, mask=real)


def silu_mul(gate_up: Tensor) -> Tensor:
    """(T, 2 C), gates first -> (T, C)."""
    tokens, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(tokens, size, dtype=gate_up.dtype, device=gate_up.device)
    _at(_silu_mul, (tokens, triton.cdiv(size, 1024)))(gate_up, out, C=size, BLOCK_C=1024, num_warps=4)
    return out

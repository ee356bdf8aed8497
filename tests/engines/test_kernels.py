"""The Triton kernels against the same in torch. They run on a GPU, or, where Triton is installed, anywhere with TRITON_INTERPRET=1."""

from __future__ import annotations

import pytest
import torch

from swift.engines.pt.attention import Layout, Span
from swift.engines.pt.cache import KvCache
from swift.engines.pt.plain import Torch

pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
from triton import knobs

INTERPRETED = bool(knobs.runtime.interpret)
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
DTYPES = [torch.float32] if INTERPRETED else [torch.float32, torch.bfloat16]


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"atol": 2e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [64, 80, 192])
def test_the_norm_of_a_sum(dtype: torch.dtype, size: int) -> None:
    from swift.engines.pt import kernels

    h, delta, weight = (random(5, size, dtype=dtype, seed=n) for n in (0, 1, 2))
    for added in (delta, None):
        for ours, theirs in zip(kernels.add_norm(h, added, weight[0], 1e-6), Torch.add_norm(h, added, weight[0], 1e-6), strict=True):
            torch.testing.assert_close(ours, theirs, **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gate(dtype: torch.dtype) -> None:
    from swift.engines.pt import kernels

    x = random(3, 2 * 1100, dtype=dtype)
    torch.testing.assert_close(kernels.silu_mul(x), Torch.silu_mul(x.clone()), **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(6, 2, 32), (4, 4, 24)])
def test_turned_queries_and_what_the_cache_keeps(dtype: torch.dtype, heads: int, key_heads: int, size: int) -> None:
    from swift.engines.pt import kernels

    qkv, angle = random(4, heads + 2 * key_heads, size, dtype=dtype), random(4, size // 2, dtype=torch.float32, seed=3)
    cos, sin = (torch.cat([x, x], -1).to(dtype) for x in (angle.cos(), angle.sin()))
    out = []
    for ops in (kernels, Torch):
        at = Layout(KvCache(20), torch.tensor([3, 19, 0, 7], device=DEVICE))
        q = ops.turn_and_keep(0, qkv.clone(), heads, key_heads, ops.turning(cos, sin), at)
        out.append((q, at.cache.keys[0], at.cache.values[0]))
    for ours, theirs in zip(*out, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(6, 2, 32), (28, 4, 128), (3, 3, 80)])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (40, None), (None, 5.0)])
def test_attention_of_one_token_each(
    dtype: torch.dtype, heads: int, key_heads: int, size: int, window: int | None, softcap: float | None
) -> None:
    from swift.engines.pt import kernels
    from swift.engines.pt.attention import _one_by_one
    from swift.engines.pt.cache import by_row

    spans = [Span(1, 0, 1), Span(1, 10, 64), Span(1, 100, 65), Span(1, 200, 300), Span(1, 7, 30)]
    keys, values = (random(1, key_heads, 512, size, dtype=dtype, seed=n) for n in (1, 2))
    q = random(len(spans), heads, size, dtype=dtype)
    starts, used = (torch.tensor(x, dtype=torch.int32, device=DEVICE) for x in ([s.start for s in spans], [s.used for s in spans]))
    expected = _one_by_one(q.float(), keys.float(), values.float(), Layout(KvCache(1), starts, spans), size**-0.5, window, softcap, None)
    ours = kernels.decode_attention(q, by_row(keys), by_row(values), starts, used, size**-0.5, window, softcap)
    torch.testing.assert_close(ours.float(), expected, **tolerance(dtype))
    # a batch so large that no answer's keys are cut into pieces
    many, first, count = q[3:4].expand(200, -1, -1), starts[3:4].repeat(200), used[3:4].repeat(200)
    ours = kernels.decode_attention(many, by_row(keys), by_row(values), first, count, size**-0.5, window, softcap)
    torch.testing.assert_close(ours[-1].float(), expected[3], **tolerance(dtype))

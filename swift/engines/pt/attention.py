"""Attention of a batch whose keys and values lie in the cache: T new tokens of several answers, laid end to end, each sees its own stretch.

On a CPU each answer is attended to by itself, over exactly its rows. On a GPU one kernel serves all: a Triton one while each answer has one
new token (kernels.py), FlashAttention inside torch while prompts are read. Registered with transformers as `swift_slots`, for models whose
code goes through its AttentionInterface.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from swift.engines.pt.cache import KvCache, by_row
from swift.models.attention import _written_out

SLOTS = "swift_slots"
SMALL = 1 << 22  # products of one answer's attention below which one thread is faster than several


@dataclass
class Span:
    """One answer's part of a batch: `new` tokens, the last of `used` rows that begin at row `start`."""

    new: int
    start: int
    used: int


@dataclass
class Layout:
    """Where the tokens of one forward stand. `spans` is all there is on a CPU; the tensors say the same to kernels."""

    cache: KvCache
    where: Tensor  # (T,) the cache row of each token
    spans: list[Span] = field(default_factory=list)
    starts: Tensor | None = None  # (S,) int32, or one more with `ends`
    used: Tensor | None = None  # (S,) int32
    ends: Tensor | None = None  # (S + 1,) int32, of the new tokens; None: one each
    longest_new: int = 1
    longest_used: int = 0  # a bound, where it must be known
    adapters: Tensor | None = None  # (T, R): which columns of the adapters' products count for a token (lora.py)
    windows: dict[int, int | None] = field(default_factory=dict)  # layer -> the window that it named, for the trial (forward.py)
    # on a CPU, what layers share (the keys say what it depends on)
    cuts: dict[int | None, tuple[list[int], list[int]]] = field(default_factory=dict)
    masks: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict)

    def cut(self, window: int | None) -> tuple[list[int], list[int]]:
        """Sizes that split the pool's rows into the answers' and what lies between, and the number of each answer's part.

        One split makes the parts of all answers, at half the time of taking each out by itself.
        """
        if window not in self.cuts:
            seen = [(span.start, span.used) if window is None else _within(span, window) for span in self.spans]
            sizes, numbers, end = [], [0] * len(seen), 0
            for number in sorted(range(len(seen)), key=seen.__getitem__):
                start, used = seen[number]
                numbers[number] = len(sizes) + 1
                sizes += [start - end, used]
                end = start + used
            self.cuts[window] = [*sizes, self.cache.rows + 1 - end], numbers
        return self.cuts[window]

    def of_last(self) -> Layout:
        """Of the answers' last tokens alone, whose keys and values are in the cache already. For a CPU."""
        return Layout(self.cache, self.where, [Span(1, span.start, span.used) for span in self.spans])


def lay_out(spans: list[Span], cache: KvCache, device: torch.device) -> Layout:
    """The layout of answers whose tokens stand one after the other in a batch; on a GPU, one copy from the host."""
    where = [row for span in spans for row in range(span.start + span.used - span.new, span.start + span.used)]
    if device.type != "cuda":
        return Layout(cache, torch.tensor(where, device=device), spans)
    ends, numbers = [0], (len(spans), len(where))
    for span in spans:
        ends.append(ends[-1] + span.new)
    # `starts` stand for the keys' borders: the operator wants one more of them than there are answers
    starts, used = [span.start for span in spans] + [cache.spare], [span.used for span in spans]
    flat = torch.tensor([*where, *starts, *used, *ends]).pin_memory().to(device, non_blocking=True)
    rows, starts_, used_, ends_ = flat.split([numbers[1], numbers[0] + 1, numbers[0], numbers[0] + 1])
    if len(where) == len(spans):  # one token each: the decode kernel's
        return Layout(cache, rows, spans, starts_[:-1].int(), used_.int())
    longest_new, longest_used = max(span.new for span in spans), max(span.used for span in spans)
    return Layout(cache, rows, spans, starts_.int(), used_.int(), ends_.int(), longest_new, longest_used)


def attend(
    layer: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    at: Layout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """q (T, H, D), k (T, H_kv, D), v (T, H_kv, E) -> (T, H, E); k and v are written to the cache."""
    at.cache.write(layer, at.where, k, v)
    return read(layer, q, at, scale=scale, window=window, softcap=softcap, sinks=sinks)


def read(
    layer: int,
    q: Tensor,
    at: Layout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """As `attend`, for keys and values that are in the cache already."""
    keys, values = at.cache.keys[layer], at.cache.values[layer]
    if q.is_cuda:
        if at.ends is None and sinks is None:
            from swift.engines.pt.kernels import decode_attention  # Triton is there where CUDA is

            assert at.starts is not None and at.used is not None
            return decode_attention(q, by_row(keys), by_row(values), at.starts, at.used, scale, window, softcap)
        if at.ends is not None and softcap is None and sinks is None and q.dtype != torch.float32 and keys.shape[-1] == values.shape[-1]:
            return _flash(q, by_row(keys), by_row(values), at, scale, window)
    return _one_by_one(q, keys, values, at, scale, window, softcap, sinks)


def _flash(q: Tensor, keys: Tensor, values: Tensor, at: Layout, scale: float, window: int | None) -> Tensor:
    """`starts` as the keys' borders and `used` as their numbers: the operator takes slots of a cache so. Causal to the right end."""
    more = {} if window is None else {"window_size_left": window - 1, "window_size_right": 0}
    return torch.ops.aten._flash_attention_forward(
        q.contiguous(),
        keys,
        values,
        at.ends,
        at.starts,
        at.longest_new,
        at.longest_used,
        0.0,
        True,
        False,
        scale=scale,
        seqused_k=at.used,
        **more,
    )[0]


def _one_by_one(
    q: Tensor, keys: Tensor, values: Tensor, at: Layout, scale: float, window: int | None, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    if softcap is None and sinks is None and all(span.new == 1 for span in at.spans):
        return _newest(q, keys, values, at, scale, window)
    out, first = [], 0
    for span in at.spans:
        one = q[first : first + span.new].transpose(0, 1)[None]
        k, v = (pool.narrow(2, span.start, span.used) for pool in (keys, values))
        out.append(_causal(one, k, v, at, scale, window, softcap, sinks)[0].transpose(0, 1))
        first += span.new
    return torch.cat(out)


def _newest(q: Tensor, keys: Tensor, values: Tensor, at: Layout, scale: float, window: int | None) -> Tensor:
    """One new token each. The query heads of a key head stand as its queries, so nothing is repeated.

    In float32 two products and a softmax are faster than the fused operator; that one keeps scores of shorter numbers in float32.
    """
    heads, groups = keys.shape[1], q.shape[1] // keys.shape[1]
    sizes, numbers = at.cut(window)
    written_out = q.dtype == torch.float32
    if written_out:
        grouped = (q * scale).view(q.shape[0], heads, groups, q.shape[2]).unbind(0)
        k, v = keys[0].transpose(1, 2).split_with_sizes(sizes, 2), values[0].split_with_sizes(sizes, 1)
    else:
        grouped = q.view(q.shape[0], 1, heads, groups, q.shape[2]).unbind(0)
        k, v = keys.split_with_sizes(sizes, 2), values.split_with_sizes(sizes, 2)

    def some(first: int, end: int) -> list[Tensor]:
        rows = [(grouped[row], k[numbers[row]], v[numbers[row]]) for row in range(first, end)]
        if written_out:
            return [torch.bmm(torch.softmax(torch.bmm(one, its), -1), value) for one, its, value in rows]
        return [F.scaled_dot_product_attention(one, its, value, scale=scale) for one, its, value in rows]

    out = _shared_out(some, len(numbers), small=q[0].numel() * max(span.used for span in at.spans) < SMALL)
    return torch.cat(out).view(q.shape[0], q.shape[1], -1)


_helper = ThreadPoolExecutor(1, "swift attention")


def _shared_out(some: Callable[[int, int], list[Tensor]], rows: int, *, small: bool) -> list[Tensor]:
    """`some(0, rows)`. Small pieces of work are not worth torch's threads, which meet at every operation: one helper takes half of the rows.

    How many threads torch uses is a matter of the calling thread.
    """
    threads = torch.get_num_threads()
    if not small or threads == 1:
        return some(0, rows)
    torch.set_num_threads(1)
    try:
        if rows < 4:
            return some(0, rows)
        half = _helper.submit(_alone, some, rows // 2, rows)
        return some(0, rows // 2) + half.result()
    finally:
        torch.set_num_threads(threads)


def _alone(some: Callable[[int, int], list[Tensor]], first: int, end: int) -> list[Tensor]:
    torch.set_num_threads(1)
    with torch.inference_mode():
        return some(first, end)


def _within(span: Span, window: int) -> tuple[int, int]:
    used = min(span.used, window)
    return span.start + span.used - used, used


def _causal(
    q: Tensor, k: Tensor, v: Tensor, at: Layout, scale: float, window: int | None, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """q (1, H, n, D) are the last n of the (1, H_kv, u, D) keys."""
    new, used = q.shape[2], k.shape[2]
    mask = _mask(at, new, used, window, q.device) if (window is not None and used > window) or new not in (1, used) else None
    if softcap is not None or sinks is not None:
        return _written_out(q, k, v, mask, 0.0, scale, softcap, sinks)
    gqa = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and new > 1, scale=scale, enable_gqa=gqa)


def _mask(at: Layout, new: int, used: int, window: int | None, device: torch.device) -> Tensor:
    """(new, used) bool, True where it may be seen; all layers share it."""
    if (new, used, window) not in at.masks:
        behind = torch.arange(used - new, used, device=device)[:, None] - torch.arange(used, device=device)
        at.masks[new, used, window] = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
    return at.masks[new, used, window]


def slots_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    slots: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """As transformers calls it: query (1, H, T, D), key and value (1, H_kv, T, D) -> (1, T, H, D)."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    slots.windows[layer] = sliding_window
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend(layer, q, k, v, slots, scale=scale, window=sliding_window, softcap=softcap, sinks=s_aux)[None], None


AttentionInterface.register(SLOTS, slots_attention)
AttentionMaskInterface.register(SLOTS, lambda *_, **__: None)

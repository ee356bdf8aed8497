"""One forward of the running batch: pieces of prompts, or one token for each answer. On a GPU the latter is captured once for each batch size
and replayed, so that a step costs the host one small copy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swift import logs
from swift.engines.pt.attention import Layout, Span, lay_out
from swift.engines.pt.cache import KvCache
from swift.engines.pt.forward import Forward

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256)  # rows of captured steps


class Piece(NamedTuple):
    """Part of a prompt: tokens at positions `first`, `first` + 1, … of the stretch that begins at row `start`."""

    tokens: list[int]
    first: int
    start: int
    adapters: int  # row of the table of columns


class Row(NamedTuple):
    """An answer that gets one more token; the last one is in `latest`."""

    place: int
    position: int  # of the last token, which is read now
    start: int
    adapters: int


class Steps:
    """`latest` (places + 1,) holds each place's last token. `columns` (K, R): which columns of the adapters' products count (lora.py); row 0
    is the base's, with what is `always` on.
    """

    def __init__(
        self, forward: Forward, cache: KvCache, latest: Tensor, columns: Tensor | None = None, *, always: bool = False, capture: bool
    ):
        self.forward, self.cache, self.latest, self.columns, self.always = forward, cache, latest, columns, always
        self.device = latest.device
        self._captured: dict[tuple[int, bool], _Captured] | None = {} if capture else None
        self._pool = None  # the memory that captured steps share: they never run at the same time

    def read(self, pieces: Sequence[Piece]) -> Tensor:
        """(S, V) logits behind each piece's last token."""
        at = lay_out([Span(len(one.tokens), one.start, one.first + len(one.tokens)) for one in pieces], self.cache, self.device)
        ids = [token for one in pieces for token in one.tokens]
        positions = [one.first + n for one in pieces for n in range(len(one.tokens))]
        kinds = [one.adapters for one in pieces for _ in one.tokens]
        ends, total = [], 0
        for one in pieces:
            total += len(one.tokens)
            ends.append(total - 1)
        flat = self._sent([ids, positions, kinds])
        at.adapters = self._columns(flat[2], any(kinds))
        return self.forward.logits(flat[0], flat[1], at, self._sent(ends))

    def _sent(self, numbers: list) -> Tensor:
        host = torch.tensor(numbers)
        return host.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else host.to(self.device)

    def _columns(self, kinds: Tensor, some: bool) -> Tensor | None:
        if self.columns is None or not (some or self.always):
            return None
        return self.columns[kinds]

    def next(self, rows: Sequence[Row]) -> Tensor:
        """(B, V) logits of the token that follows each row's last."""
        adapted = self.columns is not None and (self.always or any(row.adapters for row in rows))
        if self._captured is None or len(rows) > SIZES[-1]:
            at_rows = self._sent([_numbers(row) for row in rows]).T
            return self._run(at_rows, adapted, [Span(1, row.start, row.position + 1) for row in rows])
        size = SIZES[bisect_left(SIZES, len(rows))]
        captured = self._captured.get((size, adapted))
        if captured is None:
            try:
                captured = self._captured[size, adapted] = self._capture(size, adapted)
            except RuntimeError as error:  # an operation that waits for the host, memory that is short
                logs.warning(f"steps are not captured as CUDA graphs, and slower: {str(error).strip().splitlines()[0]}")
                self._captured = None
                return self.next(rows)
        idle = [[len(self.latest) - 1, 0, self.cache.spare, self.cache.spare, 1, 0]] * (size - len(rows))
        captured.inputs.copy_(torch.tensor([_numbers(row) for row in rows] + idle).T.contiguous().pin_memory(), non_blocking=True)
        captured.graph.replay()
        return captured.logits[: len(rows)]

    def _run(self, rows: Tensor, adapted: bool, spans: list[Span]) -> Tensor:
        """rows (6, B): place, position, cache row, start, rows used, row of the table of columns."""
        at = Layout(self.cache, rows[2], spans, rows[3].int(), rows[4].int())
        if adapted and self.columns is not None:
            at.adapters = self.columns[rows[5]]
        return self.forward.logits(self.latest[rows[0]], rows[1], at)

    def _capture(self, size: int, adapted: bool) -> _Captured:
        """The first, uncaptured run loads kernels and takes workspaces, which a capture must not."""
        idle = [len(self.latest) - 1, 0, self.cache.spare, self.cache.spare, 1, 0]
        inputs = torch.tensor([idle] * size, device=self.device).T.contiguous()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run(inputs, adapted, [])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._run(inputs, adapted, [])
        self._pool = graph.pool()
        return _Captured(graph, inputs, logits)


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    logits: Tensor


def _numbers(row: Row) -> list[int]:
    return [row.place, row.position, row.start + row.position, row.start, row.position + 1, row.adapters]

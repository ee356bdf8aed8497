"""What was handed in to the running batch: the answers to one sample, and whom to tell of them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from swift.engines.engine import Chunk, Listener
from swift.engines.pt.adapters import AdapterRequest
from swift.engines.pt.request import Request


@dataclass(eq=False)
class Ticket:
    """`moved` is told, in the engine's thread, of a request that has a new token, or only of one that has ended where not `each`."""

    requests: list[Request]
    adapter: AdapterRequest | None
    moved: Callable[[Request], object]
    failed: Callable[[Exception], object]
    each: bool
    cancelled: bool = False
    left: int = field(init=False)  # answers that have not ended

    def __post_init__(self) -> None:
        self.left = len(self.requests)


class Slip:
    """A ticket as who handed it in sees it (engine.Handle): chunks to a listener, or to be waited for."""

    def __init__(self, requests: list[Request], adapter: AdapterRequest | None, listen: Listener | None, *, each: bool):
        self._kept: queue.SimpleQueue[Chunk | Exception] = queue.SimpleQueue()
        self._listen: Listener = listen or self._kept.put
        self.ticket = Ticket(requests, adapter, self._moved, self._failed, each)

    def _moved(self, request: Request) -> None:
        chunk = request.chunk()
        if chunk is not None:
            self._listen(chunk)

    def _failed(self, error: Exception) -> None:
        self._listen(error)

    def cancel(self) -> None:
        self.ticket.cancelled = True

    def __iter__(self) -> Iterator[Chunk]:
        left = len(self.ticket.requests)
        while left:
            news = self._kept.get()
            if isinstance(news, Exception):
                raise news
            left -= news.finish_reason is not None
            yield news

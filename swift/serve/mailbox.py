"""From the engine's thread into the event loop: news of many answers cross together, one wake-up for all that came meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Mailbox:
    """One for an event loop. Any thread puts, the loop delivers."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._news: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._called = False

    def put(self, queue: asyncio.Queue[Any], news: Any) -> None:
        self._news.append((queue, news))
        if not self._called:  # whoever sees True was in time: _deliver turns it off before it empties the deque
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody is left to hear it
                self._news.clear()

    def _deliver(self) -> None:
        self._called = False
        while self._news:
            queue, news = self._news.popleft()
            queue.put_nowait(news)

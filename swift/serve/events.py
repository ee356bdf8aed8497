"""Answering while a client may leave: server-sent events, and whole responses that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # a proxy that collects a stream makes it none
DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """Whoever asked has left."""


def event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


async def gone(receive: Receive) -> None:
    """Returns when the client has left. To be called once the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Where the client leaves before, it is cancelled, and ClientGone raised."""
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, watcher):
            one.cancel()


class Events(Response):
    """`events` as they come; `left` is called where the client leaves before the last of them, `done` in any case."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], *, left: Callable[[], object], done: Callable[[], object]):
        super().__init__(None, headers=HEADERS)
        del self.headers["content-length"]
        self.events, self.left, self.done = events, left, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer, watcher = asyncio.ensure_future(self._write(send)), asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({writer, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()
            else:
                self.left()
        finally:
            for one in (writer, watcher):
                one.cancel()
            self.done()

    async def _write(self, send: Send) -> None:
        """A client that reads slowly is waited for in `send`, and nobody else with it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.events:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

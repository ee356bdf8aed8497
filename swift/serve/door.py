"""What stands before the routes: the key, the size and the time of a body, and no way in once the server is going down. An ASGI layer."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from swift.serve.counts import Counts
from swift.serve.refusal import Refusal

MOST_BYTES = 32 << 20  # of a body: some million tokens of text
BODY_SECONDS = 60.0  # within which a body must have come
OPEN_PATHS = ("/health", "/ping")  # without a key: those who ask are load balancers

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Door:
    """Wraps an ASGI app. `paths` are the routes, as /metrics names them. Where `draining` is true nothing new comes in."""

    def __init__(self, app: Any, counts: Counts, *, api_key: str | None, paths: tuple[str, ...], most_bytes: int = MOST_BYTES):
        self.app, self.counts, self.most_bytes = app, counts, most_bytes
        self.paths = frozenset(paths)
        self.api_key = None if api_key is None else api_key.encode("utf-8")
        self.draining = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, status = scope["path"], 0

        async def watched(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.counts.open += 1
        try:
            try:
                self._check(scope, path)
                body = await self._body(scope, receive)
            except Refusal as refused:
                await _swallow(receive, self.most_bytes)
                await _answer(refused, watched)
                return
            if body is None:  # who asked is gone
                return
            await self.app(scope, _again(body, receive), watched)
        finally:
            self.counts.open -= 1
            if status:
                known = path if path in self.paths else "/v1/models/…" if path.startswith("/v1/models/") else "other"
                self.counts.requests[known, status] += 1

    def _check(self, scope: dict[str, Any], path: str) -> None:
        if self.draining:
            raise Refusal(503, "the server is shutting down and takes no more requests", kind="server_error", code="shutting_down")
        if self.api_key is None or path in OPEN_PATHS:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self.api_key):
            message = "the API key is wrong" if given else "an API key is needed: send the header 'Authorization: Bearer KEY'"
            raise Refusal(401, message, code="invalid_api_key")

    async def _body(self, scope: dict[str, Any], receive: Receive) -> bytes | None:
        """All of it, since nothing can be answered before; None where the client left."""
        too_large = Refusal(413, f"the body is larger than {self.most_bytes >> 20} MiB", code="request_too_large")
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self.most_bytes:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.most_bytes:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {BODY_SECONDS:g} seconds") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """The body as one message; behind it only a disconnect can come."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> dict[str, Any]:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(refused: Refusal, send: Send) -> None:
    body = json.dumps(refused.body(), ensure_ascii=False).encode("utf-8")
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *refused.headers.items()]
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _swallow(receive: Receive, most: int) -> None:
    """Take what the client still sends, within bounds: who is cut off while sending does not read the answer."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            while taken < 2 * most:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                taken += len(message.get("body", b""))

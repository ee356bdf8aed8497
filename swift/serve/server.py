"""Listening: https, and a way to stop that finishes what has begun. uvicorn speaks HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
from types import FrameType
from typing import Any

import uvicorn

from swift import logs
from swift.errors import UsageError
from swift.serve.door import Door

GRACE_SECONDS = 120.0  # for running requests once the server shall stop; then they are cut
BACKLOG = 2048  # connections that wait to be accepted


class DrainingServer(uvicorn.Server):
    """SIGTERM and Ctrl-C close the door first: what has begun is finished, what comes is refused. A second signal stops at once."""

    def __init__(self, config: uvicorn.Config, door: Door):
        super().__init__(config)
        self.door = door
        self.drained: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.door.draining:
            self.should_exit = self.force_exit = True
            return
        self.door.draining = True
        self.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self.drained = self.loop.create_task(self._finish())

    async def _finish(self) -> None:
        counts, end = self.door.counts, time.monotonic() + GRACE_SECONDS
        if counts.open:
            logs.info(f"stopping: {counts.open} running requests are finished first (again to stop at once)")
        while counts.open and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if counts.open:
            logs.warning(f"{counts.open} requests were still running after {GRACE_SECONDS:g} seconds and are cut")
        self.should_exit = True


def configuration(app: Any, *, keyfile: str | None = None, certfile: str | None = None) -> uvicorn.Config:
    """Raises UsageError for a certificate that cannot be used."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=65,  # longer than load balancers keep a connection: they must be the ones to close it
        timeout_graceful_shutdown=5,
        ssl_keyfile=keyfile,
        ssl_certfile=certfile,
        ws="none",
        lifespan="on",
    )
    try:
        config.load()
    except OSError as wrong:  # ssl.SSLError is one
        raise UsageError(f"--ssl_certfile {certfile} with --ssl_keyfile {keyfile}: {wrong}") from None
    return config


def serve(door: Door, listener: socket.socket, *, keyfile: str | None = None, certfile: str | None = None) -> None:
    """Until a signal."""
    DrainingServer(configuration(door, keyfile=keyfile, certfile=certfile), door).run(sockets=[listener])

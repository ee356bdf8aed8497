"""Addresses and ports, before anything listens. Loads the standard library only."""

from __future__ import annotations

import errno
import ipaddress
import socket

from swift import logs
from swift.errors import UsageError

PORTS = 100  # that are tried, from the one asked for


def bind(host: str, port: int) -> socket.socket:
    """A socket at the first free port from `port` on; said where it is another one. Nothing listens at it yet. `port` 0: any free one."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as wrong:
        raise UsageError(f"--host {host}: {getattr(wrong, 'strerror', None) or wrong}") from None
    for tried in range(port, min(port + PORTS, 65536)) if port else (0,):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address[0], tried, *address[2:]))
        except OSError as wrong:
            made.close()
            if wrong.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise UsageError(f"--host {host}: {wrong.strerror}") from None
        if tried != port:
            logs.warning(f"port {port} is taken; the server listens at {tried} (--port)")
        return made
    raise UsageError(f"--port {port}: no port from {port} to {min(port + PORTS, 65536) - 1} is free")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

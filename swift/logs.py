"""Log lines `[INFO:swift] …` on stderr, rank 0 only (other ranks: errors). Results never pass here: they go to stdout. Reads LOG_LEVEL."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache

from swift import dist


class _Stderr(logging.StreamHandler):
    """Looks stderr up at each line, so that a test or a progress bar that replaced it is respected."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):  # type: ignore[override]
        return sys.stderr


@cache
def get_logger() -> logging.Logger:
    """The one logger of the toolkit."""
    logger = logging.getLogger("swift")
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("[%(levelname)s:swift] %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels for some CPUs whenever peft is imported
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    logger.setLevel(level if dist.is_main() else "ERROR")
    return logger


def info(message: str) -> None:
    get_logger().info(message)


def warning(message: str) -> None:
    get_logger().warning(message)


@cache
def warn_once(message: str) -> None:
    get_logger().warning(message)


@cache
def info_once(message: str) -> None:
    get_logger().info(message)

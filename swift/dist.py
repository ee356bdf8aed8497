"""Who this process is among many: rank, world size, barrier, broadcast. Reads RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE;
sets TOKENIZERS_PARALLELISM for processes that are forked."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def _number(*names: str, default: int) -> int:
    for name in names:
        if os.environ.get(name):
            return int(os.environ[name])
    return default


def rank() -> int:
    """Global rank, 0 where nothing is distributed."""
    return _number("RANK", default=0)


def local_rank() -> int:
    return _number("LOCAL_RANK", default=0)


def world_size() -> int:
    return _number("WORLD_SIZE", default=1)


def local_world_size() -> int:
    """Processes on this machine; deepspeed's launcher calls it LOCAL_SIZE."""
    return _number("LOCAL_WORLD_SIZE", "LOCAL_SIZE", default=1)


def is_main() -> bool:
    return rank() == 0


def is_local_main() -> bool:
    return local_rank() == 0


def is_distributed() -> bool:
    return world_size() > 1


def barrier() -> None:
    """Wait for every rank; nothing without a process group."""
    import torch.distributed as dist  # light path: the command line imports this module

    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def broadcast(value: T) -> T:
    """Rank 0's value on every rank. Needs a process group when there is more than one rank."""
    if not is_distributed():
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """Every rank's value, in rank order, on every rank."""
    if not is_distributed():
        return [value]
    import torch.distributed as dist

    box: list = [None] * world_size()
    dist.all_gather_object(box, value)
    return box


def most(number: int) -> int:
    """The largest of all ranks' numbers. Ranks meet without their devices: a step that asks for it does not wait for the one before."""
    if not is_distributed():
        return number
    import torch
    import torch.distributed as dist

    box = torch.tensor(number)
    dist.all_reduce(box, dist.ReduceOp.MAX, group=_group_of_hosts())
    return int(box)


@cache
def _group_of_hosts() -> Any:
    import torch.distributed as dist

    return dist.new_group(backend="gloo")


THREADS = "TOKENIZERS_PARALLELISM"


def no_tokenizer_threads() -> None:
    """For a process that was forked: the tokenizer's threads stayed behind, and whoever waits for them waits for ever."""
    os.environ[THREADS] = "false"


@contextmanager
def forking() -> Iterator[None]:
    """Processes that are forked here tokenize in one thread each, whatever the environment says; this one is as before."""
    before = os.environ.get(THREADS)
    no_tokenizer_threads()
    try:
        yield
    finally:
        del os.environ[THREADS]
        if before is not None:
            os.environ[THREADS] = before


def close() -> None:
    """Leave the process group together: a rank that leaves first aborts in gloo. For the good end of a run, not after an error."""
    import sys

    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.barrier()
            # gloo's threads may still be letting go of the last sums, for which they need Python's lock. The group's destructor waits for these
            # threads while it holds that lock: asleep, this thread leaves it to them first (seen: a rank that never ended, 1 run in 40)
            time.sleep(0.2)
            dist.destroy_process_group()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)

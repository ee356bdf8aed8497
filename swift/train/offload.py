"""The inputs of layers that are computed again in backward, kept in the computer's memory instead of the GPU's.

torch.autograd hands every tensor that is kept for backward to `saved_tensors_hooks`. While whole layers are computed again, all that is kept
of a layer is its input, whether the layer's checkpoint lies around its compiled code (transformers up to 5.17) or inside of it (5.23): the
checkpoint, or the compiled function, keeps that input through the same hooks. So one pair of hooks around the model's forward is enough.
https://docs.pytorch.org/tutorials/intermediate/autograd_saved_tensors_hooks_tutorial.html

An input leaves on a stream of its own while its layer computes, and comes back while the layer above it is computed again. The last layer's
stays: it would be wanted back at once.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.hooks import RemovableHandle

from swift.models.layout import inner_model
from swift.train.compiled import layers

LEAVING = 2  # inputs whose copy may be under way while the next layer computes
ON_GPU = LEAVING + 2  # inputs that are on the GPU at once at most: those, the one being used, and the last layer's


def offload_inputs(model: nn.Module, tokens: int) -> Offload:
    """Keep what `model`'s layers get in the computer's memory from now on. `tokens`: the largest micro-batch, for which buffers are made."""
    offload = Offload(model, tokens)
    offload.attach()
    return offload


def host_bytes(layers: int, input_bytes: float) -> int:
    """What the buffers take in the computer's memory: one a layer but the last, each rounded up to a power of two, as torch pins memory."""
    return max(layers - 1, 0) * _rounded(int(input_bytes))


def host_memory() -> int:
    """Bytes of the computer's memory that can be taken: what is available, or what a container's limit leaves."""
    return min(_available(Path("/proc/meminfo")), _limit(Path("/sys/fs/cgroup")))


class Offload:
    """Hooks on a model's forward, and a `Lane` for each device that layers' inputs come from."""

    def __init__(self, model: nn.Module, tokens: int = 0):
        inner = inner_model(model)
        assert inner is not None
        self.module = inner
        self.width = int(inner.config.get_text_config(decoder=True).hidden_size)
        self.most = max(len(layers(model)) - 1, 0)  # inputs that leave in one forward
        self.tokens = tokens
        self.lanes: dict[torch.device, Lane] = {}
        self.hooks: saved_tensors_hooks | None = None  # while a forward runs
        self.shape: tuple[int, ...] = ()  # of a layer's input in this forward
        self.left = 0  # inputs that may still leave in this forward
        self.last: Parcel | None = None

    def attach(self) -> list[RemovableHandle]:
        begin = self.module.register_forward_pre_hook(self.begin, with_kwargs=True)
        return [begin, self.module.register_forward_hook(self.end, always_call=True)]

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        given = kwargs.get("input_ids", args[0] if args else None)
        given = kwargs["inputs_embeds"] if given is None else given
        self.shape, self.left = (*given.shape[:2], self.width), self.most
        self.hooks = saved_tensors_hooks(self.pack, self.unpack)
        self.hooks.__enter__()

    def end(self, *_: Any) -> None:
        if self.hooks is None:
            return
        self.hooks.__exit__(None, None, None)
        self.hooks = None
        for lane in self.lanes.values():
            lane.let_go(0)
        if self.last is not None:
            self.last.fetch()  # while the output layer computes
            self.last = None

    def pack(self, tensor: Tensor) -> Tensor | Parcel:
        if self.left == 0 or tensor.shape != self.shape or not tensor.is_floating_point() or not tensor.is_contiguous():
            return tensor
        self.left -= 1
        self.last = self.lane(tensor).send(tensor, below=self.last)
        return self.last

    def unpack(self, kept: Tensor | Parcel) -> Tensor:
        return kept.take() if isinstance(kept, Parcel) else kept

    def lane(self, tensor: Tensor) -> Lane:
        if tensor.device not in self.lanes:
            self.lanes[tensor.device] = Lane(tensor.device, self.tokens * self.width * tensor.element_size())
        return self.lanes[tensor.device]


class Lane:
    """Copies from one device and back, in the order in which they are asked for, into buffers that are used again."""

    def __init__(self, device: torch.device, size: int):
        self.device, self.size = device, _rounded(size)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.free: list[Tensor] = []
        self.made = 0
        self.leaving: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def send(self, tensor: Tensor, *, below: Parcel | None) -> Parcel:
        """Copy out. The tensor is held until its copy is done, so that nothing else is written where it lies."""
        buffer = self._buffer(tensor.nbytes)
        place = buffer[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        done = self.copy(place, tensor)
        if done is not None:
            self.leaving.append((tensor, done))
            self.let_go(LEAVING)
        return Parcel(self, buffer, place, below)

    def copy(self, to: Tensor, of: Tensor) -> torch.cuda.Event | None:
        """Copy after what the device was asked to compute so far; the event comes when it is done, None where it is done already."""
        with torch.no_grad():
            if self.stream is None:
                to.copy_(of)
                return None
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                to.copy_(of, non_blocking=True)
        done = torch.cuda.Event()
        done.record(self.stream)
        return done

    def wait(self, done: torch.cuda.Event | None) -> None:
        """Let what is computed from now on wait for a copy; this process itself does not wait."""
        if done is not None:
            torch.cuda.current_stream(self.device).wait_event(done)

    def let_go(self, most: int) -> None:
        """Hold at most that many tensors whose copies may be under way."""
        while len(self.leaving) > most:
            tensor, done = self.leaving.popleft()
            self.wait(done)
            del tensor

    def _buffer(self, size: int) -> Tensor:
        if size > self.size:  # rows that are longer than was known: the smaller buffers are not kept
            self.size, self.free = _rounded(size), []
        if self.free:
            return self.free.pop()
        self.made += 1
        return torch.empty(self.size, dtype=torch.uint8, device="cpu", pin_memory=self.stream is not None)

    def give_back(self, buffer: Tensor) -> None:
        if len(buffer) == self.size:
            self.free.append(buffer)
        else:
            self.made -= 1


class Parcel:
    """One layer's input in a buffer; `below` is that of the layer under it, which backward wants next."""

    def __init__(self, lane: Lane, buffer: Tensor, place: Tensor, below: Parcel | None):
        self.lane, self.buffer, self.place, self.below = lane, buffer, place, below
        self.here: Tensor | None = None
        self.done: torch.cuda.Event | None = None

    def fetch(self) -> None:
        """Begin to copy back."""
        if self.here is None:
            self.here = torch.empty_like(self.place, device=self.lane.device)
            self.done = self.lane.copy(self.here, self.place)

    def take(self) -> Tensor:
        """The input, after which that of the layer below begins to come back."""
        self.fetch()
        if self.below is not None:
            self.below.fetch()
        self.lane.wait(self.done)
        tensor, self.here, self.below = self.here, None, None
        assert tensor is not None
        return tensor

    def __del__(self) -> None:
        if self.here is not None:
            self.lane.wait(self.done)  # it was not used, and its memory may be written by others from now on
        self.lane.give_back(self.buffer)  # copies of a lane go one after the other: none can overtake one that is still under way


def _rounded(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _available(meminfo: Path) -> int:
    """Linux's own estimate; where there is none, no bound."""
    try:
        lines = dict(line.split(":") for line in meminfo.read_text(encoding="utf-8").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 1 << 62


def _limit(cgroup: Path) -> int:
    """What a container's limit leaves; pages of files count as free, as they are given up for others."""
    try:
        most = (cgroup / "memory.max").read_text(encoding="utf-8").strip()
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
        kinds = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="utf-8").splitlines())
        return 1 << 62 if most == "max" else int(most) - used + int(kinds.get("inactive_file", 0))
    except (OSError, ValueError):
        return 1 << 62

"""Where a model's weights go: --device_map and --max_memory, or what fits this machine and launch."""

from __future__ import annotations

import re
from typing import Any

import torch
from accelerate.utils import convert_file_size_to_int
from torch import nn

from swift import dist, logs
from swift.args.base import ModelArgs
from swift.errors import UsageError
from swift.registry import did_you_mean

SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # accelerate's ways of dividing layers over devices


def placement(args: ModelArgs) -> dict[str, Any]:
    """`device_map` and, where weights are spread over devices, `max_memory` for `from_pretrained`.

    Raises UsageError for devices that there are not, and for what several processes cannot do.
    """
    asked = _device_map(args.device_map)
    if asked is None and args.max_memory is not None and not dist.is_distributed():
        asked = "auto"
    if asked is None:
        asked = _default()
    if isinstance(asked, str) and asked in SPREAD:
        if dist.is_distributed():
            raise UsageError(
                f"--device_map {asked} spreads one process over all GPUs; with several processes each has its own. Leave it out"
            )
        return {"device_map": asked, "max_memory": _max_memory(args.max_memory)} if args.max_memory else {"device_map": asked}
    if args.max_memory is not None:
        logs.warn_once(f"--max_memory has no effect: weights are not spread over devices (--device_map {' or '.join(SPREAD)})")
    return {"device_map": asked}


def check_map(model: nn.Module, asked: Any) -> None:
    """transformers passes over names in a map that the model has not, and puts on the CPU what it does not name: both are mistakes.

    Raises UsageError naming them. `asked` is --device_map; anything but an object is fine.
    """
    if not isinstance(asked, dict):
        return
    weights = [name for name, _ in model.named_parameters()]
    known = {name for name, _ in model.named_modules()} | set(weights)
    for name in asked:
        if name not in known:
            near = did_you_mean(name, list(known)) or "."
            raise UsageError(f"--device_map: {type(model).__name__} has no module {name!r}{near}")
    left = [name for name in weights if not any(name == part or name.startswith(f"{part}.") or not part for part in asked)]
    if left:
        raise UsageError(f"--device_map gives no device to {len(left)} weights of {type(model).__name__}, {left[0]} for one")


def _default() -> str | dict[str, Any]:
    if not torch.cuda.is_available():
        return {"": "cpu"}
    if torch.cuda.device_count() > 1 and not dist.is_distributed():
        return "auto"  # several visible GPUs in one process: the layers are spread over them
    return {"": dist.local_rank()}


def _device_map(asked: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if asked is None or (isinstance(asked, str) and asked in SPREAD):
        return asked
    if isinstance(asked, str):
        return {"": _device(asked, "--device_map")}
    if not asked:
        raise UsageError('--device_map: the object is empty; it names a device for each module, and "" is the whole model')
    return {module: _device(device, f"--device_map: {module or 'the whole model'}") for module, device in asked.items()}


def _max_memory(asked: dict[Any, Any]) -> dict[int | str, int]:
    """Bytes by GPU number or "cpu"; devices that are not named take nothing."""
    limits = {}
    for device, size in asked.items():
        try:
            limits[_device(device, "--max_memory")] = convert_file_size_to_int(size)
        except (ValueError, TypeError):
            raise UsageError(f"--max_memory: {device} cannot be given {size!r}; write a number of bytes, or '20GB', '500MiB'") from None
    return limits


def _device(name: Any, where: str) -> int | str:
    """A GPU's number, or "cpu"."""
    word = str(name).strip().lower()
    number = re.fullmatch(r"(?:cuda:)?(\d+)|cuda", word)
    if number is None:
        if word == "cpu":
            return word
        if word == "disk":
            raise UsageError(f"{where}: weights cannot be kept on disk; name a GPU (0, cuda:0) or cpu")
        choices = [*SPREAD, "cpu", "cuda:0"] if where == "--device_map" else ["cpu", "cuda:0"]
        raise UsageError(f"{where}: {name!r} is no device{did_you_mean(word, choices)} Expected {', '.join(choices)}, or a GPU's number")
    found = int(number[1]) if number[1] else dist.local_rank()
    if found >= torch.cuda.device_count():
        raise UsageError(f"{where}: GPU {found} is not there; this machine has {torch.cuda.device_count()}")
    return found

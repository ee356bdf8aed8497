"""Full-parameter training: which parameters are frozen, and which are opened again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from swift import logs
from swift.errors import UsageError

if TYPE_CHECKING:
    from swift.args.tuner import FullArgs


def open_parameters(model: nn.Module, args: FullArgs) -> None:
    """Open everything, freeze by --freeze_parameters_ratio (from the bottom) and --freeze_parameters, reopen --trainable_parameters.

    The ratio freezes parameters in the model's order while their sum stays at or below ratio · total.
    Raises UsageError where a prefix matches nothing or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    room = args.freeze_parameters_ratio * sum(p.numel() for p in parameters.values())
    for parameter in parameters.values():
        room -= parameter.numel()
        if room < 0:
            break
        parameter.requires_grad_(False)
    for flag, prefixes, trainable in (
        ("freeze_parameters", args.freeze_parameters, False),
        ("trainable_parameters", args.trainable_parameters, True),
    ):
        for prefix in prefixes:
            found = [p for name, p in parameters.items() if name.startswith(prefix)]
            if not found:
                raise UsageError(f"--{flag} {prefix}: no parameter's name begins so; names look like {', '.join(list(parameters)[:3])}")
            for parameter in found:
                parameter.requires_grad_(trainable)
    if not any(p.requires_grad for p in parameters.values()):
        raise UsageError("every parameter is frozen: nothing would be trained (--freeze_parameters_ratio, --freeze_parameters)")
    if args.freeze_parameters or args.freeze_parameters_ratio:
        frozen = sum(not p.requires_grad for p in parameters.values())
        logs.info(f"{frozen} of {len(parameters)} parameter tensors are frozen")

"""From --train_type to a model of which the right part is trainable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from swift import logs
from swift.models.quantized import hidden_parameters
from swift.registry import Registry
from swift.tuners.adapters import add_lora, load_adapter
from swift.tuners.full import open_parameters

if TYPE_CHECKING:
    from swift.args.commands import SftCommand

Tuner = Callable[[PreTrainedModel, "SftCommand"], nn.Module]
tuners: Registry[Tuner] = Registry("train_type")


@tuners.register("lora")
def _lora(model: PreTrainedModel, args: SftCommand) -> nn.Module:
    return add_lora(model, args.lora, args.target)


@tuners.register("full")
def _full(model: PreTrainedModel, args: SftCommand) -> nn.Module:
    open_parameters(model, args.full)
    return model


def apply_tuner(model: PreTrainedModel, args: SftCommand) -> nn.Module:
    """The model to train: a fresh tuner, or the adapter of --resume_from_checkpoint or --adapters, whose own settings then hold."""
    if args.adapter.train_type != "full" and args.adapter.adapters:
        *below, last = args.adapter.adapters
        for number, folder in enumerate(below):
            model = load_adapter(model, Path(folder), name=f"adapter_{number}").merge_and_unload()
        tuned: nn.Module = load_adapter(model, Path(last), trainable=True)
    else:
        tuned = tuners[args.adapter.train_type](model, args)
    logs.info(f"model_parameter_info: {parameter_line(tuned)}")
    return tuned


def load_adapters(model: PreTrainedModel, folders: list[str]) -> PreTrainedModel | PeftModel:
    """For inference: all adapters one on top of the other."""
    for number, folder in enumerate(folders):
        name = "default" if number == 0 else f"adapter_{number}"
        model = load_adapter(model, Path(folder), name=name)  # type: ignore[assignment]
    if len(folders) > 1:
        model.base_model.set_adapter(["default", *(f"adapter_{n}" for n in range(1, len(folders)))])  # type: ignore[union-attr, operator]
    return model


def parameter_line(model: nn.Module) -> str:
    """Class, parameters, and the share of them that is trained."""
    total = sum(p.numel() for p in model.parameters()) + hidden_parameters(model)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buffers = sum(b.numel() for b in model.buffers())
    return (
        f"{type(model).__name__}: {total / 1e6:.4f}M Params ({trainable / 1e6:.4f}M Trainable "
        f"[{100 * trainable / total:.4f}%]), {buffers / 1e6:.4f}M Buffers."
    )

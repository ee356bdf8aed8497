"""From paths or ids to the engine that the model needs: one that writes, or one that classifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from swift.engines.classify import ClassifierEngine
from swift.engines.pt.engine import PtEngine
from swift.models.classifier import num_classes
from swift.models.match import find_model
from swift.models.quantized import check_quantization

if TYPE_CHECKING:
    from swift.args.base import HubArgs, ModelArgs, QuantArgs, TemplateArgs


def load_engine(
    model: ModelArgs,
    hub: HubArgs,
    template: TemplateArgs,
    *,
    quant: QuantArgs | None = None,
    adapters: Sequence[str] = (),
    max_batch_size: int | None = None,
) -> PtEngine | ClassifierEngine:
    """Adapters lie one on top of the other. `max_batch_size`: None: as fits; 0: all at once. `quant`: None: weights as they are stored."""
    info = find_model(model, hub, max_length=template.max_length)
    if quant is not None:
        check_quantization(info, quant)
    kind = PtEngine if num_classes(info, model) is None else ClassifierEngine
    return kind.load(info, model, hub, template, quant=quant, adapters=adapters, max_batch_size=max_batch_size)


def classifies(model: ModelArgs, hub: HubArgs) -> bool:
    """The same question before anything is fetched: as words and files on this machine say."""
    if model.task_type is not None:
        return model.task_type == "seq_cls"
    return num_classes(find_model(replace(model, rope_scaling=None), hub, download=False), model) is not None

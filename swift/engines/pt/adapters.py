"""Which LoRA answers: those that came with the engine are always on; a request may put one more on top, loaded on first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from swift.engines.pt.lora import Bank, bankable
from swift.tuners.adapters import load_adapter


@dataclass(frozen=True)
class AdapterRequest:
    """An adapter for single requests, kept loaded under `name`."""

    name: str
    path: str


class AdapterShelf:
    """The adapters that are on a model. `model` is the model as it now is; loading the first adapter wraps it."""

    def __init__(self, model: PreTrainedModel | PeftModel):
        self.model = model
        self.always = list(model.active_adapters) if isinstance(model, PeftModel) else []
        self._loaded: dict[AdapterRequest, str] = {}
        self._active: list[str] | None = None

    @property
    def known(self) -> tuple[AdapterRequest, ...]:
        return tuple(self._loaded)

    def load(self, request: AdapterRequest) -> None:
        """Raises ModelError where it is none, or one of another model."""
        if request in self._loaded:
            return
        name = f"request_{len(self._loaded)}"  # PEFT's names may not hold dots, people's do
        with torch.inference_mode(False):  # of weights that were made in that mode torch does not count who writes them
            self.model = load_adapter(self.model, Path(request.path), name=name)
        self._loaded[request] = name
        self._active = None

    def names(self, request: AdapterRequest | None) -> list[str]:
        """PEFT's names of all that answer a request whose adapter is loaded."""
        return self.always + ([self._loaded[request]] if request is not None else [])

    def fits_bank(self, request: AdapterRequest | None) -> bool:
        """Whether the answers of a request, whose adapter is loaded, can be computed beside those of others."""
        return not isinstance(self.model, PeftModel) or all(bankable(self.model, name) for name in self.names(request))

    def bank(self) -> Bank | None:
        """Every adapter that can stand in one; None where no adapter is loaded."""
        if not isinstance(self.model, PeftModel):
            return None
        return Bank(self.model, [name for name in (*self.always, *self._loaded.values()) if bankable(self.model, name)])

    @contextmanager
    def using(self, request: AdapterRequest | None) -> Iterator[None]:
        """The right adapters are active in PEFT's own layers while the block runs."""
        if request is not None:
            self.load(request)
        if not isinstance(self.model, PeftModel):
            yield
            return
        wanted = self.names(request)
        if not wanted:
            with self.model.disable_adapter():
                yield
            return
        if wanted != self._active:
            self.model.base_model.set_adapter(wanted, inference_mode=True)  # type: ignore[operator]
            self._active = wanted
        yield

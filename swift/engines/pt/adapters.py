"""Which LoRA answers: those that came with the engine are always on; a request may put one more on top, loaded on first use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

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
        self._always = list(model.active_adapters) if isinstance(model, PeftModel) else []
        self._loaded: dict[AdapterRequest, str] = {}
        self._active: list[str] | None = None

    @contextmanager
    def using(self, request: AdapterRequest | None) -> Iterator[None]:
        """The right adapters are active while the block runs."""
        if request is not None and request not in self._loaded:
            name = f"request_{len(self._loaded)}"  # PEFT's names may not hold dots, people's do
            self.model = load_adapter(self.model, Path(request.path), name=name)
            self._loaded[request] = name
            self._active = None
        if not isinstance(self.model, PeftModel):
            yield
            return
        wanted = self._always + ([self._loaded[request]] if request is not None else [])
        if not wanted:
            with self.model.disable_adapter():
                yield
            return
        if wanted != self._active:
            self.model.base_model.set_adapter(wanted, inference_mode=True)  # type: ignore[operator]
            self._active = wanted
        yield

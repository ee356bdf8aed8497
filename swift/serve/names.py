"""The names under which clients ask: the model first, then each adapter that was given as name=path."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swift.serve.refusal import Refusal

if TYPE_CHECKING:
    from swift.engines.pt.adapters import AdapterRequest


@dataclass
class Names:
    base: str
    adapters: Sequence[AdapterRequest] = ()
    owned_by: str = "swift"
    created: int = field(default_factory=lambda: int(time.time()))

    def adapter(self, name: str) -> AdapterRequest | None:
        """The adapter that answers under a name; None for the model as it was loaded. Refusal for a name that nobody has."""
        if name == self.base:
            return None
        for adapter in self.adapters:
            if adapter.name == name:
                return adapter
        raise Refusal(404, f"`{name}` is not in the model_list: {self.all()}.", param="model", code="model_not_found")

    def all(self) -> list[str]:
        return [self.base, *(adapter.name for adapter in self.adapters)]

    def entry(self, name: str) -> dict[str, Any]:
        self.adapter(name)
        return {"id": name, "object": "model", "created": self.created, "owned_by": self.owned_by}

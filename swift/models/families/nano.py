"""The small chat model that comes with SWIFT, and the plain fallback for models that no family knows."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec("auto"),  # whatever transformers' Auto classes load, written by its own chat template
    ModelSpec("nano", ids=("nano",)),
)

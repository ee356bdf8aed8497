"""The model and data sets that come with the package, and where they lie. Ids: `swift/nano`, `swift/self-cognition`, … in any case.

How they were made: `scripts/nano` in the repository.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
_OWNER = "swift/"


def model_path(model_id: str) -> Path | None:
    """The folder of the built-in model, or None where the id is another's (or the model was left out of this installation)."""
    folder = _FOLDER / "model"
    return folder if model_id.lower() == "swift/nano" and (folder / "config.json").is_file() else None


def dataset_path(dataset_id: str) -> Path | None:
    """The file of a built-in data set, or None where the id is another's."""
    return _datasets().get(dataset_id.lower())


def names() -> list[str]:
    """All built-in ids, the model's first."""
    return ["swift/nano", *_datasets()]


def _datasets() -> dict[str, Path]:
    return {_OWNER + path.stem: path for path in sorted((_FOLDER / "datasets").glob("*.jsonl"))}

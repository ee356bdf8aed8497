"""What tests of every part share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait for each other, and tests run side by side
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the specification and the oracles: SWIFT_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("SWIFT_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"the specification and the oracles are not there: set SWIFT_SHARED, or put them at {folder}")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is no CUDA device; torch is asked only where there is such a test."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

"""SWIFT: fine-tune, align, run, serve and evaluate language models. Public names are imported on first use (PEP 562)."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0.dev0"

_PUBLIC = {"pt": "swift.cli.python", "sft": "swift.cli.python", "infer": "swift.cli.python", "preview": "swift.cli.python"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'swift' has no attribute {name!r}")

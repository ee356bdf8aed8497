"""SWIFT: fine-tune, align, run, serve and evaluate language models. Public names are imported on first use (PEP 562)."""

__version__ = "0.1.0.dev0"

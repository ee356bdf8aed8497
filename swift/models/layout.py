"""How a model is asked about several samples that are laid end to end in one row of tokens, and whether it may be."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def inner_model(model: nn.Module) -> PreTrainedModel | None:
    """The transformers model inside whatever is around it (DDP, PEFT …); None where there is none."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)


def takes_rows_together(model: nn.Module) -> bool:
    """Whether a model, however it is wrapped, may be given samples laid end to end; otherwise one after the other (rows.py)."""
    inner = inner_model(model)
    attention = str(inner.config._attn_implementation) if inner is not None else ""
    return attention.startswith(("swift_varlen", "flash"))


def laid_end_to_end(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of `lay_end_to_end` as the arguments of the model's forward."""
    lengths = batch["segment_lengths"]
    # the CPU's road wants the lengths as numbers; compiled layers would be compiled anew for each set of them
    more = {} if batch["input_ids"].is_cuda else {"segment_lengths": lengths}
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "use_cache": False,
        "cu_seq_lens_q": batch["cu_seq_lens"],
        "cu_seq_lens_k": batch["cu_seq_lens"],
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        **more,
    }

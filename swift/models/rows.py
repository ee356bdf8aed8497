"""Samples laid end to end in one row of tokens: whatever the model, each sample is computed as if it were alone.

Most models take variable-length attention (attention.py). Others mix tokens outside of it (Mamba's state, convolutions), mask them in ways
of their own (chunks), or bring code that knows nothing of it: they get one sample after the other, which is slower and as exact. Which
kind a model is, is tried on a few tokens rather than believed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from swift.models.attention import use_varlen

PROBE = (7, 9, 5)  # tokens of the samples that are tried
# Masks of these begin to matter at lengths beyond any probe: llama 4's chunks, DeepSeek V3.2's choice of tokens
LONG_MASKS = ("attention_chunk_size", "index_topk")


def keep_rows_apart(model: PreTrainedModel, *, eager: bool = False, flash: bool = False) -> bool:
    """Give `model` variable-length attention where that keeps samples laid end to end apart; layout.py's `takes_rows_together` then says so.

    `flash`: flash attention was asked for, and knows such batches itself. Returns whether it is so.
    """
    own = str(model.config._attn_implementation)
    alone = _probe(model, apart=True)
    limit = 1e-3 if model.dtype == torch.float32 else 0.05  # of what rounding becomes on its way through all layers
    text = model.config.get_text_config(decoder=True)
    long_mask = next((name for name in LONG_MASKS if getattr(text, name, None)), None)
    if long_mask is None and (flash or use_varlen(model, eager=eager)) and _same(alone, _probe(model, apart=False), limit):
        return True
    model.set_attn_implementation("sdpa" if own.startswith("flash") else own)
    return False


@torch.no_grad()
def _probe(model: Any, *, apart: bool) -> Tensor | None:
    """Logits (N, V) of a few samples, each by itself or all in one batch; hidden states where there is no output layer.

    None where the model cannot take them so.
    """
    size = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(sum(PROBE), device=model.device) * 7919 + 11) % min(size, 20_000)
    rows = ids.split(list(PROBE))
    training = model.training
    model.eval()
    try:
        if apart:
            return torch.cat([_first(model(input_ids=row[None], use_cache=False)) for row in rows]).float()
        ends = torch.tensor([0, *torch.tensor(PROBE).cumsum(0).tolist()], dtype=torch.int32, device=ids.device)
        layout: dict[str, Any] = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(PROBE), "max_length_k": max(PROBE)}
        positions = torch.cat([torch.arange(length, device=ids.device) for length in PROBE])[None]
        answer = model(input_ids=ids[None], position_ids=positions, use_cache=False, segment_lengths=list(PROBE), **layout)
        return _first(answer).float()
    except (TypeError, ValueError, NotImplementedError):  # a forward that takes no such arguments, a kernel that is not there
        if apart:
            raise
        return None
    finally:
        model.train(training)


def _first(answer: Any) -> Tensor:
    return (answer.logits if hasattr(answer, "logits") else answer[0])[0]


def _same(alone: Tensor | None, together: Tensor | None, limit: float) -> bool:
    """Whether the logits are the same but for rounding, token by token: a router on the edge may send a single one elsewhere."""
    if alone is None or together is None or alone.shape != together.shape:
        return False
    if not alone.isfinite().all():
        return True  # numbers that overflow say nothing; the first step of training will
    error = (together - alone).norm(dim=-1) / alone.norm(dim=-1).clamp(min=1e-6)
    return bool(error.median() < limit)

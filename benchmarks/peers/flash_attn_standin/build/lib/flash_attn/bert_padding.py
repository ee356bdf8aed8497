"""Padded (B, T, …) to packed (tokens, …) and back."""

from __future__ import annotations

import torch
from torch import Tensor


def index_first_axis(x: Tensor, indices: Tensor) -> Tensor:
    return x.index_select(0, indices)


def unpad_input(hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, int, Tensor]:
    """(B, T, …) and mask (B, T) to packed rows, their indices, borders (B + 1,), the longest length, lengths (B,)."""
    lengths = mask.sum(-1, dtype=torch.int32)
    indices = mask.flatten().nonzero().flatten()
    borders = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return hidden.flatten(0, 1).index_select(0, indices), indices, borders, int(lengths.max()), lengths


def pad_input(packed: Tensor, indices: Tensor, batch: int, length: int) -> Tensor:
    out = packed.new_zeros(batch * length, *packed.shape[1:])
    return out.index_copy(0, indices, packed).view(batch, length, *packed.shape[1:])

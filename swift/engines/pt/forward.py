"""From tokens and their places in the cache to logits: the roads a model may take, and the trial that says which.

`Plain` (plain.py) is a forward of our own for the commonest layers; `Through` is the model's own, with our attention in it. A model that
takes neither is answered by the padded loop (decode.py). Which one is right is tried on a few tokens rather than believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from swift import logs
from swift.engines.pt.attention import SLOTS, Layout, Span, lay_out
from swift.engines.pt.cache import KvCache
from swift.engines.pt.lora import Bank
from swift.engines.pt.plain import Plain
from swift.models.rows import LONG_MASKS

TRIED = (9, 13)  # tokens of the two answers of the trial; read in two pieces, then one token at a time
ONE_BY_ONE = 3
MOVING_ROPE = ("dynamic", "longrope")  # frequencies that depend on the longest row of a batch: on the neighbours, here


class Forward(Protocol):
    def use(self, bank: Bank | None) -> None:
        """Adapters came, or went."""
        ...

    def logits(self, ids: Tensor, positions: Tensor, at: Layout, last: Tensor | None = None) -> Tensor:
        """ids and positions (T,) -> (T, V), or (S, V) of the tokens whose numbers are in `last`."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """While it is used, the model may be in another state; afterwards it is as it was."""
        ...


class Through:
    """The model's own forward, its attention replaced by ours while a batch runs."""

    def __init__(self, model: PreTrainedModel, bank: Bank | None):
        self.model, self.bank = model, bank

    def use(self, bank: Bank | None) -> None:
        self.bank = bank

    def logits(self, ids: Tensor, positions: Tensor, at: Layout, last: Tensor | None = None) -> Tensor:
        keep: Any = 0 if last is None else last
        call: Any = self.model
        if self.bank is not None:
            self.bank.columns = at.adapters
        return call(input_ids=ids[None], position_ids=positions[None], use_cache=False, slots=at, logits_to_keep=keep).logits[0]

    @contextmanager
    def running(self) -> Iterator[None]:
        before = str(self.model.config._attn_implementation)
        self.model.set_attn_implementation(SLOTS)
        with self.bank.on_layers() if self.bank is not None else nullcontext():
            try:
                if self.model.config._attn_implementation != SLOTS:
                    raise NotImplementedError("the model has an attention of its own")
                yield
            finally:
                self.model.set_attn_implementation(before)


class Trial(NamedTuple):
    logits: Tensor  # (2 * (1 + ONE_BY_ONE), V)
    windows: dict[int, int | None]  # the sliding window that each layer named to our attention
    bytes_per_row: int  # of the cache


class Chosen(NamedTuple):
    forward: Forward
    bytes_per_row: int


def choose_forward(model: PreTrainedModel, bank: Bank | None) -> Chosen | None:
    """The fastest road that gives the model's own logits; None where there is none, which is said."""
    why = _unfit(model)
    if why is None:
        why = "its layers keep more than keys and values, or mask them in a way of their own"
        expected = _alone(model, bank)
        roads: tuple[Callable[[], Forward | None], ...] = (lambda: Plain.of(model, bank), lambda: Through(model, bank))
        for road in roads:
            if (forward := road()) is None:
                continue
            try:
                trial = _tried(forward, model)
            except Exception as error:  # a forward that takes no such arguments, shapes of another kind, a kernel that is not there
                why = f"{type(error).__name__}: {str(error).strip()[:200]}"
                continue
            if _same(expected, trial.logits, model.dtype) and _windows_named(trial, model):
                return Chosen(forward, trial.bytes_per_row)
    logs.info(f"{type(model).__name__} is answered in padded batches, which is slower, and no prefix is kept: {why}")
    return None


def _unfit(model: PreTrainedModel) -> str | None:
    config: Any = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder:
        return "it has an encoder beside its decoder"
    if any(getattr(config, name, None) for name in LONG_MASKS):
        return "it masks long texts in a way of its own"
    rope = getattr(config, "rope_parameters", None) or {}
    if any(part.get("rope_type") in MOVING_ROPE for part in (rope, *rope.values()) if isinstance(part, dict)):
        return "its positions depend on the longest text of a batch"
    return None


def _windows_named(trial: Trial, model: PreTrainedModel) -> bool:
    """Whether as many layers named a sliding window as the configuration says: the trial's texts are too short to show it."""
    config: Any = model.config.get_text_config(decoder=True)
    types = getattr(config, "layer_types", None)
    if types is not None and set(types) - {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    expected = types.count("sliding_attention") if types is not None else config.num_hidden_layers if window else 0
    return sum(one is not None for one in trial.windows.values()) == expected


def _texts(model: PreTrainedModel) -> tuple[Tensor, ...]:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    ids = (torch.arange(sum(TRIED) + 2 * ONE_BY_ONE, device=weight.device) * 7919 + 11) % min(weight.shape[0], 20_000)
    return ids.split([length + ONE_BY_ONE for length in TRIED])


@torch.inference_mode()
def _alone(model: Any, bank: Bank | None) -> Tensor:
    """What the model itself says to each text by itself, at its last tokens."""
    with bank.off() if bank is not None else nullcontext():
        return torch.cat([model(input_ids=row[None], use_cache=False).logits[0, -1 - ONE_BY_ONE :] for row in _texts(model)]).float()


@torch.inference_mode()
def _tried(forward: Forward, model: PreTrainedModel) -> Trial:
    """The same through `forward` and a cache, both texts together and in pieces."""
    texts, cache = _texts(model), KvCache(64)
    pieces = [[(0, 4), (0, 6)], [(4, TRIED[0]), (6, TRIED[1])]]
    pieces += [[(length + n, length + n + 1) for length in TRIED] for n in range(ONE_BY_ONE)]
    said: list[Tensor] = []  # (2, V) after each piece
    windows: dict[int, int | None] = {}
    with forward.running():
        for piece in pieces:
            at = lay_out([Span(end - begin, 32 * n, end) for n, (begin, end) in enumerate(piece)], cache, texts[0].device)
            ids = torch.cat([row[begin:end] for row, (begin, end) in zip(texts, piece, strict=True)])
            positions = torch.cat([torch.arange(begin, end, device=ids.device) for begin, end in piece])
            last = torch.tensor([end - begin for begin, end in piece], device=ids.device).cumsum(0) - 1
            said.append(forward.logits(ids, positions, at, last))
            windows |= at.windows
    return Trial(torch.stack(said[1:], 1).flatten(0, 1).float(), windows, cache.bytes_per_row())


def _same(expected: Tensor, tried: Tensor, dtype: torch.dtype) -> bool:
    """Whether the logits are the same but for rounding; numbers that overflow say nothing."""
    if expected.shape != tried.shape:
        return False
    if not expected.isfinite().all():
        return True
    error = (tried - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-6)
    return bool(error.median() < (1e-3 if dtype == torch.float32 else 0.05))

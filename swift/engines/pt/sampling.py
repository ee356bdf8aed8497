"""From logits to tokens, as pure functions. B rows, V words of the vocabulary, K candidates. All logits are float32.

Each row draws with one uniform number of its own, so what it draws does not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig

from swift.engines.engine import Sampling


@dataclass(frozen=True)
class Choice:
    """How one row chooses its tokens: a Sampling with the model's own generation_config filled in."""

    temperature: float  # 0: the likeliest token
    top_k: int  # 0: all
    top_p: float
    repetition_penalty: float
    min_p: float = 0.0  # 0: all
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it matters which tokens there were."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


def resolve(sampling: Sampling, found: GenerationConfig) -> Choice:
    """Fill in from the checkpoint's generation_config.json; where that is silent too, what transformers' `generate` takes.

    A model whose configuration has sampling off is greedy unless a temperature is asked for.
    """
    temperature = sampling.temperature
    if temperature is None:
        temperature = _first(found.temperature, 1.0) if found.do_sample else 0.0
    return Choice(
        temperature=temperature,
        top_k=max(0, int(_first(sampling.top_k, found.top_k, 50))),
        top_p=_first(sampling.top_p, found.top_p, 1.0),
        repetition_penalty=_first(sampling.repetition_penalty, found.repetition_penalty, 1.0),
        min_p=_first(sampling.min_p, found.min_p, 0.0),
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=sampling.logit_bias,
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def penalize(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Repetition penalty, https://arxiv.org/abs/1909.05858 section 4.1, on the tokens of prompt and answer.

    seen: (B, V) bool; penalty: (B, 1).
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def penalize_counts(logits: Tensor, counts: Tensor, presence: Tensor, frequency: Tensor) -> Tensor:
    """OpenAI's penalties, on the tokens of the answer: once for having been there, and once for each time.

    counts: (B, V); presence, frequency: (B, 1).
    """
    return logits - presence * (counts > 0) - frequency * counts


def candidates(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor | None = None, *, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """(probabilities, token ids), each (B, K), likeliest first; what top_k, top_p and min_p leave out has probability 0.

    temperature, top_k, top_p, min_p: (B,), temperature above 0. Sorts the vocabulary only where a row has no top_k. `most`: the largest
    top_k, V where one has none; who knows it saves asking the device.
    """
    vocabulary = logits.shape[-1]
    limits = torch.where(top_k > 0, top_k, vocabulary).clamp(max=vocabulary)
    values, ids = (logits / temperature[:, None]).topk(int(limits.max()) if most is None else min(most, vocabulary), dim=-1)
    values = values.masked_fill(torch.arange(values.shape[-1], device=values.device) >= limits[:, None], -torch.inf)
    shares = values.softmax(-1)
    outside = shares.cumsum(-1) - shares >= top_p[:, None]  # what all tokens before this one hold together
    outside &= top_p[:, None] < 1  # rounding must not cut a tail that was not asked to go
    if min_p is not None:
        outside |= shares < min_p[:, None] * shares[:, :1]
    outside[:, 0] = False
    return values.masked_fill(outside, -torch.inf).softmax(-1), ids


def draw(probabilities: Tensor, ids: Tensor, uniform: Tensor) -> Tensor:
    """One token a row, (B,): the one in whose stretch of the summed probabilities the row's number in [0, 1) falls."""
    sums = probabilities.cumsum(-1)
    place = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
    last = (probabilities > 0).sum(-1, keepdim=True) - 1  # a number next to 1 must not fall behind the last candidate
    return ids.gather(-1, place.minimum(last)).squeeze(-1)


def chosen_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """(B,) log-probabilities of `tokens`, without a sort."""
    return logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)


def top_logprobs(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(log-probabilities, token ids), each (B, count), likeliest first."""
    values, ids = logits.topk(min(count, logits.shape[-1]), dim=-1)
    return values - logits.logsumexp(-1, keepdim=True), ids

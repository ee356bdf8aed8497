"""The loop: a left-padded batch of requests, one token for each row and step, rows leave when they end. B rows, T columns so far."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from swift.engines.engine import TokenLogprob
from swift.engines.pt import sampling
from swift.engines.pt.request import Request

SHRINK = 0.75  # copying the cache to fewer rows pays once a quarter of them has ended


def decode(model: PreTrainedModel, requests: list[Request], word: Callable[[int], str]) -> Iterator[list[Request]]:
    """Run `requests` as one batch until all have ended; after each step, those that got a token. `word` is a token's text."""
    batch = _Batch(model, requests, word)
    while batch.rows:
        yield batch.step()
        batch.drop_ended()


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go; the rest of the model may be spread over more devices."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight.device


class _Batch:
    """The tensors of a running batch. Rows that have ended stay until enough of them can leave together."""

    def __init__(self, model: PreTrainedModel, requests: list[Request], word: Callable[[int], str]) -> None:
        self.model, self.rows, self.word = model, requests, word
        self.device = input_device(model)
        self.cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        self.takes = inspect.signature(model.forward).parameters.keys()
        self.width = max(len(row.prompt) for row in requests)
        self.padded = any(len(row.prompt) < self.width for row in requests)
        self.mask = torch.ones(len(requests), self.width + max(row.limit for row in requests), dtype=torch.long)
        self.input_ids = torch.zeros(len(requests), self.width, dtype=torch.long)
        for number, row in enumerate(requests):
            self.mask[number, : self.width - len(row.prompt)] = 0
            self.input_ids[number, self.width - len(row.prompt) :] = torch.tensor(row.prompt)
        positions = (self.mask[:, : self.width].cumsum(-1) - 1).clamp(min=0)
        self.positions, self.mask, self.input_ids = (x.to(self.device) for x in (positions, self.mask, self.input_ids))
        self.choice = _Choices(requests, self.device)

    @torch.inference_mode()
    def step(self) -> list[Request]:
        logits = self._forward()
        tokens = self.choice.tokens(logits)
        self._record_logprobs(logits, tokens)
        running = [(row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True) if row.finish_reason is None]
        for row, token in running:
            row.take(token)
        self.input_ids, self.positions = tokens[:, None], self.positions[:, -1:] + 1
        self.width += 1
        return [row for row, _ in running]

    def _forward(self) -> Tensor:
        """(B, V) float32 logits of the next token."""
        given = {
            "input_ids": self.input_ids,
            "attention_mask": self.mask[:, : self.width] if self.padded else None,  # none at all: the fast causal path
            "position_ids": self.positions,
            "past_key_values": self.cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        output = self.model(**{name: value for name, value in given.items() if name in self.takes})
        return output.logits[:, -1].float()

    def _record_logprobs(self, logits: Tensor, tokens: Tensor) -> None:
        asked = [number for number, row in enumerate(self.rows) if row.logprobs is not None and row.finish_reason is None]
        if not asked:
            return
        rows = [self.rows[number] for number in asked]
        chosen = sampling.chosen_logprobs(logits[asked], tokens[asked]).tolist()
        likeliest = self._likeliest(logits[asked], rows)
        for row, token, value, top in zip(rows, tokens[asked].tolist(), chosen, likeliest, strict=True):
            row.logprobs.append(TokenLogprob(self.word(token), value, top))  # type: ignore[union-attr]

    def _likeliest(self, logits: Tensor, rows: list[Request]) -> list[tuple[tuple[str, float], ...] | None]:
        """Each row's top_logprobs; None for rows that did not ask. The vocabulary is gone through only when one did."""
        most = max((row.top_logprobs for row in rows if row.top_logprobs is not None), default=None)
        if most is None:
            return [None] * len(rows)
        values, ids = (x.tolist() for x in sampling.top_logprobs(logits, most))
        pairs = [[(self.word(i), v) for i, v in zip(*row, strict=True) if v > float("-inf")] for row in zip(ids, values, strict=True)]
        return [None if row.top_logprobs is None else tuple(its[: row.top_logprobs]) for row, its in zip(rows, pairs, strict=True)]

    def drop_ended(self) -> None:
        """Take ended rows out of the cache where that is worth the copy."""
        stay = [number for number, row in enumerate(self.rows) if row.finish_reason is None]
        if len(stay) > SHRINK * len(self.rows) or len(stay) == len(self.rows):
            return
        self.rows = [self.rows[number] for number in stay]
        if not stay:
            return
        index = torch.tensor(stay, device=self.device)
        with torch.inference_mode():
            self.cache.batch_select_indices(index)
            self.input_ids, self.positions, self.mask = self.input_ids[index], self.positions[index], self.mask[index]
            self.choice = self.choice.select(index, self.rows)


class _Choices:
    """The rows' ways to choose a token, as tensors."""

    def __init__(self, rows: list[Request], device: torch.device, seen: Tensor | None = None) -> None:
        self.rows, self.device = rows, device
        self.penalty = torch.tensor([[row.choice.repetition_penalty] for row in rows], device=device)
        self.penalizes = any(row.choice.repetition_penalty != 1 for row in rows)
        self.seen = seen
        self.sampled = [number for number, row in enumerate(rows) if row.choice.temperature > 0]
        choices = [rows[number].choice for number in self.sampled]
        self.temperature = torch.tensor([one.temperature for one in choices], device=device)
        self.top_k = torch.tensor([one.top_k for one in choices], device=device)
        self.top_p = torch.tensor([one.top_p for one in choices], device=device)

    def select(self, index: Tensor, rows: list[Request]) -> _Choices:
        return _Choices(rows, self.device, None if self.seen is None else self.seen[index])

    def tokens(self, logits: Tensor) -> Tensor:
        """(B,) the next token of each row."""
        if self.penalizes:
            logits = sampling.penalize(logits, self._seen(logits.shape[-1]), self.penalty)
        tokens = logits.argmax(-1)
        if self.sampled:
            probabilities, ids = sampling.candidates(logits[self.sampled], self.temperature, self.top_k, self.top_p)
            numbers = torch.tensor([self.rows[number].randomness.random() for number in self.sampled], device=self.device)
            tokens[self.sampled] = sampling.draw(probabilities, ids, numbers)
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _seen(self, vocabulary: int) -> Tensor:
        if self.seen is None:
            self.seen = torch.zeros(len(self.rows), vocabulary, dtype=torch.bool, device=self.device)
            for number, row in enumerate(self.rows):
                self.seen[number, torch.tensor(row.prompt, device=self.device)] = True
        return self.seen

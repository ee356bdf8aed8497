"""The road of models that the running batch cannot take (forward.py): a left-padded batch with transformers' own cache, one token for each
row and step, rows leave when they end. B rows, T columns so far.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from swift.engines.pt.choose import Chooser, Told
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
        self.chooser = Chooser(len(requests), self.device)
        self.joined = False
        self.places = list(range(len(requests)))  # the rows' numbers from the start, which stay theirs

    @torch.inference_mode()
    def step(self) -> list[Request]:
        logits = self._forward()
        if not self.joined:
            for place, row in zip(self.places, self.rows, strict=True):
                self.chooser.join(place, row, logits.shape[-1])
            self.joined = True
        tokens = self.chooser.tokens(logits, self.rows, self.places)
        said = tokens.tolist()
        told = Told.of(logits, tokens, self.rows)
        if told is not None:
            told.write(self.rows, said, self.word)
        running = [(row, token) for row, token in zip(self.rows, said, strict=True) if row.finish_reason is None]
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

    def drop_ended(self) -> None:
        """Take ended rows out of the cache where that is worth the copy."""
        stay = [number for number, row in enumerate(self.rows) if row.finish_reason is None]
        if len(stay) > SHRINK * len(self.rows) or len(stay) == len(self.rows):
            return
        self.rows, self.places = [self.rows[number] for number in stay], [self.places[number] for number in stay]
        if not stay:
            return
        index = torch.tensor(stay, device=self.device)
        with torch.inference_mode():
            self.cache.batch_select_indices(index)
            self.input_ids, self.positions, self.mask = self.input_ids[index], self.positions[index], self.mask[index]

"""One token for each row of a batch, each in its own way, and what is told of it. Nothing here waits for a GPU.

A row has a number of its own (`place`) as long as it runs; what is counted of its tokens stands under that number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swift.engines.engine import TokenLogprob
from swift.engines.pt import sampling
from swift.engines.pt.request import Request


class Chooser:
    """For at most `places` rows at a time."""

    def __init__(self, places: int, device: torch.device):
        self.places, self.device = places, device
        self._prompted: Tensor | None = None  # (places, V) bool: tokens of the prompt
        self._counts: Tensor | None = None  # (places, V) int32: tokens of the answer

    def join(self, place: int, request: Request, vocabulary: int) -> None:
        """A row takes `place`. Rows whose way of choosing counts no tokens need not be known."""
        if not request.choice.counts:
            return
        if self._prompted is None or self._counts is None:
            self._prompted = torch.zeros(self.places, vocabulary, dtype=torch.bool, device=self.device)
            self._counts = torch.zeros(self.places, vocabulary, dtype=torch.int32, device=self.device)
        self._prompted[place], self._counts[place] = False, 0
        self._prompted[place, torch.tensor(request.prompt, device=self.device)] = True
        if request.token_ids:
            said = torch.tensor(request.token_ids, device=self.device)
            self._counts[place].index_add_(0, said, torch.ones_like(said, dtype=torch.int32))

    def tokens(self, logits: Tensor, rows: Sequence[Request], places: Sequence[int]) -> Tensor:
        """logits (B, V) in any dtype -> (B,) the next token of each row."""
        choices = [row.choice for row in rows]
        if all(one.temperature == 0 and not one.counts and not one.logit_bias for one in choices):
            return logits.argmax(-1)
        logits = self._biased(logits.float(), choices)
        counting = [number for number, one in enumerate(choices) if one.counts]
        if counting:
            logits = self._penalized(logits, choices, places, counting)
        tokens = logits.argmax(-1)
        drawn = [number for number, one in enumerate(choices) if one.temperature > 0]
        if drawn:
            tokens = self._drawn(logits, tokens, rows, drawn)
        if counting:
            assert self._counts is not None
            at = self._tensor([places[number] for number in counting])
            self._counts.index_put_((at, tokens[self._tensor(counting)]), torch.ones_like(at, dtype=torch.int32), accumulate=True)
        return tokens

    def _tensor(self, values: Sequence[int] | Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _biased(self, logits: Tensor, choices: Sequence[sampling.Choice]) -> Tensor:
        known = [(row, token, bias) for row, one in enumerate(choices) for token, bias in one.logit_bias if 0 <= token < logits.shape[-1]]
        if not known:
            return logits
        rows, ids, biases = zip(*known, strict=True)
        return logits.index_put((self._tensor(rows), self._tensor(ids)), self._tensor(biases), accumulate=True)

    def _penalized(self, logits: Tensor, choices: Sequence[sampling.Choice], places: Sequence[int], rows: list[int]) -> Tensor:
        assert self._prompted is not None and self._counts is not None
        at, own = self._tensor([places[row] for row in rows]), self._tensor(rows)
        repetition, presence, frequency = (
            torch.tensor([[getattr(choices[row], name)] for row in rows], dtype=torch.float32, device=self.device)
            for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
        )
        counts = self._counts[at]
        new = sampling.penalize(logits[own], self._prompted[at] | (counts > 0), repetition)
        return logits.index_copy(0, own, sampling.penalize_counts(new, counts, presence, frequency))

    def _drawn(self, logits: Tensor, tokens: Tensor, rows: Sequence[Request], drawn: list[int]) -> Tensor:
        """Rows of like top_k together: one row that wants the whole vocabulary sorted makes no other one pay."""
        vocabulary = logits.shape[-1]
        for group in ([n for n in drawn if rows[n].choice.top_k > 0], [n for n in drawn if rows[n].choice.top_k <= 0]):
            if not group:
                continue
            choices = [rows[number].choice for number in group]
            at = self._tensor(group)
            probabilities, ids = sampling.candidates(
                logits[at],
                self._tensor([float(one.temperature) for one in choices]),
                self._tensor([one.top_k for one in choices]),
                self._tensor([float(one.top_p) for one in choices]),
                self._tensor([float(one.min_p) for one in choices]) if any(one.min_p for one in choices) else None,
                most=max((one.top_k for one in choices), default=0) or vocabulary,
            )
            numbers = self._tensor([rows[number].randomness.random() for number in group])
            tokens = tokens.index_copy(0, at, sampling.draw(probabilities, ids, numbers))
        return tokens


@dataclass
class Told:
    """Log-probabilities of one step: of the rows that asked, as tensors that may still be on their way."""

    rows: list[int]
    chosen: Tensor  # (R,)
    top: tuple[Tensor, Tensor] | None  # (R, K) values and ids

    @classmethod
    def of(cls, logits: Tensor, tokens: Tensor, requests: Sequence[Request]) -> Told | None:
        """The model's own, before anything was applied. The vocabulary is gone through for top_logprobs only where a row asked."""
        rows = [number for number, one in enumerate(requests) if one.logprobs is not None]
        if not rows:
            return None
        at = torch.tensor(rows, device=logits.device)
        its = logits[at].float()
        most = max((requests[row].top_logprobs or 0 for row in rows), default=0)
        top = sampling.top_logprobs(its, most) if most else None
        return cls(rows, sampling.chosen_logprobs(its, tokens[at]), top)

    def write(self, requests: Sequence[Request], tokens: Sequence[int], word: Callable[[int], str]) -> None:
        """Append to the requests' logprobs; those that have ended take no more."""
        values = self.chosen.tolist()
        tops = [x.tolist() for x in self.top] if self.top is not None else None
        for number, row in enumerate(self.rows):
            request = requests[row]
            if request.finish_reason is not None or request.logprobs is None:
                continue
            listed = None
            if request.top_logprobs is not None:
                pairs = zip(*(one[number] for one in tops), strict=True) if tops is not None else ()
                listed = tuple((word(i), v) for v, i in pairs if v > float("-inf"))[: request.top_logprobs]
            request.logprobs.append(TokenLogprob(word(tokens[row]), values[number], listed))

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from swift.engines.engine import Sampling
from swift.engines.pt.sampling import Choice, candidates, chosen_logprobs, draw, penalize, resolve, top_logprobs
from swift.errors import UsageError


def logits(rows: int = 4, vocabulary: int = 50) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 10, 1.0), (1.3, 0, 0.8), (0.5, 5, 0.6), (2.0, 50, 0.95), (1.0, 7, 1e-9)]
)
def test_candidates_are_those_of_transformers(temperature: float, top_k: int, top_p: float) -> None:
    x = logits()
    expected = TemperatureLogitsWarper(temperature)(None, x.clone())
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    rows = len(x)
    probabilities, ids = candidates(x, torch.full((rows,), temperature), torch.full((rows,), top_k), torch.full((rows,), top_p))
    ours = torch.zeros_like(x).scatter(1, ids, probabilities)
    torch.testing.assert_close(ours, expected.softmax(-1))


def test_rows_have_their_own_settings() -> None:
    x = logits(3)
    together = candidates(x, torch.tensor([0.5, 1.0, 2.0]), torch.tensor([3, 0, 20]), torch.tensor([1.0, 0.9, 0.5]))
    for row, setting in enumerate([(0.5, 3, 1.0), (1.0, 0, 0.9), (2.0, 20, 0.5)]):
        alone = candidates(x[row : row + 1], *(torch.tensor([value]) for value in setting))
        spread = [
            torch.zeros(50).scatter(0, ids, probabilities)
            for probabilities, ids in ((together[0][row], together[1][row]), (alone[0][0], alone[1][0]))
        ]
        torch.testing.assert_close(*spread)


def test_repetition_penalty_is_that_of_transformers() -> None:
    x = logits()
    ids = torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter(1, ids, True)
    torch.testing.assert_close(penalize(x, seen, torch.full((4, 1), 1.3)), RepetitionPenaltyLogitsProcessor(1.3)(ids, x.clone()))


def test_draws_follow_the_probabilities() -> None:
    probabilities, ids = candidates(logits(1), torch.tensor([1.0]), torch.tensor([5]), torch.tensor([1.0]))
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    drawn = draw(probabilities.expand(10_000, -1), ids.expand(10_000, -1), uniform)
    shares = torch.stack([(drawn == word).float().mean() for word in ids[0]])
    torch.testing.assert_close(shares, probabilities[0], atol=2e-4, rtol=0)


def test_a_draw_next_to_one_stays_within_the_candidates() -> None:
    probabilities, ids = candidates(logits(1), torch.tensor([1.0]), torch.tensor([0]), torch.tensor([0.3]))
    assert probabilities[0, -1] == 0
    assert draw(probabilities, ids, torch.tensor([1 - 2**-24]))[0] in ids[0, : int((probabilities > 0).sum())]


def test_logprobs_are_log_softmax() -> None:
    x = logits()
    tokens = torch.tensor([1, 2, 3, 4])
    torch.testing.assert_close(chosen_logprobs(x, tokens), x.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1))
    values, ids = top_logprobs(x, 3)
    torch.testing.assert_close(values, x.log_softmax(-1).topk(3).values)
    assert torch.equal(ids, x.topk(3).indices)


def test_unset_sampling_comes_from_the_checkpoint() -> None:
    found = GenerationConfig(do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.05)
    assert resolve(Sampling(), found) == Choice(0.7, 20, 0.8, 1.05)
    assert resolve(Sampling(temperature=0, top_k=0), found) == Choice(0.0, 0, 0.8, 1.05)


def test_a_greedy_checkpoint_is_greedy_unless_a_temperature_is_asked_for() -> None:
    assert resolve(Sampling(), GenerationConfig()).temperature == 0
    assert resolve(Sampling(temperature=0.7), GenerationConfig()) == Choice(0.7, 50, 1.0, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -2}, {"n": 0}, {"max_new_tokens": 0}, {"repetition_penalty": 0}),
        *({"top_logprobs": 3}, {"num_beams": 2, "logprobs": True}, {"num_beams": 2, "n": 3}, {"length_penalty": 2.0}, {"stop": ("",)}),
    ],
)
def test_senseless_sampling_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)

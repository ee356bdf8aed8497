"""The output layer without (B, T, V) logits: same log-probabilities, same gradients as plain logits."""

import copy

import pytest
import torch

from swift.objectives.head import LogProbHead
from swift.objectives.objective import lay_end_to_end
from swift.objectives.policy import Policy, exchange_head
from tests import tiny
from tests.train.runs import prepared, rows


def plain(model, batch):
    """log p(shift_labels) by the book, sample by sample."""
    out, start = [], 0
    for length in batch["segment_lengths"]:
        ids, labels = (batch[name][:, start : start + length] for name in ("input_ids", "shift_labels"))
        logps = model(ids).logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
        out.append(torch.where(labels >= 0, logps, 0.0))
        start += length
    return torch.cat(out, 1)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])  # plain, tied to the embedding, soft-capped and tied
@pytest.mark.parametrize("chunk", [5, 1024])
def test_log_probabilities_and_gradients_equal_plain_logits(architecture, chunk, monkeypatch):
    monkeypatch.setattr(LogProbHead, "chunk", chunk)
    model, batch = tiny.model(architecture), lay_end_to_end(rows(4))
    ours = prepared(model)
    found, expected = Policy(ours).logps(batch)[0], plain(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found * batch["weights"]).sum().backward()
    (expected * batch["weights"]).sum().backward()
    gradients = dict(model.named_parameters())
    for name, parameter in ours.named_parameters():
        expected_gradient = gradients[name].grad
        assert (parameter.grad - expected_gradient).norm() <= 1e-5 * expected_gradient.norm() + 1e-8, name


def test_correct_says_where_the_target_is_the_most_likely_token():
    model, batch = tiny.model(), lay_end_to_end(rows(4))
    correct = Policy(prepared(model)).logps(batch, want_correct=True)[1]
    start, expected = 0, []
    for length in batch["segment_lengths"]:
        expected.append(model(batch["input_ids"][:, start : start + length]).logits.argmax(-1))
        start += length
    assert torch.equal(correct, (torch.cat(expected, 1) == batch["shift_labels"]) & (batch["shift_labels"] >= 0))


def test_without_targets_the_head_answers_the_models_own_logits():
    model, ids = tiny.model("qwen2"), torch.arange(9)[None]
    exchanged = copy.deepcopy(model)
    exchange_head(exchanged)
    assert torch.equal(exchanged(ids).logits, model(ids).logits)
    assert exchanged.state_dict().keys() == model.state_dict().keys()


def test_the_logits_of_a_whole_batch_are_never_built():
    model, batch = prepared(tiny.model(vocab_size=5000)), lay_end_to_end(rows(40, vocab=5000, longest=60))
    shapes = []
    model.get_output_embeddings().register_forward_hook(lambda module, _, output: shapes.append(output.shape))
    Policy(model).logps(batch)
    assert shapes == [(1, batch["input_ids"].numel(), 1)]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("common", [1.0, -0.25])
def test_gradients_are_the_same_where_the_weights_of_the_loss_are_known_before(architecture, common):
    batch, model = lay_end_to_end(rows(5, weighted=True)), tiny.model(architecture)
    known, unknown = prepared(model), prepared(model)
    for ours, slopes in ((known, batch["weights"]), (unknown, None)):
        logps, _ = Policy(ours).logps(batch, slopes=slopes)
        (common * (logps * batch["weights"]).sum()).backward()
    expected = dict(unknown.named_parameters())
    for name, parameter in known.named_parameters():
        gradient = expected[name].grad
        assert (parameter.grad - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_a_loss_that_weighs_otherwise_than_it_said_is_an_error():
    batch, model = lay_end_to_end(rows(5)), prepared(tiny.model())
    logps, _ = Policy(model).logps(batch, slopes=batch["weights"])
    with pytest.raises(RuntimeError, match="slopes"):
        (logps * logps.detach()).sum().backward()

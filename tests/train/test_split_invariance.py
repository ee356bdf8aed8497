"""How the rows of a step are cut into micro-batches, ranks and packs does not change what is learned."""

import copy
import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from swift.objectives.objective import lay_end_to_end
from swift.objectives.policy import Policy
from swift.objectives.sft import SFT
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer


def gradients(model, batches):
    """Gradient of Σ over batches of loss ÷ global count, as the trainer forms it."""
    model.zero_grad()
    objective = SFT()
    total = sum(objective.counts(batch)["tokens"] for batch in batches)
    for batch in batches:
        (objective.loss(Policy(model), batch, metrics=False).sums["tokens"] / total).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("split", [[1] * 8, [2] * 4, [4, 4], [3, 5], [1, 7], [8]])
def test_every_split_of_the_same_rows_gives_the_same_gradient(architecture, split):
    model, data = prepared(tiny.model(architecture)), rows(8, weighted=True)
    whole = gradients(model, [lay_end_to_end(data)])
    cuts = np.cumsum([0, *split])
    parts = gradients(model, [lay_end_to_end(data[a:b]) for a, b in pairwise(cuts)])
    for name, expected in whole.items():
        assert (parts[name] - expected).norm() <= 1e-5 * expected.norm() + 1e-9, name


def test_packed_rows_give_the_gradient_of_unpacked_rows():
    model, data = prepared(tiny.model()), rows(8)
    packs = [[sample for item in data[a:b] for sample in item] for a, b in ((0, 3), (3, 4), (4, 8))]
    packed = gradients(model, [lay_end_to_end([pack]) for pack in packs])
    for name, expected in gradients(model, [lay_end_to_end([item]) for item in data]).items():
        assert (packed[name] - expected).norm() <= 1e-5 * expected.norm() + 1e-9, name


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_a_neighbour_in_the_pack_does_not_change_a_sample(architecture):
    model, (a, b, c) = prepared(tiny.model(architecture)), rows(3)
    other = copy.deepcopy(b)
    other[0]["input_ids"] = (other[0]["input_ids"] + 7) % 400
    first, second = (Policy(model).logps(lay_end_to_end([a, x, c]))[0][0] for x in (b, other))
    size_a, size_b = len(a[0]["input_ids"]), len(b[0]["input_ids"])
    torch.testing.assert_close(first[:size_a], second[:size_a], rtol=0, atol=0)
    torch.testing.assert_close(first[size_a + size_b :], second[size_a + size_b :], rtol=0, atol=1e-6)
    assert not torch.allclose(first[size_a : size_a + size_b], second[size_a : size_a + size_b])


def test_the_eager_road_gives_the_same_log_probabilities():
    from swift.models.attention import use_varlen

    model, batch = prepared(tiny.model()), lay_end_to_end(rows(4))
    fused = Policy(model).logps(batch)[0]
    assert use_varlen(model, eager=True)
    torch.testing.assert_close(Policy(model).logps(batch)[0], fused, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 1), (2, 2), (1, 4)])
def test_accumulation_does_not_change_a_run(shape, tmp_path):
    model, data = tiny.model(), rows(13)  # 13 rows: the last step of an epoch is short
    batch, accumulation = shape
    runs = []
    for folder, (b, a) in (("whole", (4, 1)), ("split", (batch, accumulation))):
        made = trainer(
            prepared(model), data, tmp_path / folder, per_device_train_batch_size=b, gradient_accumulation_steps=a, num_train_epochs=2
        )
        made.train()
        runs.append(made)
    assert runs[0].state.global_step == runs[1].state.global_step == 8
    np.testing.assert_allclose(logged(runs[1], "loss"), logged(runs[0], "loss"), rtol=1e-5)
    np.testing.assert_allclose(logged(runs[1], "grad_norm"), logged(runs[0], "grad_norm"), rtol=1e-5)


def test_evaluation_is_the_exact_ratio_for_every_batch_size(tmp_path):
    model, data = tiny.model(), rows(7)
    expected = SFT().loss(Policy(prepared(model)), lay_end_to_end(data), metrics=True)
    tokens = SFT().counts(lay_end_to_end(data))["tokens"]
    for size in (1, 2, 7):
        made = trainer(prepared(model), data, tmp_path / str(size), eval_rows=data, per_device_eval_batch_size=size)
        found = made.evaluate()
        assert found["eval_loss"] == pytest.approx(float(expected.sums["tokens"].detach() / tokens), rel=1e-6)
        right, asked = expected.metrics["token_acc"]
        assert found["eval_token_acc"] == pytest.approx(float(right / asked), rel=1e-9)


def test_sequence_accuracy_counts_samples_all_of_whose_learned_tokens_are_right():
    model, data = prepared(tiny.model()), rows(6)
    first = data[0][0]
    best = model(torch.tensor(first["input_ids"])[None]).logits.argmax(-1)[0]
    first["labels"] = np.append(-100, best[:-1].numpy())  # now the model is right about all of the first sample
    batch = lay_end_to_end(data)
    right, asked = SFT("seq").loss(Policy(model), batch, metrics=True).metrics["seq_acc"]
    correct = Policy(model).logps(batch, want_correct=True)[1][0]
    expected, start = 0, 0
    for length in batch["segment_lengths"]:
        learned = batch["shift_labels"][0, start : start + length] >= 0
        expected += int(correct[start : start + length][learned].all())
        start += length
    assert (int(right), int(asked)) == (expected, 6) and expected >= 1


TWO_RANKS = """
import json, sys
from pathlib import Path
from accelerate import PartialState
PartialState(cpu=True)
from swift import dist
from tests import tiny
from tests.train.runs import logged, prepared, rows, trainer
batch, accumulation, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
made = trainer(prepared(tiny.model()), rows(13), out, eval_rows=rows(5, seed=3), per_device_train_batch_size=batch,
               gradient_accumulation_steps=accumulation, num_train_epochs=2)
made.train()
found = made.evaluate()
if made.is_world_process_zero():
    (out / "found.json").write_text(json.dumps([logged(made, "loss"), logged(made, "grad_norm"), found["eval_loss"], logged(made, "token_acc")]))
dist.close()
"""


@pytest.mark.slow
def test_two_ranks_learn_what_one_rank_learns(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_RANKS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    found = {}
    for ranks, (batch, accumulation) in ((1, (4, 1)), (2, (2, 1)), (2, (1, 2))):
        out = tmp_path / f"{ranks}-{batch}"
        launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--master_port=29611", str(script)]
        done = subprocess.run(
            [*launch, str(batch), str(accumulation), str(out)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[ranks, batch] = json.loads((out / "found.json").read_text())
    for key in ((2, 2), (2, 1)):
        for mine, expected in zip(found[key], found[1, 4], strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-5)

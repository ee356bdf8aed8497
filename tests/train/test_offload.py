"""Layers' inputs kept in the computer's memory: the same gradients, only those inputs leave, and their buffers are used again."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from swift.train.compiled import layers
from swift.train.offload import Lane, Offload, _limit, host_bytes, offload_inputs

LAYERS, WIDTH, BETWEEN = 4, 32, 48


def tiny(*, lora: bool):
    torch.manual_seed(0)
    shape = dict(hidden_size=WIDTH, intermediate_size=BETWEEN, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2)
    model = AutoModelForCausalLM.from_config(Qwen2Config(**shape, vocab_size=100, use_cache=False))
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)) if lora else model


def recomputed(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def gradients(model, ids):
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys() and ours
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, msg=name)


class Counting(Offload):
    """Counts what was sent away, and notes the shapes of all that autograd keeps."""

    def __init__(self, model):
        super().__init__(model)
        self.sent, self.seen = 0, set()

    def pack(self, tensor):
        self.seen.add(tuple(tensor.shape))
        kept = super().pack(tensor)
        self.sent += kept is not tensor
        return kept


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("lora", [False, True])
def test_gradients_are_those_of_layers_that_keep_everything(lora, reentrant):
    """Full fine-tuning and LoRA, dropout included, against nothing recomputed; every layer's input but the last's was away."""
    model, ids = tiny(lora=lora).train(), torch.randint(100, (2, 9))
    expected = gradients(copy.deepcopy(model), ids)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    offload = Counting(model)
    offload.attach()
    for step in (1, 2, 3):
        assert_same(gradients(model, ids), expected)
        assert offload.sent == step * (LAYERS - 1)
    (lane,) = offload.lanes.values()
    gc.collect()
    assert lane.made == len(lane.free) == LAYERS - 1  # buffers are used again, and all are back


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*", "ignore:The .grad attribute of a Tensor")
@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_layers_compiled_in_place_keep_their_input_alone(lora):
    """The checkpoint may lie in the compiled code: what it keeps for backward goes through the same hooks. Code for the CPU is not made
    (aot_eager): what is kept is decided before."""
    model, ids = recomputed(tiny(lora=lora)), torch.randint(100, (2, 9))
    expected = gradients(copy.deepcopy(model), ids)
    for layer in layers(model)[1:]:
        layer.compile(dynamic=True, backend="aot_eager")
    offload = Counting(model)
    offload.attach()
    first = gradients(model, ids)
    for name in first:
        torch.testing.assert_close(first[name], expected[name], rtol=1e-4, atol=1e-6)
    assert offload.sent == LAYERS - 1
    assert not [shape for shape in offload.seen if len(shape) == 3 and shape[-1] == BETWEEN]  # nothing from within an MLP
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*")
def test_two_forwards_before_the_first_backward():
    """As preference losses do: the buffers of one are not written by the other."""
    model = recomputed(tiny(lora=False))
    one, two = torch.randint(100, (1, 7)), torch.randint(100, (2, 9))
    expected = gradients(copy.deepcopy(model), one), gradients(copy.deepcopy(model), two)
    offload_inputs(model, 8)
    losses = [model(input_ids=ids, labels=ids).loss for ids in (one, two)]
    for loss, wanted in zip(losses, expected, strict=True):
        model.zero_grad()
        loss.backward()
        assert_same({name: p.grad for name, p in model.named_parameters()}, wanted)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*")
def test_nothing_leaves_without_gradients_and_hooks_end_with_a_failed_forward():
    model = recomputed(tiny(lora=False))
    offload = Counting(model)
    offload.attach()
    with torch.no_grad():
        model(input_ids=torch.randint(100, (1, 5)))
    model.eval()(input_ids=torch.randint(100, (1, 5)))
    assert offload.sent == 0
    with pytest.raises(IndexError):
        model.train()(input_ids=torch.full((1, 5), 100))  # beyond the vocabulary
    assert offload.hooks is None
    x = torch.randn(1, 5, WIDTH, requires_grad=True)
    (x * x).sum().backward()
    assert offload.sent == 0


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*")
def test_under_ddp(tmp_path):
    """The hooks lie on the model inside; DDP's own copies and reductions are no saved tensors."""
    model, ids = recomputed(tiny(lora=True)), torch.randint(100, (2, 9))
    expected = gradients(copy.deepcopy(model), ids)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        offload = Counting(wrapped)
        offload.attach()
        found = gradients(wrapped, ids)
    finally:
        torch.distributed.destroy_process_group()
    assert_same({name.removeprefix("module."): grad for name, grad in found.items()}, expected)
    assert offload.sent == LAYERS - 1


def test_longer_rows_than_announced_get_larger_buffers():
    lane = Lane(torch.device("cpu"), 100)
    small = lane.send(torch.arange(20.0), below=None)
    large = lane.send(torch.arange(300.0), below=small)
    assert len(small.buffer) == 128 and len(large.buffer) == 2048
    torch.testing.assert_close(large.take(), torch.arange(300.0))
    torch.testing.assert_close(small.take(), torch.arange(20.0))
    del small, large
    assert [len(buffer) for buffer in lane.free] == [2048] and lane.made == 1


def test_the_computers_memory(tmp_path):
    assert host_bytes(28, 65536 * 3584 * 2) == 27 * 2**29
    assert _limit(tmp_path) > 2**60  # no container
    for name, text in (("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 600\ninactive_file 50\n")):
        (tmp_path / name).write_text(text)
    assert _limit(tmp_path) == 350

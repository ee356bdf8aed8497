"""The product that compiled layers use for LoRA equals PEFT's, its gradients too, and stands aside where it does not apply."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import silu

from swift.tuners.low_rank import MOST, LowRankLinear, low_rank, use_low_rank


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(32, 48), nn.Linear(32, 48, bias=False), nn.Linear(48, 32)

    def forward(self, x):
        return x + self.down(silu(self.gate(x)) * self.up(x))


def adapted(*, ours: bool, rank: int = 4, **more: object):
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=8, target_modules=["gate", "up", "down"], init_lora_weights=False, **more)
    if ours:
        use_low_rank(config)
    return get_peft_model(Gated(), config)


def answer_and_gradients(model, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    answer = model(x)
    answer.square().sum().backward()
    return [answer.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("rank", "more"), [(4, {}), (1, {}), (MOST + 1, {}), (4, {"use_dora": True})])
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # how PEFT writes DoRA
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_layer_equals_pefts(rank, more, backend):
    x = torch.randn(2, 9, 32)
    theirs = adapted(ours=False, rank=rank, **more)
    ours = adapted(ours=True, rank=rank, **more)
    ours.load_state_dict(theirs.state_dict())
    assert isinstance(ours.base_model.model.gate, LowRankLinear)
    compiled = torch.compile(ours, backend=backend, dynamic=True, fullgraph="use_dora" not in more)
    for found, expected in zip(answer_and_gradients(compiled, x), answer_and_gradients(theirs, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_product_and_its_gradients_are_those_of_two_matrix_products():
    x, a, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 5, 7), (3, 7), (6, 3)))
    # summed in float32, so that finite differences need a wide step
    torch.autograd.gradcheck(lambda *given: low_rank(*given, 0.5), (x, a, b), eps=1e-2, atol=1e-4)


def test_under_autocast_it_is_computed_in_its_dtype_and_gradients_keep_that_of_the_weights():
    x, a, b = torch.randn(4, 32), torch.randn(4, 32, requires_grad=True), torch.randn(48, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        product = low_rank(x, a, b, 2.0)
    assert product.dtype == torch.bfloat16
    product.sum().backward()
    assert a.grad.dtype == b.grad.dtype == torch.float32
    torch.testing.assert_close(product.float(), 2 * x @ a.t() @ b.t(), rtol=0.05, atol=0.5)


def test_merged_and_disabled_adapters_are_pefts_business():
    x = torch.randn(2, 9, 32)
    model = adapted(ours=True).eval()
    base = copy.deepcopy(model)
    compiled = torch.compile(model, backend="eager", dynamic=True)
    with torch.no_grad(), base.disable_adapter():
        expected = base(x)
    with torch.no_grad(), model.disable_adapter():
        torch.testing.assert_close(compiled(x), expected)
    with_adapter = base(x)
    model.merge_adapter()
    torch.testing.assert_close(compiled(x), with_adapter, rtol=1e-4, atol=1e-5)


def test_nothing_of_it_is_saved(tmp_path):
    model = adapted(ours=True)
    model.save_pretrained(tmp_path)
    text = (tmp_path / "adapter_config.json").read_text()
    assert "custom" not in text and "LowRank" not in text

"""Weights in 4 and 8 bits: what is loaded, the products of the layers and their gradients, and adapters on top."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from swift.args.base import HubArgs, ModelArgs, QuantArgs
from swift.args.tuner import LoraArgs, TargetArgs
from swift.errors import UsageError
from swift.models import quantized
from swift.models.attention import use_varlen
from swift.models.load import load_model
from swift.models.match import find_model
from swift.models.quantized import Quantized, check_quantization, quantized_linears
from swift.objectives.head import LogProbHead
from swift.objectives.policy import exchange_head
from swift.train.compiled import SELECTIVE, layers
from swift.train.memory import need
from swift.tuners.adapters import add_lora, load_adapter
from swift.tuners.tuner import parameter_line
from tests import tiny
from tests.train import runs

bnb = pytest.importorskip("bitsandbytes")

from swift.models.bnb_layers import exchange_linears  # noqa: E402

WAYS = {
    "nf4": QuantArgs("bnb", 4),
    "fp4": QuantArgs("bnb", 4, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False),
    "stored as bfloat16": QuantArgs("bnb", 4, bnb_4bit_quant_storage="bfloat16"),
    "int8": QuantArgs("bnb", 8),
}
FOUR, EIGHT = WAYS["nf4"], WAYS["int8"]
IDS = torch.tensor([[5, 9, 301, 42, 7, 7, 120, 3]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an output layer of its own, whose rows fill blocks of 64."""
    return tiny.save(tmp_path_factory.mktemp("models") / "llama", hidden_size=64, intermediate_size=128)


def load(folder: Path, quant: QuantArgs | None = None, *, training: bool = True, **asked) -> PreTrainedModel:
    args = ModelArgs(str(folder), **asked)
    return load_model(find_model(args, HubArgs()), args, training=training, quant=quant)


def written_out(module: Quantized) -> torch.Tensor:
    """A layer's weight (N, K) by bitsandbytes' own functions."""
    weight = module.weight
    if isinstance(module, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    return bnb.functional.int8_vectorwise_dequant(weight.data, weight.SCB)


# what is loaded


@pytest.mark.parametrize("way", WAYS)
def test_linear_layers_are_packed_and_the_rest_keeps_its_type(folder: Path, way: str) -> None:
    model = load(folder, WAYS[way], torch_dtype="bfloat16")
    packed = list(quantized_linears(model))
    assert len(packed) == 2 * 7
    rest = [p for name, p in model.named_parameters() if not any(p is module.weight for module in packed)]
    assert {p.dtype for p in rest} == {torch.bfloat16} and model.dtype == torch.bfloat16
    assert type(model.get_output_embeddings()) is nn.Linear
    per_weight = sum(m.weight.numel() * m.weight.element_size() for m in packed) / sum(m.in_features * m.out_features for m in packed)
    assert per_weight == (1 if way == "int8" else 0.5)
    whole = AutoModelForCausalLM.from_pretrained(folder).get_submodule("model.layers.1.mlp.down_proj").weight
    error = (written_out(model.get_submodule("model.layers.1.mlp.down_proj")).float() - whole).abs().max()
    assert 0 < error < whole.abs().max() * (0.01 if way == "int8" else 0.2)


def test_a_classifiers_own_layers_are_not_quantized(folder: Path) -> None:
    model = load(folder, FOUR, num_labels=3)
    assert len(list(quantized_linears(model))) == 14
    assert model.score.weight.is_floating_point() and model.score.weight.shape == (3, 64)


def test_parameters_are_counted_as_they_were(folder: Path) -> None:
    whole = load(folder)
    for quant in WAYS.values():
        assert parameter_line(load(folder, quant)).split("(")[0] == parameter_line(whole).split("(")[0]


def test_the_memory_model_counts_what_lies_there(folder: Path) -> None:
    model = load(folder, FOUR, torch_dtype="bfloat16")
    scales = sum(
        sum(t.numel() * t.element_size() for t in (s.absmax, s.offset, s.state2.absmax, s.state2.code))
        for s in (module.weight.quant_state for module in quantized_linears(model))
    )
    stored = sum(p.numel() * p.element_size() for p in model.parameters())
    widest = max(m.in_features * m.out_features for m in quantized_linears(model)) * 2
    assert need(model, 10, recompute="full", compiled=True).weights == stored + scales + widest
    whole = need(load(folder, torch_dtype="bfloat16"), 10, recompute="full", compiled=True)
    assert need(model, 10, recompute="full", compiled=True).activations == whole.activations


# a checkpoint that is quantized already


@pytest.fixture(scope="module")
def stored(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As transformers saves one, without anything of ours."""
    made = tmp_path_factory.mktemp("stored") / "llama-4bit"
    config = quantized.bnb_config(FOUR, torch.float32, classifier=False)
    shutil.copytree(folder, made, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32).save_pretrained(made)
    return made


def test_a_quantized_checkpoint_is_read_as_it_is(folder: Path, stored: Path) -> None:
    with torch.no_grad():
        expected = load(folder, FOUR)(IDS).logits
        assert torch.equal(load(stored)(IDS).logits, expected)
        assert torch.equal(load(stored, FOUR)(IDS).logits, expected)
    with pytest.raises(UsageError, match=r"quantized already \(bitsandbytes, 4 bits\).*--quant_bits 8"):
        load(stored, EIGHT)


def test_a_quantized_checkpoint_is_not_trained_whole(stored: Path) -> None:
    info = find_model(ModelArgs(str(stored)), HubArgs())
    with pytest.raises(UsageError, match="cannot be trained: leave out --train_type full"):
        check_quantization(info, QuantArgs(), full=True)


def test_another_librarys_checkpoint_is_not_quantized_again(folder: Path) -> None:
    info = find_model(ModelArgs(str(folder)), HubArgs())
    info.config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(UsageError, match=r"quantized already \(gptq, 4 bits\)"):
        check_quantization(info, FOUR)


def test_what_has_nothing_to_quantize_is_said(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=50))  # its linear layers are of another class
    with pytest.raises(Exception, match="no linear layer that can be quantized"):
        quantized.exchange(model)


# products


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_product_and_its_gradients_are_those_of_the_written_out_weight(folder: Path, way: str, dtype: torch.dtype) -> None:
    module = next(quantized_linears(load(folder, WAYS[way], torch_dtype=str(dtype).removeprefix("torch."))))
    module.bias = nn.Parameter(torch.randn(module.out_features, dtype=dtype))
    plain = nn.Linear(module.in_features, module.out_features, dtype=dtype)
    with torch.no_grad():
        plain.weight.copy_(written_out(module).to(dtype))
        plain.bias.copy_(module.bias)
    x = torch.randn(2, 5, module.in_features, dtype=dtype, requires_grad=True)
    slope = torch.randn(2, 5, module.out_features, dtype=dtype)
    found = torch.autograd.grad(module(x), (x, module.bias), slope)
    expected = torch.autograd.grad(plain(x), (x, plain.bias), slope)
    tolerance = dict(atol=2e-2, rtol=2e-2) if dtype == torch.bfloat16 else dict(atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(module(x), plain(x), **tolerance)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_products_are_bitsandbytes_own(bits: int) -> None:
    made = bnb.nn.Linear4bit(64, 128, quant_type="nf4") if bits == 4 else bnb.nn.Linear8bitLt(64, 128, has_fp16_weights=False)
    model = nn.Sequential(made.to("cpu").requires_grad_(False))
    x = torch.randn(6, 64, requires_grad=True)
    slope = torch.randn(6, 128)
    before = model(x)
    gradient = torch.autograd.grad(before, x, slope)[0]
    assert exchange_linears(model) == 1 and exchange_linears(model) == 0
    after = model(x)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.autograd.grad(after, x, slope)[0], gradient, atol=1e-5, rtol=1e-4)


def test_an_evaluation_leaves_the_gradient_of_what_follows(folder: Path) -> None:
    """bitsandbytes repacks weights on some CPUs when it is asked without a gradient, and has none from then on."""
    module = next(quantized_linears(load(folder, FOUR))).train()
    x = torch.randn(3, module.in_features, requires_grad=True)
    before = torch.autograd.grad(module(x).sum(), x)[0]
    with torch.no_grad():
        module.eval()(x)
    assert torch.equal(torch.autograd.grad(module.train()(x).sum(), x)[0], before)


@pytest.mark.parametrize("way", ["nf4", "int8"])
def test_a_copy_and_a_new_weight_are_what_is_computed_with(folder: Path, way: str) -> None:
    layers_of_one_shape = [module for module in quantized_linears(load(folder, WAYS[way])) if module.out_features == 128]
    some, other = layers_of_one_shape[:2]
    x = torch.randn(3, 64)
    twin = copy.deepcopy(some)
    assert torch.equal(twin(x), some(x)) and not torch.equal(other(x), some(x))
    other.weight = twin.weight
    assert torch.equal(other(x), some(x))


def test_what_spreads_a_model_over_devices_stays_on_its_layers() -> None:
    linear = bnb.nn.Linear4bit(64, 128).to("cpu").requires_grad_(False)
    add_hook_to_module(linear, hook := AlignDevicesHook(execution_device="cpu", io_same_device=True))
    model = nn.Sequential(linear)
    x = torch.randn(2, 64, requires_grad=True)
    before = model(x)
    exchange_linears(model)
    assert model[0]._hf_hook is hook
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-4)


# compiled


def kept_for_backward(layer: nn.Module, x: torch.Tensor, budget: float = 1.0) -> list[int]:
    """Sizes of the floating-point tensors that a compiled layer's forward hands to its backward."""
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    kept: list[int] = []

    def forward(graph, _):
        return make_boxed_func(graph)

    def backward(graph, inputs):
        kept.extend(t.numel() for t in inputs if isinstance(t, torch.Tensor) and t.is_floating_point())
        return make_boxed_func(graph)

    backend = aot_autograd(fw_compiler=forward, bw_compiler=backward, partition_fn=min_cut_rematerialization_partition)
    torch._dynamo.reset()
    with torch._functorch.config.patch(activation_memory_budget=budget):
        torch.compile(layer, backend=backend, fullgraph=True)(x).sum().backward()
    return kept


@pytest.mark.parametrize("way", ["nf4", "fp4", "int8"])
def test_a_compiled_layer_keeps_no_weight_that_was_written_out(folder: Path, way: str) -> None:
    class Mlp(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    mlp = load(folder, WAYS[way]).model.layers[0].mlp
    weight = 64 * 128
    for budget in (1.0, SELECTIVE):
        kept = kept_for_backward(Mlp(mlp), torch.randn(1, 3, 64, requires_grad=True), budget)
        assert kept and max(kept) < weight
    plain = load(folder).model.layers[0].mlp.requires_grad_(False)
    assert max(kept_for_backward(Mlp(plain), torch.randn(1, 3, 64, requires_grad=True))) == weight


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # that dynamo looks at
@pytest.mark.slow
def test_layers_with_adapters_compile_as_those_of_whole_weights_do(tmp_path: Path) -> None:
    """Without a break, all of them into the same graphs, and into no more for another length."""
    made = tiny.save(tmp_path / "deep", hidden_size=64, intermediate_size=128, num_hidden_layers=3)
    assert graphs(load(made, FOUR, attn_impl="eager", training=False)) == graphs(load(made, attn_impl="eager", training=False))


def graphs(model: PreTrainedModel) -> int:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    few = TargetArgs(target_modules=["down_proj"], init_weights="false")  # each adapter takes its time to trace
    adapted = add_lora(model, LoraArgs(lora_dropout=0.0), few).train()
    expected = adapted(inputs_embeds=embedded(model), use_cache=False).logits
    counter = CompileCounterWithBackend("aot_eager")
    for layer in layers(adapted)[1:]:
        layer.compile(backend=counter, dynamic=True, fullgraph=True)
    torch.testing.assert_close(adapted(inputs_embeds=embedded(model), use_cache=False).logits, expected, atol=1e-5, rtol=1e-4)
    adapted(inputs_embeds=embedded(model)[:, :6], use_cache=False).logits.sum().backward()
    found = counter.frame_count
    adapted(inputs_embeds=embedded(model)[:, :3], use_cache=False).logits.sum().backward()
    assert counter.frame_count == found
    return found


def embedded(model: PreTrainedModel) -> torch.Tensor:
    """Inputs that want a gradient, as those of all layers but the first do."""
    return model.get_input_embeddings()(IDS).detach().requires_grad_()


# adapters


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_learns_and_comes_back_with_the_same_logits(folder: Path, way: str, tmp_path: Path) -> None:
    model = load(folder, WAYS[way])
    exchange_head(model)
    adapted = add_lora(model, LoraArgs(lora_dropout=0.0), TargetArgs())
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32} and len(trained) == 2 * 14
    model.enable_input_require_grads()
    before = [module.parts[0].clone() for module in quantized_linears(model)]
    made = runs.trainer(
        adapted, runs.rows(4, vocab=model.config.vocab_size), tmp_path / "run", num_train_epochs=8, per_device_train_batch_size=4
    )
    made.train()
    losses = runs.logged(made, "loss")
    assert losses[-1] < losses[0] - 0.3
    assert all(torch.equal(as_bytes(m.parts[0]), as_bytes(then)) for m, then in zip(quantized_linears(model), before, strict=True))
    assert isinstance(model.get_output_embeddings(), LogProbHead)
    adapted.save_pretrained(tmp_path / "adapter")
    again = load_adapter(load(folder, WAYS[way]), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, adapted.eval()(IDS).logits)


def as_bytes(packed: torch.Tensor) -> torch.Tensor:
    """Bits that are no number of the type they are stored as equal nothing."""
    return packed.view(torch.uint8)


@pytest.mark.parametrize("way", ["nf4", "int8"])
def test_recomputed_layers_give_the_same_gradients(folder: Path, way: str) -> None:
    def gradients(recompute: bool) -> list[torch.Tensor]:
        model = load(folder, WAYS[way])
        use_varlen(model)
        torch.manual_seed(0)
        adapted = add_lora(model, LoraArgs(lora_dropout=0.0), TargetArgs(init_weights="false")).train()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        adapted(IDS).logits.square().mean().backward()
        return [p.grad for p in adapted.parameters() if p.grad is not None]

    once, twice = gradients(False), gradients(True)
    assert len(once) == len(twice) == 28
    for one, two in zip(once, twice, strict=True):
        torch.testing.assert_close(one, two)


def test_dora_on_packed_weights(folder: Path) -> None:
    adapted = add_lora(load(folder, FOUR), LoraArgs(use_dora=True, lora_dropout=0.0), TargetArgs()).eval()
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS).logits, load(folder, FOUR)(IDS).logits, atol=1e-4, rtol=1e-4)


def test_a_packed_layer_cannot_be_trained_whole(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--modules_to_save q_proj: .* quantized"):
        add_lora(load(folder, FOUR), LoraArgs(), TargetArgs(target_modules=["k_proj"], modules_to_save=["q_proj"]))
    adapted = add_lora(load(folder, FOUR), LoraArgs(), TargetArgs(modules_to_save=["embed_tokens", "lm_head"]))
    assert sum("modules_to_save" in name and p.requires_grad for name, p in adapted.named_parameters()) == 2


# on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_on_a_gpu_answers_and_training_compute_the_same(folder: Path, way: str) -> None:
    model = load(folder, WAYS[way], torch_dtype="bfloat16")
    for module in quantized_linears(model):
        x = torch.randn(5, module.in_features, dtype=torch.bfloat16, device="cuda", requires_grad=True)
        plain = nn.functional.linear(x, written_out(module).to(x.dtype))
        torch.testing.assert_close(module(x), plain, atol=3e-2, rtol=3e-2)
        with torch.no_grad():
            torch.testing.assert_close(module(x), plain, atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["nf4", "int8"])
def test_on_a_gpu_compiled_layers_do_not_compile_again(folder: Path, way: str) -> None:
    torch._dynamo.reset()
    model = load(folder, WAYS[way], torch_dtype="bfloat16", attn_impl="eager", training=False)
    adapted = add_lora(model, LoraArgs(lora_dropout=0.0), TargetArgs(init_weights="false")).train()
    ids = IDS.cuda()

    def logits(length: int) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return adapted(inputs_embeds=model.get_input_embeddings()(ids[:, :length]).detach().requires_grad_(), use_cache=False).logits

    expected = logits(8)
    for layer in layers(adapted)[1:]:
        layer.compile(dynamic=True, fullgraph=True)
    torch._dynamo.utils.counters.clear()
    counts = []
    for length in (8, 5, 7, 6):
        found = logits(length)
        torch.testing.assert_close(found, expected[:, :length], atol=5e-2, rtol=5e-2)
        found.float().sum().backward()
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert counts[1] == counts[-1]


@pytest.mark.gpu
def test_parts_move_with_their_module(folder: Path) -> None:
    for way in ("nf4", "int8"):
        module = next(quantized_linears(load(folder, WAYS[way], device_map="cpu")))
        x = torch.randn(3, module.in_features)
        before = module(x)
        moved = module.cuda()
        assert {part.device.type for part in moved.parts} == {"cuda"}
        torch.testing.assert_close(moved(x.cuda()).cpu(), before, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
def test_loading_never_holds_the_whole_model_on_the_gpu(tmp_path: Path) -> None:
    made = tiny.save(tmp_path / "wide", hidden_size=1024, intermediate_size=4096, num_hidden_layers=8, num_attention_heads=8)
    whole = sum(p.numel() for p in AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(made)).parameters()) * 2
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    load(made, FOUR, torch_dtype="bfloat16")
    assert torch.cuda.max_memory_allocated() - before < 0.6 * whole

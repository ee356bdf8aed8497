"""Loading: code that comes with a model, what a type needs, attention, broken weights, a plug-in's own loader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

from swift import hub as hubs
from swift import logs
from swift.args.base import HubArgs, ModelArgs
from swift.errors import ModelError, UsageError
from swift.models.load import load_model, load_processor
from swift.models.match import find_model
from swift.models.options import Option
from swift.models.remote_code import CLASSIFIER, code_files, native_class
from swift.models.spec import Group, ModelSpec, model_specs
from tests import tiny
from tests.models import house


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log says, each time it is said."""
    lines: list[str] = []
    for name in ("info", "warning", "info_once", "warn_once"):
        monkeypatch.setattr(logs, name, lines.append)
    return lines


@pytest.fixture(autouse=True)
def own_code_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """transformers copies code before it runs it: not into this machine's cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")


def _load(folder: Path, *, training: bool = False, **asked) -> PreTrainedModel:
    args = ModelArgs(str(folder), **asked)
    return load_model(find_model(args, HubArgs()), args, training=training)


def _tokenizer(folder: Path, **asked):
    return load_processor(find_model(ModelArgs(str(folder), **asked), HubArgs()))


# code that comes with a model


def test_code_of_a_model_is_not_run_without_the_word(tmp_path):
    folder = house.make(tmp_path / "house")
    with pytest.raises(ModelError, match=r"HouseForCausalLM.*modeling_house\.py.*look at it.*--trust_remote_code true"):
        _load(folder)
    with pytest.raises(ModelError, match=r"HouseTokenizer.*\(modeling_house\.py, tokenization_house\.py\).*--trust_remote_code true"):
        _tokenizer(folder)
    assert not (folder / "model-ran").exists() and not (folder / "tokenizer-ran").exists()


def test_with_the_word_it_is_run_and_said(tmp_path, said):
    folder = house.make(tmp_path / "house")
    plain = tiny.save(tmp_path / "plain")
    model = _load(folder, trust_remote_code=True, training=True)
    tokenizer = _tokenizer(folder, trust_remote_code=True)
    assert (type(model).__name__, type(tokenizer).__name__) == ("HouseForCausalLM", "HouseTokenizer")
    assert (folder / "model-ran").exists() and (folder / "tokenizer-ran").exists()
    assert any("its own code is run (modeling_house.py)" in line for line in said)
    assert any("its own code is run (tokenization_house.py)" in line for line in said)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(_load(folder, trust_remote_code=True)(ids).logits, _load(plain)(ids).logits)
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    assert (saved / "modeling_house.py").is_file()  # a checkpoint can be loaded again


def test_code_of_a_class_that_transformers_has_is_never_run(tmp_path, said):
    folder = house.make(tmp_path / "llama", own_model=False, own_tokenizer=False)
    house.change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_house.HouseForCausalLM"})
    own = {"AutoTokenizer": ["tokenization_house.HouseTokenizer", None]}
    house.change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", auto_map=own)
    for trusted in (False, True):
        assert type(_load(folder, trust_remote_code=trusted)) is LlamaForCausalLM
        assert type(_tokenizer(folder, trust_remote_code=trusted)).__module__.startswith("transformers.")
    assert not (folder / "model-ran").exists() and not (folder / "tokenizer-ran").exists()
    assert any("(modeling_house.py) is not run, because transformers has LlamaForCausalLM itself" in line for line in said)
    saved = tmp_path / "saved"
    _load(folder).save_pretrained(saved)
    assert "auto_map" not in json.loads((saved / "config.json").read_text())  # it has no such file


def test_a_borrowed_model_type_does_not_make_code_native(tmp_path):
    folder = house.make(tmp_path / "house", own_tokenizer=False)
    house.change(folder / "config.json", model_type="llama")
    with pytest.raises(ModelError, match="--trust_remote_code true"):
        _load(folder)


def test_a_native_architecture_under_an_unknown_model_type_is_native(tmp_path):
    folder = house.make(tmp_path / "house", own_tokenizer=False)
    house.change(folder / "config.json", architectures=["LlamaForCausalLM"])  # as Kimi K2 has DeepSeek's
    assert type(_load(folder)) is LlamaForCausalLM
    assert not (folder / "model-ran").exists()


def test_no_class_and_no_code_is_said(tmp_path):
    folder = house.make(tmp_path / "house", own_tokenizer=False)
    house.change(folder / "config.json", auto_map=None)
    with pytest.raises(ModelError, match=r"HouseForCausalLM.*transformers .* has no AutoModelForCausalLM of it, and it brings no code"):
        _load(folder)
    house.change(folder / "config.json", auto_map={"AutoModel": "modeling_house.House"})
    with pytest.raises(ModelError, match=r"its own code \(modeling_house\.py\) has none either"):
        _load(folder)


def test_an_auto_map_names_its_files():
    assert code_files({"AutoConfig": "conf.A", "AutoTokenizer": ["tok.Slow", None], "AutoModel": "org/repo--sub.mod.B"}) == [
        "conf.py",
        "sub/mod.py of org/repo",
        "tok.py",
    ]


def test_what_transformers_has_of_real_models(shared):
    """Old families need their code; those that transformers took in do not, whatever auto_map says."""
    needed = {
        "Qwen--Qwen-7B-Chat": None, "THUDM--chatglm3-6b": None, "internlm--internlm2_5-7b-chat": None, "baichuan-inc--Baichuan2-7B-Chat": None,
        "openbmb--MiniCPM4-8B": None, "deepseek-ai--deepseek-moe-preset": None, "deepseek-ai--DeepSeek-R1": "DeepseekV3ForCausalLM",
        "moonshotai--Kimi-K2-Instruct": "DeepseekV3ForCausalLM", "microsoft--Phi-3.5-mini-instruct": "Phi3ForCausalLM",
        "MiniMaxAI--MiniMax-M2.5": "MiniMaxM2ForCausalLM", "Qwen--Qwen2-7B": "Qwen2ForCausalLM",
    }  # fmt: skip
    for stem, name in needed.items():
        found = native_class(json.loads((shared / f"oracle/configs/{stem}.json").read_text()))
        assert (found and found.__name__) == name, stem
    assert native_class({"model_type": "llama"}, CLASSIFIER) is LlamaForSequenceClassification


def test_the_remote_code_flag_of_families_agrees_with_transformers(shared):
    """Of each type that an oracle config shows: it is flagged where transformers has no class, and not where it has."""
    seen = 0
    for file in sorted((shared / "oracle/configs").glob("*--*.json")):
        config = json.loads(file.read_text())
        name = file.stem.partition("--")[2]
        kind = find_model(ModelArgs(f"org/{name}"), HubArgs(), download=False).spec
        if kind.type == "auto" or kind.type == "kimi_k2":  # Kimi's model is native, its tokenizer is not
            continue
        assert kind.remote_code == (native_class(config) is None), file.stem
        seen += 1
    assert seen > 90


def test_code_that_may_not_run_is_said_before_weights_come(tmp_path, monkeypatch):
    folder = house.make(tmp_path / "house")
    fetched = []

    def download(name, kind, hub, *, revision=None, weights=True, force=False, ignore=()):
        fetched.append(weights)
        return folder

    monkeypatch.setattr(hubs, "download", download)
    monkeypatch.setitem(model_specs, "house", ModelSpec("house", ids=("org/house-1B",), remote_code=True))
    with pytest.raises(ModelError, match="--trust_remote_code true"):
        find_model(ModelArgs("org/house-1B"), HubArgs())
    assert fetched == [False]
    assert find_model(ModelArgs("org/house-1B", trust_remote_code=True), HubArgs()).path == folder
    assert fetched == [False, True]


def test_files_that_a_type_does_not_need_are_not_fetched_and_its_id_elsewhere_is_told(tmp_path, monkeypatch):
    asked = []

    def download(name, kind, hub, *, revision=None, weights=True, force=False, ignore=()):
        asked.append(ignore)
        raise ModelError(f"model {name} cannot be fetched: it does not exist, or is private.")

    monkeypatch.setattr(hubs, "download", download)
    with pytest.raises(ModelError, match=r"called modelscope/Llama-2-7b-ms\."):
        find_model(ModelArgs("meta-llama/Llama-2-7b-hf"), HubArgs())
    with pytest.raises(ModelError, match=r"called meta-llama/Llama-2-7b-hf\."):
        find_model(ModelArgs("modelscope/Llama-2-7b-ms"), HubArgs(use_hf=True))
    with pytest.raises(ModelError, match=r"or is private\.$"):
        find_model(ModelArgs("Qwen/Qwen2-7B"), HubArgs())
    assert asked == [("*.bin",), ("*.bin",), ()]


# weights, attention


def test_weights_that_are_not_there_are_no_silent_noise(tmp_path):
    folder = tiny.save(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    gone = "model.layers.1.self_attn.q_proj.weight"
    save_file({name: value for name, value in weights.items() if name != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"1 weights of LlamaForCausalLM are not in it and would be random .{gone}"):
        _load(folder)


def test_tied_weights_are_not_missing(tmp_path):
    assert _load(tiny.save(tmp_path / "tied", "qwen2")).lm_head.weight is not None


@pytest.mark.parametrize("asked", ["sdpa", "eager"])
def test_the_asked_attention_is_used_and_changes_nothing(tmp_path, asked):
    folder = tiny.save(tmp_path / "model")
    model = _load(folder, attn_impl=asked)
    assert model.config._attn_implementation == asked
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, AutoModelForCausalLM.from_pretrained(folder)(ids).logits, atol=1e-5)


def test_a_model_without_sdpa_is_loaded_with_eager(tmp_path, monkeypatch, said):
    folder = tiny.save(tmp_path / "model")
    monkeypatch.setattr(LlamaForCausalLM, "_supports_sdpa", False)
    assert _load(folder, attn_impl="sdpa").config._attn_implementation == "eager"
    assert any("no sdpa attention; eager is used" in line for line in said)
    assert _load(folder).config._attn_implementation == "eager"
    assert any(line.startswith("attention is eager") for line in said)


def test_the_python_call_says_the_same(tmp_path):
    from swift.llm import get_model_tokenizer

    folder = house.make(tmp_path / "house")
    with pytest.raises(ModelError, match="--trust_remote_code true"):
        get_model_tokenizer(str(folder))
    model, tokenizer = get_model_tokenizer(str(folder), trust_remote_code=True, rope_scaling="linear", max_length=1000)
    assert (model.config.rope_parameters["factor"], type(tokenizer).__name__) == (2.0, "HouseTokenizer")
    assert get_model_tokenizer(str(folder), trust_remote_code=True, max_memory={"cpu": "1GB"})[0].device.type == "cpu"


# what a type needs


def test_packages_that_are_missing_are_warned_of_with_the_pip_line(tmp_path, monkeypatch, said):
    spec = ModelSpec(
        "needy",
        ids=("needy", Group(("needy-4bit",), requires=("transformers<4.34", "nothing_of_that_name>=2", "torch>=2.0"))),
        requires=("transformers>=4.37",),
    )
    monkeypatch.setitem(model_specs, "needy", spec)
    _load(tiny.save(tmp_path / "needy"))
    assert not any("needs" in line or "made for" in line for line in said)
    _load(tiny.save(tmp_path / "needy-4bit"))
    assert any(line.endswith("Install it with: pip install 'nothing_of_that_name>=2'") for line in said)
    assert any("needy-4bit was made for transformers<4.34" in line and "beside SWIFT" in line for line in said)


def test_a_repository_is_put_on_the_path_only_for_types_that_need_one(tmp_path, monkeypatch, said):
    folder, repository = tiny.save(tmp_path / "model"), tmp_path / "repository"
    repository.mkdir()
    (repository / "swift_test_house_repo.py").write_text("WORD = 'here'\n")
    with pytest.raises(ModelError, match=r"--local_repo_path: the folder .*gone is not there"):
        _load(folder, local_repo_path=str(tmp_path / "gone"))
    _load(folder, local_repo_path=str(repository))
    assert any("--local_repo_path has no effect: models of type auto need no code repository" in line for line in said)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setitem(model_specs, "needs_repo", ModelSpec("needs_repo", repo="https://example.org/house.git"))
    with pytest.raises(ModelError, match=r"git clone https://example\.org/house\.git.*--local_repo_path"):
        _load(folder, model_type="needs_repo")
    _load(folder, model_type="needs_repo", local_repo_path=str(repository))
    assert __import__("swift_test_house_repo").WORD == "here"


def test_types_that_do_not_write_text_say_so(tmp_path):
    folder = tiny.save(tmp_path / "model", "qwen2")
    with pytest.raises(UsageError, match="classify texts; say into how many classes with --num_labels"):
        _load(folder, model_type="bert")
    with pytest.raises(UsageError, match="not built yet"):
        _load(folder, model_type="qwen2_gte")
    assert _load(folder, model_type="qwen2_gte", task_type="causal_lm") is not None


# parameters of a type


def _options(spec: ModelSpec, given: dict | None, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setitem(model_specs, spec.type, spec)
    return find_model(ModelArgs("org/x", model_type=spec.type, model_kwargs=given), HubArgs(), download=False).options


def test_model_kwargs_beat_the_environment_which_beats_the_default(monkeypatch, said):
    spec = ModelSpec("optional", options=(Option("house_floors", int, 3), Option("house_name", str), Option("house_scale", float, 1.0)))
    assert _options(spec, None, monkeypatch) == {"house_floors": 3, "house_name": None, "house_scale": 1.0}
    assert not said
    monkeypatch.setenv("HOUSE_FLOORS", "5")
    monkeypatch.setenv("HOUSE_NAME", "old")
    assert _options(spec, {"HOUSE_NAME": "new"}, monkeypatch) == {"house_floors": 5, "house_name": "new", "house_scale": 1.0}
    assert said == ["parameters of model type optional: house_floors=5 (HOUSE_FLOORS), house_name='new' (--model_kwargs)"]


def test_unknown_and_unreadable_parameters_are_refused_by_name(monkeypatch):
    spec = ModelSpec("optional", options=(Option("house_floors", int, 3),))
    with pytest.raises(UsageError, match=r"'house_flors'; did you mean house_floors\? It knows house_floors\."):
        _options(spec, {"house_flors": 1}, monkeypatch)
    with pytest.raises(UsageError, match=r"model type qwen2 does not know 'max_pixels'\. It has no parameters of its own"):
        find_model(ModelArgs("Qwen/Qwen2-7B", model_kwargs={"max_pixels": 1}), HubArgs(), download=False)
    with pytest.raises(UsageError, match="--model_kwargs: house_floors of model type optional cannot be 'many'"):
        _options(spec, {"house_floors": "many"}, monkeypatch)
    monkeypatch.setenv("HOUSE_FLOORS", "few")
    with pytest.raises(UsageError, match="HOUSE_FLOORS: house_floors of model type optional cannot be 'few'"):
        _options(spec, None, monkeypatch)


# a plug-in's own loader


def test_a_types_own_loader_makes_model_and_tokenizer(tmp_path, monkeypatch):
    folder = tiny.save(tmp_path / "mine")
    seen = []

    def loader(where, info, args):
        seen.append((where, info.options["floors"], args.torch_dtype))
        return AutoModelForCausalLM.from_pretrained(where, num_hidden_layers=1)

    def tokenizer_loader(where, info, args):
        tokenizer = AutoTokenizer.from_pretrained(where)
        tokenizer.own = args.model_type
        return tokenizer

    spec = ModelSpec("mine", options=(Option("floors", int, 2),), loader=loader, tokenizer_loader=tokenizer_loader)
    monkeypatch.setitem(model_specs, "mine", spec)
    model = _load(folder, model_type="mine", torch_dtype="float32", model_kwargs={"floors": 4}, training=True)
    assert seen == [(folder, 4, "float32")] and len(model.model.layers) == 1
    assert model.config._attn_implementation == "swift_varlen"
    assert _tokenizer(folder, model_type="mine").own == "mine"

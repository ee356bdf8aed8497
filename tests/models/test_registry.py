"""The registry against the specification's tables (appendices A and B) and against config.json files of real models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from swift.args.base import HubArgs, ModelArgs
from swift.models.families import model_specs
from swift.models.match import find_model
from swift.models.spec import HubIds, ModelSpec, pairs

# Llama 3.1 writes a fixed date (its published chat template); the table's llama3_2 writes today's.
OTHER_FORMAT = {"llama3_1": "llama3_1"}
# Ids of the table's types that came, or were renamed on Hugging Face, after it was written.
LATER_IDS = {
    "mistral": {"mistral-7b-v0.3"},
    "mixtral": {"mixtral-8x22b-instruct-v0.1"},
    "llama3_1": {f"llama-3.1-{size}{kind}" for size in ("8b", "70b", "405b") for kind in ("", "-instruct")},
}


class Row(NamedTuple):
    format: str
    architectures: set[str]
    flags: str
    requires: str


@pytest.fixture(scope="module")
def types(shared: Path) -> dict[str, Row]:
    """Appendix A, without multimodal types."""
    found = {}
    for cells in _table(shared, "# Appendix A", "# Appendix B", 6):
        kind, chat_format, _, architectures, flags, requires = cells
        if "MM" not in flags:
            names = set() if architectures == "—" else set(architectures.split(", "))
            found[kind] = Row(kind if chat_format == "=" else chat_format, names, flags, requires)
    assert len(found) == 92  # of 164
    return found


@pytest.fixture(scope="module")
def ids(shared: Path, types: dict[str, Row]) -> dict[str, list[list[str]]]:
    """Appendix B: groups of ids by type, each `a`, `a → b` or `a (MS)`."""
    rows = {kind: text for kind, text in _table(shared, "# Appendix B", "# Appendix C", 2) if kind in types}
    return {kind: [[name.strip() for name in group.split(",")] for group in text.split("‖")] for kind, text in rows.items()}


def _table(shared: Path, start: str, end: str, width: int) -> list[list[str]]:
    text = (shared / "spec/data-and-training.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text[text.index(start) : text.index(end)].splitlines()]
    return [cells for cells in rows if len(cells) == width and cells[0] != "model_type" and not cells[0].startswith("---")]


def _plain(name: str) -> str:
    return name.replace("(MS)", "").replace("(HF)", "").strip().lower()


def test_types_architectures_and_formats_are_those_of_appendix_a(types):
    for kind, row in types.items():
        spec = model_specs[kind]
        assert (spec.chat_format, set(spec.architectures)) == (OTHER_FORMAT.get(kind, row.format), row.architectures), kind
        assert (spec.task_type, spec.num_labels) == ("seq_cls", 1) if "RM" in row.flags else spec.num_labels is None, kind
        assert ("prm" in spec.tags) == ("prm" in row.flags)


def test_ids_are_exactly_those_of_appendix_b(types, ids):
    assert ids.keys() == types.keys()
    for kind, groups in ids.items():
        wanted = {_plain(part) for group in groups for name in group for part in name.split("→")}
        assert {name.lower() for name in model_specs[kind].names} == wanted | LATER_IDS.get(kind, set()), kind


def test_ids_that_differ_between_the_hubs_are_paired_as_in_appendix_b(ids):
    for kind, groups in ids.items():
        known = {(_last(pair.modelscope), _last(pair.hugging_face)) for pair in model_specs[kind].hub_ids}
        for name in (name for group in groups for name in group):
            left, arrow, right = name.partition("→")
            if arrow:
                assert (_plain(left), _plain(right)) in known, name
            elif "(MS)" in name:
                assert (_plain(name), None) in known, name


def _last(name: str | None) -> str | None:
    return name and name.rpartition("/")[2].lower()


def test_requirements_are_those_of_the_group_that_an_id_stands_in(types, ids):
    for kind, groups in ids.items():
        for number, group in enumerate(groups, 1):
            own = re.search(rf"\[group {number}: ([^\]]*)\]", types[kind].requires)
            wanted = re.findall("`([^`]*)`", own[1] if own else re.sub(r"\[[^\]]*\]", "", types[kind].requires))
            for name in group:
                assert list(model_specs[kind].group_of(_plain(name.split("→")[0])).requires) == wanted, name


def test_no_id_is_registered_twice_and_each_is_found_on_both_hubs():
    seen: dict[str, str] = {}
    for spec in model_specs.values():
        for name in spec.names:
            assert seen.setdefault(name.lower(), spec.type) == spec.type, name
        for owner in (pair for pair in spec.hub_ids if spec.type not in ("auto", "nano")):
            assert all("/" in name for name in owner if name), owner
    for name, kind in seen.items():
        assert find_model(ModelArgs(f"org/{name}"), HubArgs(), download=False).spec.type == kind


def test_one_entry_names_both_hubs():
    assert pairs("a/x-{1,2}") == [HubIds("a/x-1", "a/x-1"), HubIds("a/x-2", "a/x-2")]
    assert pairs("a/x-{1,2} -> b/") == [HubIds("a/x-1", "b/x-1"), HubIds("a/x-2", "b/x-2")]
    assert pairs("a/x-{1,2} -> b/y{1,2}-hf") == [HubIds("a/x-1", "b/y1-hf"), HubIds("a/x-2", "b/y2-hf")]
    assert pairs("a/x ->") == [HubIds("a/x", None)]
    assert ModelSpec("m", ids=("a/x -> b/", "a/z ->")).names == ["x", "z"]


# What a folder of each oracle config.json is, by its name; None: a multimodal model or one that no family knows.
BY_NAME = {
    "01-ai--Yi-6B-Chat": "yi", "Infinigence--Megrez-3B-Instruct": "megrez", "Qwen--Qwen-7B-Chat": "qwen", "Qwen--Qwen1.5-0.5B-Chat": "qwen2",
    "Qwen--Qwen1.5-MoE-A2.7B": "qwen2_moe", "Qwen--Qwen2-0.5B": "qwen2", "Qwen--Qwen2.5-7B-Instruct": "qwen2_5", "Qwen--Qwen3-0.6B": "qwen3",
    "Qwen--Qwen3-30B-A3B": "qwen3_moe", "Qwen--Qwen3-Coder-480B-A35B-Instruct": "qwen3_instruct", "Qwen--Qwen3.5-27B": "qwen3_5",
    "Qwen--Qwen3.5-35B-A3B": "qwen3_5_moe", "THUDM--chatglm2-6b": "chatglm2", "THUDM--chatglm3-6b": "chatglm3", "THUDM--glm-4-9b-chat": "glm4",
    "TinyLlama--TinyLlama-1.1B-Chat-v1.0": "tinyllama", "XiaomiMiMo--MiMo-7B-Base": "mimo", "XiaomiMiMo--MiMo-V2-Flash": "mimo_v2_flash",
    "allenai--OLMo-2-1124-7B": "olmo2", "baichuan-inc--Baichuan-7B": "baichuan", "baichuan-inc--Baichuan2-7B-Chat": "baichuan2",
    "codellama--CodeLlama-7b-hf": "codellama", "deepseek-ai--DeepSeek-R1": "deepseek_r1", "deepseek-ai--DeepSeek-V2-Lite": "deepseek_v2",
    "deepseek-ai--DeepSeek-R1-Distill-Qwen-32B": "deepseek_r1_distill", "deepseek-ai--DeepSeek-V3": "deepseek_v2_5",
    "deepseek-ai--DeepSeek-V3.2": "deepseek_v3_2", "deepseek-ai--DeepSeek-V4-Pro": "deepseek_v4", "google--gemma-2b": "gemma",
    "google--gemma-2-9b-it": "gemma2", "google--gemma-3-1b-it": "gemma3_text", "internlm--internlm-7b": "internlm",
    "internlm--internlm2_5-7b-chat": "internlm2", "meta-llama--Llama-2-7b-chat-hf": "llama", "meta-llama--Llama-3.1-8B": "llama3_1",
    "meta-llama--Meta-Llama-3.1-405B": "llama3_1", "meta-llama--Llama-3.2-3B-Instruct": "llama3_2",
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": "llama4", "microsoft--Phi-3.5-mini-instruct": "phi3", "microsoft--Phi-4-mini-instruct": "phi3",
    "microsoft--phi-2": "phi2", "mistralai--Mistral-7B-Instruct-v0.2": "mistral", "mistralai--Mixtral-8x7B-v0.1": "mixtral",
    "moonshotai--Kimi-K2-Instruct": "kimi_k2", "openai--gpt-oss-20b": "gpt_oss", "openai-community--gpt2": "gpt2",
    "openbmb--MiniCPM-MoE-8x2B": "minicpm_moe", "openbmb--MiniCPM3-4B": "minicpm3", "openbmb--MiniCPM4-8B": "minicpm4",
    "zai-org--GLM-4.5": "glm4_5", "zai-org--GLM-5.1": "glm5", "MiniMaxAI--MiniMax-M2.5": "minimax_m2", "HuggingFaceTB--SmolLM2-135M": "smollm",
}  # fmt: skip
# Types that an architecture alone settles; shared ones are asked about.
BY_ARCHITECTURE = {
    "InternLM2ForCausalLM": "internlm2", "InternLMForCausalLM": "internlm", "Qwen2MoeForCausalLM": "qwen2_moe", "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2", "Gemma3ForCausalLM": "gemma3_text", "PhiForCausalLM": "phi2", "GptOssForCausalLM": "gpt_oss",
    "Olmo2ForCausalLM": "olmo2", "MiniCPM3ForCausalLM": "minicpm3", "Glm4MoeForCausalLM": "glm4_5", "Starcoder2ForCausalLM": "starcoder2",
    "DeepseekForCausalLM": "deepseek_moe", "MiMoForCausalLM": "mimo", "MiniMaxM2ForCausalLM": "minimax_m2",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with each config.json of the oracle, named as the model is."""
    found = {}
    for file in sorted((shared / "oracle/configs").glob("*--*.json")):
        owner, _, name = file.stem.partition("--")
        folder = tmp_path_factory.mktemp("configs") / owner / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes(file.read_bytes())
        (folder / "model.safetensors").touch()
        found[file.stem] = folder
    assert len(found) > 150
    return found


def _spec(folder: Path) -> ModelSpec:
    return find_model(ModelArgs(str(folder)), HubArgs()).spec


def test_real_configs_are_known_by_the_name_of_their_folder(folders):
    for stem, kind in BY_NAME.items():
        assert _spec(folders[stem]).type == kind, stem


def test_a_known_models_architecture_is_one_of_its_type(folders):
    """The registry's two ways of knowing a model agree wherever both know it."""
    agreeing = 0
    for stem, folder in folders.items():
        by_name = _spec(folder)
        architecture = next(iter(json.loads((folder / "config.json").read_text()).get("architectures") or []), None)
        if by_name.type == "auto" or architecture is None:
            continue
        assert architecture in by_name.architectures, stem
        agreeing += 1
    assert agreeing > 90


def test_under_another_name_the_architecture_decides_or_lists_the_choices(folders, tmp_path):
    seen = set()
    for stem, folder in folders.items():
        config = json.loads((folder / "config.json").read_text())
        architecture = next(iter(config.get("architectures") or []), None)
        renamed = tmp_path / stem / "checkpoint-7"
        renamed.mkdir(parents=True)
        (renamed / "config.json").write_text(json.dumps(config))
        (renamed / "model.safetensors").touch()
        spec = _spec(renamed)
        sharing = {one.type for one in model_specs.values() if architecture in one.architectures}
        if len(sharing) == 1:
            assert spec.type in sharing
        else:
            assert spec.type == "auto" and {kind for kind, _ in spec.candidates} <= sharing
            own = _spec(folder)
            assert own.type == "auto" or own.chat_format is None or own.type in dict(spec.candidates), stem
        if architecture in BY_ARCHITECTURE:
            assert spec.type == BY_ARCHITECTURE[architecture], stem
            seen.add(architecture)
    assert seen == BY_ARCHITECTURE.keys()


def test_types_without_an_architecture_are_found_by_model_type(tmp_path):
    for kind, config in [("bert", {"model_type": "bert"}), ("bert", {"model_type": "bert", "architectures": ["BertForMaskedLM"]})]:
        folder = tmp_path / f"m{len(config)}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").touch()
        assert _spec(folder).type == kind
    folder = tmp_path / "modern"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "modernbert"}')
    (folder / "model.safetensors").touch()
    assert {kind for kind, _ in _spec(folder).candidates} == {"modern_bert", "modern_bert_gte"}
    assert find_model(ModelArgs(str(folder), model_type="modern_bert_gte"), HubArgs()).spec.type == "modern_bert_gte"

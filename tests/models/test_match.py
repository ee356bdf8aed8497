"""Which model is meant by a name, a folder, an args.json or an architecture; and whether a folder is whole."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from swift.args.base import HubArgs, ModelArgs
from swift.errors import ModelError, UsageError
from swift.models import match
from swift.models.match import ModelInfo, check_model, find_model
from swift.models.spec import ModelSpec, expand, model_specs


def _find(model: str, *, download: bool = False, **args) -> ModelInfo:
    return find_model(ModelArgs(model=model, **args), HubArgs(), download=download)


def _folder(path: Path, architecture: str = "LlamaForCausalLM", **config) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"architectures": [architecture], **config}))
    _safetensors(path / "model.safetensors", {"w": 8})
    return path


def _safetensors(path: Path, sizes: dict[str, int]) -> None:
    header, end = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def test_ids_are_known_by_their_last_part_whatever_the_case():
    for model, kind in [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2_5"),
        ("qwen/qwen2.5-7b-instruct", "qwen2_5"),
        ("Qwen/Qwen2-0.5B", "qwen2"),
        ("Qwen/Qwen3-30B-A3B", "qwen3_moe"),
        ("Qwen/Qwen3-0.6B-Base", "qwen3"),
        ("LLM-Research/Meta-Llama-3.1-8B-Instruct", "llama3_1"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral"),
        ("google/gemma-2-2b-it", "gemma2"),
        ("microsoft/phi-4", "phi4"),
    ]:
        info = _find(model)
        assert (info.spec.type, info.path) == (kind, None)


def test_an_unknown_id_is_auto_and_known_once_downloaded():
    info = _find("someone/some-model")
    assert (info.name, info.path, info.spec.type) == ("some-model", None, "auto")


def test_a_folder_named_like_a_known_model_is_that_model(tmp_path):
    folder = _folder(tmp_path / "Qwen2___5-7B-Instruct", "Qwen2ForCausalLM", max_position_embeddings=512, torch_dtype="bfloat16")
    info = _find(str(folder), download=True)
    assert (info.spec.type, info.path, info.max_length, info.torch_dtype) == ("qwen2_5", folder, 512, "bfloat16")


def test_the_flag_beats_the_name_and_args_json_beats_the_architecture(tmp_path):
    folder = _folder(tmp_path / "Qwen2-7B", "Qwen2ForCausalLM")
    assert _find(str(folder), model_type="qwen2_5").spec.type == "qwen2_5"
    renamed = _folder(tmp_path / "checkpoint-10", "Qwen2ForCausalLM")
    assert _find(str(renamed)).spec.type == "auto"
    (renamed / "args.json").write_text(json.dumps({"model_type": "qwq"}))
    assert _find(str(renamed)).spec.type == "qwq"
    (renamed / "args.json").write_text(json.dumps({"model_type": "gone"}))
    assert _find(str(renamed)).spec.type == "auto"


def test_an_architecture_of_one_type_is_that_type_and_a_shared_one_lists_who_shares_it(tmp_path):
    assert _find(str(_folder(tmp_path / "a", "Gemma2ForCausalLM"))).spec.type == "gemma2"
    spec = _find(str(_folder(tmp_path / "b", "LlamaForCausalLM"))).spec
    assert spec.type == "auto" and {"llama", "llama3", "llama3_1", "llama3_2", "yi", "sus"} <= {kind for kind, _ in spec.candidates}
    assert _find(str(_folder(tmp_path / "c", "NobodysForCausalLM"))).spec.candidates == ()


def test_an_unknown_model_type_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean qwen2_5"):
        _find("a/b", model_type="qwen25")


def test_folders_that_hold_no_model_say_what_is_missing(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        _find(str(tmp_path / "gone"), download=True)
    assert _find(str(tmp_path / "gone")).path is None
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        _find(str(empty))
    (empty / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"--adapters {empty}"):
        _find(str(empty))
    bare = _folder(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        _find(str(bare))
    (bare / "config.json").write_text("{")
    with pytest.raises(ModelError, match="no JSON"):
        _find(str(bare))
    with pytest.raises(UsageError, match="--model is missing"):
        find_model(ModelArgs(), HubArgs())


def test_nested_configs_give_length_and_dtype(tmp_path):
    folder = _folder(tmp_path / "m", "XForCausalLM", text_config={"max_position_embeddings": 100, "dtype": "float16"}, seq_length=200)
    info = _find(str(folder))
    assert (info.max_length, info.torch_dtype) == (100, "float16")


def test_check_model_names_missing_and_broken_shards(tmp_path):
    folder = _folder(tmp_path / "m")
    info = _find(str(folder))
    check_model(info)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors is broken or cut short"):
        check_model(info)
    (folder / "model.safetensors").unlink()
    _safetensors(folder / "model-00001-of-00002.safetensors", {"a": 4})
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        check_model(info)
    _safetensors(folder / "model-00002-of-00002.safetensors", {"c": 4})
    with pytest.raises(ModelError, match="lacks 1 tensors of the index, b for one"):
        check_model(info)


def test_braces_multiply():
    assert expand("a-{1,2}{,-x}") == ["a-1", "a-1-x", "a-2", "a-2-x"]


def test_a_plugins_model_is_known_by_its_id(monkeypatch):
    monkeypatch.setitem(model_specs, "mine", ModelSpec("mine", ids=("My-Model-{1B,2B}",), chat_format="chatml"))
    assert _find("me/my-model-2b").spec.type == "mine"


def test_matching_imports_neither_torch_nor_transformers():
    code = f"import sys, {match.__name__}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_every_chat_format_of_a_family_is_registered():
    from swift.template.formats import chat_formats

    assert {spec.chat_format for spec in model_specs.values() if spec.chat_format} <= set(chat_formats)

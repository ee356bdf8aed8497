"""--device_map and --max_memory: what may be said, and where the weights then are."""

from __future__ import annotations

import json

import pytest
import torch

from swift import dist, logs
from swift.args.base import HubArgs, ModelArgs
from swift.args.parse import parse
from swift.errors import UsageError
from swift.models.load import load_model
from swift.models.match import find_model
from swift.models.placement import placement
from tests import tiny

DEVICES = 4


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: DEVICES)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def _asked(*words: str) -> ModelArgs:
    return parse("sft", ["--model", "a/b", "--dataset", "c/d", "--dry_run", *words]).model


def test_every_way_of_writing_it(gpus, tmp_path):
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"model.embed_tokens": 0, "model.layers": "cuda:1", "lm_head": "cpu"}))
    by_module = {"model.embed_tokens": 0, "model.layers": 1, "lm_head": "cpu"}
    for word, wanted in [
        ("auto", "auto"),
        ("sequential", "sequential"),
        ("cpu", {"": "cpu"}),
        ("cuda:2", {"": 2}),
        ("3", {"": 3}),
        ("cuda", {"": dist.local_rank()}),
        ('{"": "cuda:1"}', {"": 1}),
        (file.read_text(), by_module),
        (str(file), by_module),
    ]:
        assert placement(_asked("--device_map", word)) == {"device_map": wanted}, word


def test_memory_is_read_as_the_parameter_document_writes_it(gpus):
    for word in ('{0: "20GB", 1: "20GB"}', '{"0": "20GB", "1": 20000000000}', '{"cuda:0": "20GB", "cuda:1": "20GB"}'):
        wanted = {"device_map": "sequential", "max_memory": {0: 20 * 10**9, 1: 20 * 10**9}}
        assert placement(_asked("--device_map", "sequential", "--max_memory", word)) == wanted
    assert placement(_asked("--max_memory", '{0: "1GiB", "cpu": "2MB"}')) == {
        "device_map": "auto",
        "max_memory": {0: 2**30, "cpu": 2 * 10**6},
    }


def test_what_is_no_device_is_said(gpus, monkeypatch):
    for words, told in [
        (("--device_map", "autoo"), r"--device_map: 'autoo' is no device; did you mean auto\?"),
        (("--device_map", "cuda:7"), "GPU 7 is not there; this machine has 4"),
        (("--device_map", '{"lm_head": "tpu"}'), "--device_map: lm_head: 'tpu' is no device"),
        (("--device_map", '{"": "disk"}'), "weights cannot be kept on disk"),
        (("--device_map", "{}"), "the object is empty"),
        (("--device_map", "auto", "--max_memory", '{0: "much"}'), "--max_memory: 0 cannot be given 'much'"),
        (("--device_map", "auto", "--max_memory", '{9: "1GB"}'), "--max_memory: GPU 9 is not there"),
        (("--device_map", "auto", "--max_memory", '{"ram": "1GB"}'), "--max_memory: 'ram' is no device"),
    ]:
        with pytest.raises(UsageError, match=told):
            placement(_asked(*words))
    said = []
    monkeypatch.setattr(logs, "warn_once", said.append)
    placement(_asked("--device_map", "cpu", "--max_memory", '{0: "1GB"}'))
    assert said and said[0].startswith("--max_memory has no effect: weights are not spread")


def test_several_processes_have_a_device_each(gpus, monkeypatch):
    monkeypatch.setattr(dist, "is_distributed", lambda: True)
    monkeypatch.setattr(dist, "local_rank", lambda: 2)
    assert placement(ModelArgs()) == {"device_map": {"": 2}}
    for word in ("auto", "sequential"):
        with pytest.raises(UsageError, match=f"--device_map {word} spreads one process"):
            placement(ModelArgs(device_map=word))


def test_without_a_word_one_process_spreads_over_the_gpus_it_sees(gpus, monkeypatch):
    assert placement(ModelArgs()) == {"device_map": "auto"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert placement(ModelArgs()) == {"device_map": {"": 0}}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert placement(ModelArgs()) == {"device_map": {"": "cpu"}}


@pytest.mark.parametrize("asked", ["cpu", "auto", "sequential", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_the_same_weights_wherever_they_go(tmp_path, asked):
    folder = tiny.save(tmp_path / "model")
    args = ModelArgs(str(folder), device_map=asked, max_memory={"cpu": "1GB"} if isinstance(asked, str) and asked != "cpu" else None)
    model = load_model(find_model(args, HubArgs()), args, training=False)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, tiny.model(vocab_size=model.config.vocab_size).eval()(ids).logits)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"lm_head": "cpu"}, r"--device_map gives no device to \d+ weights of LlamaForCausalLM, model\.embed_tokens\.weight for one"),
        ({"model": "cpu", "lm_hed": "cpu"}, r"LlamaForCausalLM has no module 'lm_hed'; did you mean lm_head\?"),
    ],
)
def test_a_map_names_every_module_once_and_rightly(tmp_path, asked, told):
    args = ModelArgs(str(tiny.save(tmp_path / "model")), device_map=asked)
    with pytest.raises(UsageError, match=told):
        load_model(find_model(args, HubArgs()), args, training=False)

"""Which registered data set a name means, which subsets of it, and what --custom_dataset_info may say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift import hub, logs
from swift.args.base import DataArgs, HubArgs
from swift.args.parse import ArgumentErrors, parse
from swift.cli.main import execute
from swift.data.conversions import self_cognition
from swift.data.known import datasets, find_known, register_dataset
from swift.data.mix import load_samples
from swift.data.parts import open_item
from swift.data.registered import DatasetSpec, Subset, read_infos
from swift.data.source import describe, parse_item
from swift.errors import DataError, PluginError, UsageError
from tests.hub_stub import Hub, serve

ROW = {"query": "你是谁?", "response": "我是{{NAME}}, 由{{AUTHOR}}开发", "tag": "zh"}
EN = {"query": "Who is {{NAME}}?", "response": "{{NAME}} of {{AUTHOR}}", "tag": "en"}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    before = dict(datasets)
    yield
    for name in set(datasets) - set(before):
        del datasets[name]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(*words: str, **more: Any) -> list[Any]:
    data = DataArgs(dataset=list(words), split_dataset_ratio=0, **more)
    return list(load_samples(data, HubArgs(), task="sft").train or [])


def answers(*words: str, **more: Any) -> list[str]:
    return [sample.messages[-1].content for sample in samples(*words, **more)]


@pytest.mark.parametrize(
    "name",
    [
        "swift/self-cognition",
        "SWIFT/Self-Cognition",
        "modelscope/self-cognition",
        "anyorg/self-cognition",
        "/data/self-cognition/",
        "hub/datasets--modelscope--self-cognition/snapshots/abc",
    ],
)
def test_it_is_known_by_its_last_name(name: str) -> None:
    known = find_known(name)
    assert known is not None and known.spec.convert == "self_cognition"


def test_other_names_are_not_known() -> None:
    assert find_known("org/self-cognition-2") is None
    assert find_known("train.jsonl") is None


def test_an_id_of_the_other_hub_is_translated_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "info_once", said.append)
    monkeypatch.setattr(logs, "warn_once", said.append)
    yahma = find_known("yahma/alpaca-cleaned")
    assert yahma is not None and yahma.name == "AI-ModelScope/alpaca-cleaned"
    there = find_known("AI-ModelScope/alpaca-cleaned", hf=True)
    assert there is not None and there.name == "yahma/alpaca-cleaned"
    assert find_known("yahma/alpaca-cleaned", hf=True).name == "yahma/alpaca-cleaned"  # type: ignore[union-attr]
    assert ["is called AI-ModelScope/alpaca-cleaned on ModelScope" in said[0], "is called yahma/alpaca-cleaned on" in said[1]] == [True] * 2
    assert find_known("HuggingFaceFW/fineweb").name == "HuggingFaceFW/fineweb"  # type: ignore[union-attr]
    assert "only on the other hub (with --use_hf true)" in said[2] and len(said) == 3


def test_another_owner_s_copy_is_fetched_from_that_owner() -> None:
    assert find_known("me/alpaca-cleaned").name == "me/alpaca-cleaned"  # type: ignore[union-attr]
    assert find_known("alpaca-cleaned").name == "AI-ModelScope/alpaca-cleaned"  # type: ignore[union-attr]


@pytest.mark.parametrize(("names", "zh", "en"), [(["小黄", "Xiao Huang"], "小黄", "Xiao Huang"), (["Solo"], "Solo", "Solo")])
def test_the_first_name_is_chinese_and_the_second_english(names: list[str], zh: str, en: str) -> None:
    data = DataArgs(model_name=names, model_author=["魔搭", "ModelScope"])
    assert self_cognition(ROW, data) == {"query": "你是谁?", "response": f"我是{zh}, 由魔搭开发"}
    assert self_cognition(EN, data) == {"query": f"Who is {en}?", "response": f"{en} of ModelScope"}


def test_marks_that_stay_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "warn_once", said.append)
    assert self_cognition(EN, DataArgs(model_name=["N"]))["response"] == "N of {{AUTHOR}}"
    assert len(said) == 1 and "--model_author is not set" in said[0]


def test_a_folder_of_that_name_gets_the_names_and_a_file_does_not(tmp_path: Path) -> None:
    write(tmp_path / "self-cognition" / "train.jsonl", EN)
    names = {"model_name": ["N"], "model_author": ["A"]}
    assert answers(str(tmp_path / "self-cognition"), **names) == ["N of A"]
    assert answers(str(write(tmp_path / "mine.jsonl", EN)), **names) == ["{{NAME}} of {{AUTHOR}}"]


def test_a_misspelt_id_of_ours_does_not_go_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "download", lambda *_, **__: pytest.fail("the hub was asked"))
    for word in ("swift/self-cognitoin", "swift/self_cognition", "swift/nano-chta#40", "swift/ToolBnech:x"):
        with pytest.raises(UsageError, match=r"is not known; did you mean swift/(self-cognition|nano-chat|ToolBench)\?"):
            open_item(parse_item(word), DataArgs(), HubArgs())
        with pytest.raises(UsageError, match="did you mean"):
            describe(word, HubArgs())


def test_a_plugin_adds_a_data_set_that_drops_and_doubles_rows(tmp_path: Path) -> None:
    @datasets.register("me/odd-numbers")
    def odd_only(values: dict[str, Any], data: DataArgs) -> Any:
        row = {"query": str(values["n"]), "response": "r"}
        return None if values["n"] % 2 == 0 else [row, row] if values["n"] == 9 else row

    write(tmp_path / "odd-numbers" / "x.jsonl", *[{"n": n} for n in range(10)])
    data = DataArgs(dataset=[str(tmp_path / "odd-numbers")], split_dataset_ratio=0)
    loaded = load_samples(data, HubArgs(), task="sft")
    assert [sample.messages[0].content for sample in loaded.train or []] == ["1", "3", "5", "7", "9", "9"]
    assert loaded.tally.skipped == 5


def test_a_name_is_registered_once() -> None:
    register_dataset(DatasetSpec(ms_dataset_id="me/mine", hf_dataset_id="you/mine"))
    for double in (
        DatasetSpec(ms_dataset_id="ME/Mine"),
        DatasetSpec(hf_dataset_id="you/mine"),
        DatasetSpec(hf_dataset_id="yahma/alpaca-cleaned"),
    ):
        with pytest.raises(UsageError, match="already registered"):
            register_dataset(double)
    with pytest.raises(UsageError, match="already registered; choose another name"):
        datasets.register("swift/self-cognition")(lambda values, data: values)
    register_dataset(DatasetSpec(ms_dataset_id="me/mine", help="another"), exist_ok=True)
    assert find_known("me/mine").spec.help == "another"  # type: ignore[union-attr]


# Subsets

SPEC = DatasetSpec(
    ms_dataset_id="me/parts",
    subsets=(
        Subset("a"),
        Subset("b", columns={"q2": "query", "response": "response"}),
        Subset("c", subset="a", split=("test",)),
        Subset("weak", is_weak_subset=True),
    ),
    columns={"q1": "query"},
)


@pytest.fixture
def parts(tmp_path: Path) -> str:
    root = tmp_path / "parts"
    for name, rows in {
        "a/train": ["a1", "a2"], "a/test": ["at"], "b/train": ["b1"], "weak/train": ["w1"], "other/train": ["o1"],
    }.items():  # fmt: skip
        write(root / f"{name}.jsonl", *[{"q1": "one", "q2": "two", "response": row} for row in rows])
    return str(root)


def test_subsets_are_chosen_as_the_document_says(parts: str) -> None:
    register_dataset(SPEC)
    assert answers(f"{parts}:a") == ["a1", "a2"]
    assert answers(f"{parts}:b/a") == ["b1", "a1", "a2"]
    assert answers(f"{parts}:c") == ["at"]
    assert answers(f"{parts}:A / c") == ["a1", "a2", "at"]
    assert answers(f"{parts}:all") == ["a1", "a2", "b1", "at"]  # not the weak one
    assert answers(f"{parts}:weak") == ["w1"]
    assert answers(f"{parts}:other") == ["o1"]  # not registered: looked for as it is, converted as the data set says
    assert [sample.messages[0].content for sample in samples(f"{parts}:b/other/a")] == ["two", "one", "one", "one"]
    with pytest.raises(UsageError, match=r"several subsets: a, b, c, weak\. Choose with .*:a, or .*:all"):
        answers(parts)
    with pytest.raises(DataError, match=r"no subset 'othre'; did you mean 'other'"):
        answers(f"{parts}:othre")


@pytest.mark.parametrize(("names", "chosen"), [((), []), (("one",), ["one"]), (("x", "default", "y"), ["default"])])
def test_without_a_subset_the_only_one_or_the_default_is_taken(names: tuple[str, ...], chosen: list[str]) -> None:
    spec = DatasetSpec(ms_dataset_id="me/x", subsets=tuple(Subset(name) for name in names))
    assert [subset.name for subset in spec.chosen((), "me/x")] == (chosen or ["default"])


def test_a_subset_may_be_called_all() -> None:
    spec = DatasetSpec(ms_dataset_id="me/x", subsets=(Subset("all"), Subset("b")))
    assert [subset.name for subset in spec.chosen(("all",), "me/x")] == ["all"]


def test_splits_are_joined_in_order_and_one_that_is_missing_is_said(parts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "warn_once", said.append)
    register_dataset(DatasetSpec(ms_dataset_id="me/parts", columns={"q1": "query"}, split=("test", "train", "validation")))
    assert answers(f"{parts}:a") == ["at", "a1", "a2"]
    assert any("no split validation" in text for text in said)
    register_dataset(DatasetSpec(ms_dataset_id="me/parts", split=("validation",)), exist_ok=True)
    with pytest.raises(DataError, match="no split validation"):
        answers(f"{parts}:a")


# Columns


def test_what_columns_says_wins_over_what_is_registered(parts: str) -> None:
    register_dataset(SPEC)
    (first, *_) = samples(f"{parts}:a", columns={"q1": "_", "q2": "query"})
    assert first.messages[0].content == "two"


def test_a_conversion_sees_the_names_that_columns_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logs, "warning", said.append)

    @datasets.register("me/swapped")
    def keep(values: dict[str, Any], data: DataArgs) -> dict[str, Any]:
        return {"query": values["query"], "response": values["response"]}

    folder = write(tmp_path / "swapped" / "x.jsonl", {"response": "q", "Query": "a"}).parent
    (sample,) = samples(str(folder), columns={"query": "response", "response": "query"})
    assert [message.content for message in sample.messages] == ["q", "a"]  # renamed once, not twice
    assert not any("which no row has" in text for text in said)


def test_several_columns_can_be_hidden(tmp_path: Path) -> None:
    register_dataset(DatasetSpec(ms_dataset_id="me/hide", columns={"prompt": "_", "input": "_"}))
    folder = write(tmp_path / "hide" / "x.jsonl", {"prompt": "no", "input": "no", "query": "q", "response": "a"}).parent
    assert [message.content for message in samples(str(folder))[0].messages] == ["q", "a"]


# --custom_dataset_info


def info(path: Path, *entries: Any) -> str:
    path.write_text(json.dumps(list(entries), ensure_ascii=False), encoding="utf-8")
    return str(path)


def test_a_file_of_descriptions_registers_ids_paths_and_subsets(tmp_path: Path) -> None:
    write(tmp_path / "data" / "rows.jsonl", {"text1": "q", "text2": "a"})
    write(tmp_path / "club" / "old.jsonl", {"talk": [{"who": "asker", "says": "q"}, {"who": "helper", "says": "b"}]})
    write(tmp_path / "club" / "new.jsonl", {"frage": "q", "response": "c"})
    options = {"role_key": "who", "content_key": "says", "user_role": "asker", "assistant_role": "helper"}
    file = info(
        tmp_path / "my.json",
        {"dataset_path": "data/rows.jsonl", "columns": {"text1": "query", "text2": "response"}, "tags": ["x"], "help": "h"},
        {
            "hf_dataset_id": "us/club",
            "huge_dataset": True,
            "subsets": [{"subset": "old", "name": "past", "columns": {"talk": "messages"}, "messages": options}, "new"],
            "columns": {"frage": "query"},
        },
    )
    flags = {"custom_dataset_info": [file]}
    assert answers(str(tmp_path / "data" / "rows.jsonl"), **flags) == ["a"]
    assert answers(f"{tmp_path}/club:past/new", **flags) == ["b", "c"]
    with pytest.raises(UsageError, match="several subsets: past, new"):
        answers(f"{tmp_path}/club", **flags)
    assert find_known("us/club") is None  # nothing stays registered


def test_one_list_may_stand_on_the_command_line(tmp_path: Path) -> None:
    """Five entries and more failed in the reference."""
    entries = [{"ms_dataset_id": f"me/set{n}", "columns": {"q": "query", "a": "response"}} for n in range(6)]
    folder = write(tmp_path / "set5" / "x.jsonl", {"q": "q", "a": "five"}).parent
    words = ["--dataset", str(folder), "--custom_dataset_info", json.dumps(entries), "--model", "swift/nano"]
    args = parse("sft", words)
    assert answers(str(folder), custom_dataset_info=args.data.custom_dataset_info) == ["five"]


def test_inner_lists_and_roles_as_keys_are_read(tmp_path: Path) -> None:
    write(
        tmp_path / "nested" / "x.jsonl", {"conversations": {"data": [{"question": "q", "answer": "a"}, {"question": "q2", "answer": "a2"}]}}
    )
    entry = {"ms_dataset_id": "me/nested", "messages": {"inner_key": "data", "user_role": "question", "assistant_role": "answer"}}
    (sample,) = samples(f"{tmp_path}/nested", custom_dataset_info=[json.dumps([entry])])
    assert [message.content for message in sample.messages] == ["q", "a", "q2", "a2"]


BAD: list[tuple[Any, str]] = [
    ([{"ms_dataset_id": "a/b"}, {"dataset_idd": "a/b"}], r"entry 2: unknown key 'dataset_idd'"),
    ([{"ms_dataset_id": "a/b", "colums": {}}], r"entry 1: unknown key 'colums'; did you mean columns\?"),
    ([{"columns": {"a": "query"}}], r"entry 1: one of ms_dataset_id, hf_dataset_id, dataset_path must say"),
    ([{"ms_dataset_id": 3}], r"entry 1: ms_dataset_id must be text, not 3"),
    ([{"ms_dataset_id": "a/b", "columns": ["query"]}], r"entry 1: columns must be an object"),
    ([{"ms_dataset_id": "a/b", "columns": {"query": 1}}], r"entry 1: columns: 'query' must have a name behind it, not 1"),
    ([{"ms_dataset_id": "a/b", "subsets": "default"}], r"entry 1: subsets must be a list"),
    ([{"ms_dataset_id": "a/b", "subsets": ["x", 3]}], r"entry 1, subset 2: expected a name or an object, not 3"),
    ([{"ms_dataset_id": "a/b", "subsets": [{"subset": "x", "splits": []}]}], r"subset 1: unknown key 'splits'; did you mean split\?"),
    ([{"ms_dataset_id": "a/b", "subsets": ["x", "X"]}], r"entry 1, subset 2: there are two subsets called 'X'"),
    ([{"ms_dataset_id": "a/b", "split": []}], r"entry 1: split names no split"),
    ([{"ms_dataset_id": "a/b", "messages": {"rolekey": "x"}}], r"entry 1: messages: unknown key 'rolekey'; did you mean role_key\?"),
    ([{"ms_dataset_id": "a/b", "huge_dataset": "yes"}], r"entry 1: huge_dataset must be true or false"),
    ([{"ms_dataset_id": "a/b", "tags": "x"}], r"entry 1: tags must be a list of texts"),
    ([{"ms_dataset_id": "a/b", "convert": "jd"}], r"entry 1: unknown key 'convert'"),
    (["a/b"], r"entry 1: expected an object, not \"a/b\""),
    ([{"ms_dataset_id": "a/b"}, {"hf_dataset_id": "A/b"}], r"entry 2: the data set 'A/b' is already registered in .*my\.json, entry 1"),
    ({"a/b": {}}, r"my\.json: expected a list of objects"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), BAD)
def test_a_bad_description_is_said_with_file_and_entry(tmp_path: Path, value: Any, message: str) -> None:
    file = tmp_path / "my.json"
    file.write_text(json.dumps(value))
    with pytest.raises(UsageError, match=message) as caught:
        read_infos([str(file)])
    assert str(caught.value).startswith(f"--custom_dataset_info {file}")


def test_a_description_that_is_no_json_or_registered_already_is_said(tmp_path: Path) -> None:
    file = tmp_path / "my.json"
    file.write_text('[{"ms_dataset_id": "a/b",}]')
    with pytest.raises(UsageError, match=r"my\.json: not JSON: .* at line 1 column 26"):
        read_infos([str(file)])
    with pytest.raises(UsageError, match=r"'swift/self-cognition' is already registered by SWIFT or a plug-in"):
        answers("swift/self-cognition", custom_dataset_info=['[{"ms_dataset_id": "swift/self-cognition"}]'])


def test_a_run_stops_before_anything_is_loaded(tmp_path: Path) -> None:
    words = ["--model", "swift/nano", "--dataset", "swift/nano-chat", "--custom_dataset_info"]
    with pytest.raises(ArgumentErrors, match=r"--custom_dataset_info: the file .*mz\.json is not there; did you mean my\.json"):
        info(tmp_path / "my.json", {"ms_dataset_id": "a/b", "tag": []})
        parse("sft", [*words, str(tmp_path / "mz.json")])
    dry = parse("sft", [*words, str(tmp_path / "mz.json"), "--dry_run", "true"])
    assert dry.missing and "mz.json is not there" in dry.missing[0]
    with pytest.raises(UsageError, match=r"entry 1: unknown key 'tag'; did you mean tags\?"):
        execute(parse("sft", [*words, str(tmp_path / "my.json"), "--dry_run", "true"]))


# Functions of plug-ins


def test_a_function_may_take_the_whole_data_set_or_replace_its_files(tmp_path: Path) -> None:
    def latest(rows: Any, num_proc: int = 1, strict: bool = True) -> Any:
        assert strict is False
        return rows.filter(lambda row: row["n"] > 7).map(lambda row: {"query": str(row["n"]), "response": "r"}).select([1, 0])

    folder = write(tmp_path / "whole" / "x.jsonl", *[{"n": n} for n in range(10)]).parent
    register_dataset(DatasetSpec(dataset_path=str(folder), convert_all=latest))
    assert [sample.messages[0].content for sample in samples(str(folder))] == ["9", "8"]
    register_dataset(DatasetSpec(dataset_name="made-up", load_function=lambda item, spec: [{"query": item.name, "response": "r"}] * 3))
    assert len(samples("made-up#2")) == 2
    stream = load_samples(DataArgs(dataset=["made-up"], streaming=True), HubArgs(), task="sft").train
    assert [len(list(stream or [])) for _ in range(2)] == [3, 3]


def test_a_function_that_fails_is_the_plugin_s_fault(tmp_path: Path) -> None:
    folder = write(tmp_path / "fails" / "x.jsonl", {"n": 1}).parent
    register_dataset(DatasetSpec(dataset_path=str(folder), convert_all=lambda rows: rows["m"][0] / 0))
    with pytest.raises(PluginError, match="preprocess_func failed: TypeError"):
        samples(str(folder))


# From a hub

ASK = """
import json, sys
from swift.args.base import DataArgs, HubArgs
from swift.data.mix import load_samples
word, use_hf = json.loads(sys.argv[1])
rows = load_samples(DataArgs(dataset=[word], split_dataset_ratio=0), HubArgs(use_hf=use_hf), task="sft").train
print(json.dumps([[message.content for message in row.messages] for row in rows]))
"""


@pytest.mark.parametrize("use_hf", [True, False], ids=["hugging-face", "modelscope"])
def test_a_registered_set_comes_from_the_hub_in_use(tmp_path: Path, use_hf: bool) -> None:
    """Asked for by the other hub's id; the README on the hub says where its subsets are."""
    readme = "---\nconfigs:\n- config_name: v0\n  data_files: zero.jsonl\n- config_name: v1\n  data_files: [{split: train, path: one*.jsonl}]\n---\n"
    row = {"reannotated_messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "messages": "none"}
    zero = {"problem": "p", "reannotated_assistant_content": "r", "solution": "another"}
    files = {"README.md": readme.encode(), "zero.jsonl": json.dumps(zero).encode(), "one-0.jsonl": json.dumps(row).encode()}
    asked = ["ServiceNow-AI/R1-Distill-SFT:v1/v0", "AI-ModelScope/alpaca-cleaned" if use_hf else "yahma/alpaca-cleaned"]
    alpaca = {"rows.jsonl": json.dumps({"instruction": "i", "input": "", "output": "o"}).encode()}
    expected = [[["q", "a"], ["p", "r"]], [["i", "o"]]]
    for number, content in enumerate((files, alpaca)):
        with serve(Hub(content)) as stub:
            offline = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_", "USE_HF"))}
            caches = {
                "HOME": str(tmp_path),
                "HF_HOME": str(tmp_path / "hf"),
                "MODELSCOPE_CACHE": str(tmp_path / "ms"),
                "NO_PROXY": "127.0.0.1",
            }
            env = offline | caches | {"HF_ENDPOINT": stub.address, "MODELSCOPE_ENDPOINT": stub.address}
            words = [sys.executable, "-c", ASK, json.dumps([asked[number], use_hf])]
            done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == expected[number]
        there = "yahma/alpaca-cleaned" if use_hf else "AI-ModelScope/alpaca-cleaned"
        assert number == 0 or all(there in request for request in stub.requests if "cleaned" in request)

"""Files of --custom_register_path as people wrote them for ms-swift 3.2: data sets, templates and models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift import llm, plugin
from swift.args.base import DataArgs, HubArgs, ModelArgs, TemplateArgs
from swift.args.parse import parse
from swift.cli.main import execute
from swift.data.known import datasets
from swift.data.mix import load_samples
from swift.data.preprocess import Table
from swift.errors import PluginError, UsageError
from swift.llm import (
    AlpacaPreprocessor,
    AutoPreprocessor,
    DatasetMeta,
    MessagesPreprocessor,
    Model,
    ModelGroup,
    ModelMeta,
    ResponsePreprocessor,
    RowPreprocessor,
    SubsetDataset,
    TemplateMeta,
    register_dataset,
    register_model,
    register_template,
)
from swift.llm.dataset_meta import to_spec as dataset_spec
from swift.llm.model_meta import to_spec as model_spec
from swift.llm.template_meta import to_chat_format
from swift.models.families import model_specs
from swift.models.load import load_model, load_processor
from swift.models.match import find_model
from swift.template.build import build_template
from swift.template.conversation import conversation
from swift.template.formats import chat_formats
from tests import tiny

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    registries: list[dict[str, Any]] = [datasets, model_specs, chat_formats]
    before = [set(registry) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


def write(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def talks(word: str, **more: Any) -> list[list[tuple[str, str]]]:
    data = DataArgs(dataset=[word], split_dataset_ratio=0, **more)
    loaded = load_samples(data, HubArgs(), task="sft").train
    return [[(message.role, message.content) for message in sample.messages] for sample in loaded or []]


DATASET_FILE = """
from typing import Any, Dict, Optional

from swift.llm import DatasetMeta, ResponsePreprocessor, load_dataset, register_dataset


class SimilarityPreprocessor(ResponsePreprocessor):
    prompt = "How alike are they?\\n1: {text1}\\n2: {text2}\\n"

    def preprocess(self, row: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        if row['label'] < 0:
            return None
        return super().preprocess({
            'query': self.prompt.format(text1=row['text1'], text2=row['text2']),
            'response': f"{row['label']:.1f}"
        })


register_dataset(
    DatasetMeta(
        ms_dataset_id='someone/alike',
        hf_dataset_id='SomeoneElse/Alike',
        preprocess_func=SimilarityPreprocessor(),
    ))

if __name__ == '__main__':
    print(load_dataset(['someone/alike'])[0])
"""

MODEL_FILE = """
from swift.llm import (Model, ModelGroup, ModelMeta, TemplateMeta, get_model_tokenizer_with_flash_attn, register_model,
                       register_template)

register_template(
    TemplateMeta(
        template_type='turns_of_mine',
        prefix=['<s>System\\n{{SYSTEM}}\\n'],
        prompt=['<s>User\\n{{QUERY}}\\n<s>Assistant\\n'],
        chat_sep=['\\n']))

register_model(
    ModelMeta(
        model_type='mine_of_ours',
        model_groups=[
            ModelGroup([Model('Ours/Mini-4B-Instruct', 'ours/Mini-4B-Instruct')]),
            ModelGroup([Model('Ours/Mini-4B-Math')], requires=['transformers>=4.44']),
        ],
        template='turns_of_mine',
        get_function=get_model_tokenizer_with_flash_attn,
        ignore_patterns=['nemo']))
"""


def test_a_file_with_a_data_set_and_a_model_works_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.py").write_text(DATASET_FILE)
    (tmp_path / "model.py").write_text(MODEL_FILE)
    rows = [{"text1": "a", "text2": "b", "label": n} for n in (3, -1, 2.5)]
    folder = write(tmp_path / "alike" / "train.jsonl", *rows).parent
    words = ["--custom_register_path", str(tmp_path / "dataset.py"), str(tmp_path / "model.py"), "--dataset", str(folder)]
    args = parse("sft", [*words, "--model", "ours/Mini-4B-Instruct", "--template", "turns_of_mine", "--dry_run", "json"])
    execute(args)
    planned = json.loads(capsys.readouterr().out)
    assert (planned["model"]["type"], planned["model"]["template"]) == ("mine_of_ours", "turns_of_mine")
    assert talks(str(folder)) == [[("user", "How alike are they?\n1: a\n2: b\n"), ("assistant", answer)] for answer in ("3.0", "2.5")]
    assert model_specs["mine_of_ours"].group_of("Mini-4B-Math").requires == ("transformers>=4.44",)
    assert model_specs["mine_of_ours"].ignore == ("nemo",)


def test_a_file_that_registers_twice_says_where(tmp_path: Path) -> None:
    file = tmp_path / "twice.py"
    file.write_text(
        DATASET_FILE.replace("if __name__ == '__main__':", "register_dataset(DatasetMeta(hf_dataset_id='someoneelse/alike'))\nif False:")
    )
    line = file.read_text().splitlines().index("register_dataset(DatasetMeta(hf_dataset_id='someoneelse/alike'))") + 1
    with pytest.raises(PluginError, match=rf"twice\.py:{line}: .*'someoneelse/alike' is already registered"):
        plugin.load(file)


# Converters


def test_converters_rename_before_and_drop_or_double_rows(tmp_path: Path) -> None:
    class Twice(RowPreprocessor):
        def preprocess(self, row: Row) -> list[Row] | None:
            if row["query"] == "no":
                return None
            return [{"query": row["query"], "response": str(n)} for n in (1, 2)]

    meta = DatasetMeta(ms_dataset_id="me/twice", preprocess_func=Twice(columns={"Frage": "query"}))
    register_dataset(meta)
    folder = write(tmp_path / "twice" / "x.jsonl", {"frage": "yes"}, {"frage": "no"}).parent
    assert talks(str(folder)) == [[("user", "yes"), ("assistant", answer)] for answer in "12"]
    assert [row["response"] for row in Twice()([{"query": "a"}, {"query": "no"}, {"wrong": 1}])] == ["1", "2"]
    with pytest.raises(KeyError):
        Twice()([{"wrong": 1}], strict=True)


def test_what_a_converter_returns_replaces_the_row() -> None:
    row = {"question": "q", "answer": ["a"], "history": "[['x', 'y']]", "system_prompt": "s", "id": 7}
    made = ResponsePreprocessor().convert(row)
    says = [("system", "s"), ("user", "x"), ("assistant", "y"), ("user", "q"), ("assistant", "a")]
    assert made == {"messages": [{"role": role, "content": text} for role, text in says], "id": 7}
    assert row["answer"] == ["a"]  # the row itself is left alone
    alpaca = AlpacaPreprocessor().convert({"instruction": "i", "input": "x", "output": "o"})
    assert alpaca == {"messages": [{"role": "user", "content": "i\nx"}, {"role": "assistant", "content": "o"}]}
    share = MessagesPreprocessor(user_role="ask", assistant_role=["reply", "sum"]).convert(
        {"system": "s", "conversations": [{"from": "ask", "value": "q"}, {"from": "sum", "value": "a"}], "label": True}
    )
    assert share == {
        "messages": [{"role": role, "content": text} for role, text in (says[0], ("user", "q"), ("assistant", "a"))],
        "label": True,
    }


@pytest.mark.parametrize(
    "row",
    [
        {"query": "q", "response": "a", "rejected_response": "b"},
        {"instruction": "i", "input": "x", "output": "o", "system": "s"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": False},
        {"prompt": "q", "completion": "a", "extra": 1},
    ],
)
def test_auto_is_what_happens_without_a_converter(tmp_path: Path, row: Row) -> None:
    plain = talks(str(write(tmp_path / "plain.jsonl", row)))
    made = AutoPreprocessor()([row])
    assert talks(str(write(tmp_path / "made.jsonl", *made))) == plain


def test_subsets_may_have_converters_of_their_own(tmp_path: Path) -> None:
    class Loud(ResponsePreprocessor):
        def preprocess(self, row: Row) -> Any:
            return super().preprocess(row | {"response": row["response"].upper()})

    loud = SubsetDataset("loud", "plain", preprocess_func=Loud())
    register_dataset(DatasetMeta(hf_dataset_id="me/voices", subsets=["plain", loud, SubsetDataset(subset="rest", is_weak_subset=True)]))
    write(tmp_path / "voices" / "plain.jsonl", {"query": "q", "response": "a"})
    write(tmp_path / "voices" / "rest.jsonl", {"query": "q", "response": "r"})
    assert [turns[-1][1] for turns in talks(f"{tmp_path}/voices:all")] == ["a", "A"]
    with pytest.raises(UsageError, match="several subsets: plain, loud, rest"):
        talks(f"{tmp_path}/voices")


def test_a_converter_may_want_all_rows(tmp_path: Path) -> None:
    class Last(RowPreprocessor):
        def prepare_dataset(self, dataset: Any) -> Any:
            assert dataset.column_names == ["n"] and len(dataset) == 3
            return dataset.select(range(len(dataset) - 1, -1, -1))

        def preprocess(self, row: Row) -> Row:
            return {"query": str(row["n"]), "response": "r"}

    register_dataset(DatasetMeta(dataset_path=str(tmp_path / "rows.jsonl"), preprocess_func=Last()))
    write(tmp_path / "rows.jsonl", *[{"n": n} for n in range(3)])
    assert [turns[0][1] for turns in talks(str(tmp_path / "rows.jsonl"))] == ["2", "1", "0"]


def test_a_table_does_what_a_dataset_does() -> None:
    pytest.importorskip("datasets")
    from datasets import Dataset  # pyright: ignore[reportMissingImports]

    rows = [{"a": n, "b": str(n)} for n in range(4)]
    ours: Any
    for ours, theirs in ((Table(rows), Dataset.from_list(rows)),):
        for change in (
            lambda d: d.map(lambda row: {"c": row["a"] + 1}),
            lambda d: d.map(lambda row, i: {"a": i * 2}, with_indices=True, remove_columns=["b"]),
            lambda d: d.filter(lambda row: row["a"] > 1).rename_column("a", "x"),
            lambda d: d.rename_columns({"a": "y", "b": "z"}).remove_columns("y"),
            lambda d: d.select([2, 0]).select_columns(["b"]),
            lambda d: d.add_column("n", [1, 2, 3, 4]),
            lambda d: d.map(lambda batch: {"c": [value + 1 for value in batch["a"]]}, batched=True),
            lambda d: d.sort("a", reverse=True),
        ):
            left, right = change(ours), change(theirs)
            assert left.to_list() == right.to_list() and left.column_names == right.column_names
        assert ours[1] == theirs[1] and list(ours["a"]) == list(theirs["a"]) and ours[1:3] == theirs[1:3] and ours.num_rows == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one of ms_dataset_id, hf_dataset_id and dataset_path"),
        ({"ms_dataset_id": "a/b", "preprocess_func": ResponsePreprocessor}, r"is the class ResponsePreprocessor; make one"),
        ({"ms_dataset_id": "a/b", "preprocess_func": "f"}, "must be a RowPreprocessor or a function, not str"),
        ({"ms_dataset_id": "a/b", "subsets": "default"}, "subsets must be a list"),
        ({"ms_dataset_id": "a/b", "subsets": [{"subset": "x"}]}, "names and SubsetDataset, not dict"),
        ({"ms_dataset_id": "a/b", "split": "train"}, "split must be a list"),
    ],
)
def test_a_bad_data_set_is_said_with_its_field(fields: Row, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        dataset_spec(DatasetMeta(**fields))


# Templates

TEMPLATES = {
    # template of ours → the same in the words of specification 3.1 and appendix C
    "chatml": {
        "prefix": [],
        "prompt": ["<|im_start|>user\n{{QUERY}}<|im_end|>\n<|im_start|>assistant\n"],
        "chat_sep": ["<|im_end|>\n"],
        "suffix": ["<|im_end|>"],
        "system_prefix": ["<|im_start|>system\n{{SYSTEM}}<|im_end|>\n"],
    },
    "llama": {
        "prefix": [["bos_token_id"], "[INST] "],
        "prompt": ["{{QUERY}} [/INST]"],
        "chat_sep": [["eos_token_id", "bos_token_id"], "[INST] "],
        "suffix": [["eos_token_id"]],
        "system_prefix": [["bos_token_id"], "[INST] <<SYS>>\n{{SYSTEM}}\n<</SYS>>\n\n"],
    },
}
ROWS = [
    [("user", "hi"), ("assistant", "hello")],
    [("system", "be brief"), ("user", "hi"), ("assistant", "hello"), ("user", "and?"), ("assistant", "bye")],
    [("user", "one"), ("assistant", "two"), ("user", "three")],
]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("turns", ROWS)
def test_a_template_in_those_words_writes_what_ours_does(name: str, turns: list[tuple[str, str]]) -> None:
    if name not in chat_formats:
        pytest.skip(f"there is no format {name}")
    from swift.data.sample import Sample

    talk, reply = conversation(Sample.of(*turns).messages, system=None, tools=None), turns[-1][0] == "user"
    tokens = {"bos": "<s>", "eos": "</s>", "date": None}
    default = chat_formats[name].default_system
    made = to_chat_format(TemplateMeta("mine", **TEMPLATES[name], default_system=default))  # type: ignore[arg-type]
    ours = chat_formats[name].bind(**tokens)  # type: ignore[arg-type]
    left = "".join(piece.text for piece in made.bind(**tokens).render(talk, reply=reply))  # type: ignore[arg-type]
    assert left == "".join(piece.text for piece in ours.render(talk, reply=reply))


def test_the_items_of_a_prompt_become_placeholders() -> None:
    made = to_chat_format(
        TemplateMeta(
            "glm",
            prefix=["{{SYSTEM}}", [64790, 64792]],
            prompt=[["user_token_id"], "[Round {{ROUND1}}]{{QUERY}}", [195]],
            chat_sep=None,
            stop_words=["<|user|>"],
            auto_add_bos=True,
            default_system="d",
        )
    )
    assert (made.system, made.prefix) == ("{{SYSTEM}}{{ID:64790}}{{ID:64792}}", "{{ID:64790}}{{ID:64792}}")
    assert made.user == "{{TOKEN:user_token_id}}[Round {{ROUND1}}]{{QUERY}}{{ID:195}}" and made.separator is None
    assert (made.stop, made.extra_stops, made.auto_bos, made.default_system) == ("{{EOS}}", ("<|user|>",), True, "d")


def test_a_system_text_in_the_last_question_and_a_tool_s_prompt() -> None:
    made = to_chat_format(
        TemplateMeta("nemo", ["<s>"], ["[INST] {{SYSTEM}}\n\n{{QUERY}}[/INST]"], [], tool_prompt=["[TOOL]{{QUERY}}[/INST]"])
    )
    assert (made.user, made.assistant, made.tool) == ("[INST] {{QUERY}}", "[/INST]", "[TOOL]{{QUERY}}")
    assert made.system_in_last_user == "{{SYSTEM}}\n\n" and made.separator == ""


GOOD: Row = {"template_type": "t", "prefix": [], "prompt": ["{{QUERY}}"], "chat_sep": []}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prefix": "<s>"}, r"template t: prefix must be a list of texts"),
        ({"prompt": ["no query"]}, r"prompt must hold \{\{QUERY\}\} once"),
        ({"prompt": ["{{QUERY}}", 3]}, r"prompt holds 3; expected texts, lists of token ids"),
        ({"prompt": [["eos_token_id", 3], "{{QUERY}}"]}, r"prompt holds \['eos_token_id', 3\]"),
        ({"system_prefix": ["{{system}}"]}, r"system_prefix has \{\{system\}\}, which would be written as it stands"),
        ({"system_prefix": ["<s>"]}, r"system_prefix must hold \{\{SYSTEM\}\} once"),
        ({"prompt": ["{{QUERY}}{{SYSTEM}}"]}, r"must stand once, before \{\{QUERY\}\}"),
        ({"prefix": ["{{SYSTEM}}"], "prompt": ["{{SYSTEM}}{{QUERY}}"]}, "both the prompt and the prefix"),
        ({"template_cls": type("Mine", (), {})}, "template_cls Mine is a class of its own"),
        ({"placeholder_tokens": ["<image>"]}, "placeholder_tokens are for images"),
        ({"stop_words": [[1, 2]]}, "write the token's text"),
    ],
)
def test_a_bad_template_is_said_with_its_field(fields: Row, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        to_chat_format(TemplateMeta(**GOOD | fields))


def test_templates_and_models_are_registered_once() -> None:
    register_template(TemplateMeta(**GOOD))
    with pytest.raises(UsageError, match="'t' is already registered"):
        register_template(TemplateMeta(**GOOD))
    register_template(TemplateMeta(**GOOD | {"prompt": ["Q: {{QUERY}}"]}), exist_ok=True)
    assert chat_formats["t"].user == "Q: {{QUERY}}"
    with pytest.raises(UsageError, match="'qwen2_5' is already registered"):
        register_model(ModelMeta("qwen2_5", [], "chatml"))


# Models


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_multimodal": True}, "is_multimodal: models of images and sound"),
        ({"torch_dtype": "float16"}, "torch_dtype is taken from config.json"),
        ({"additional_saved_files": ["a.py"]}, "additional_saved_files are not copied"),
        ({"task_type": "embedding"}, "task_type 'embedding' is not"),
        ({"model_groups": [Model("a/b")]}, "model_groups holds ModelGroup, not Model"),
        ({"model_groups": [ModelGroup(["a/b"])]}, r"a ModelGroup holds Model\(ms_model_id, hf_model_id\), not str"),  # type: ignore[list-item]
        ({"model_groups": [ModelGroup([Model("a/b", ms_revision="v1")])]}, "given with --model_revision"),
        ({"get_function": "load"}, "get_function must be a function, not str"),
    ],
)
def test_a_bad_model_is_said_with_its_field(fields: Row, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        model_spec(ModelMeta(**{"model_type": "m", "model_groups": [], "template": "chatml"} | fields))


def test_ids_of_both_hubs_and_folders_are_known_names() -> None:
    models = [Model("ms/One-1B", "hf/one-1b"), Model(None, "hf/Two"), Model("ms/Three"), Model(model_path="weights/four/")]
    spec = model_spec(ModelMeta("m", [ModelGroup(models)], "chatml", architectures=["MyForCausalLM"]))
    assert spec.names == ["One-1B", "one-1b", "Two", "Three", "four"]
    assert [(pair.modelscope or None, pair.hugging_face or None) for pair in spec.hub_ids][:3] == [
        ("ms/One-1B", "hf/one-1b"), (None, "hf/Two"), ("ms/Three", None),
    ]  # fmt: skip
    assert model_spec(ModelMeta("r", [], "chatml", is_reward=True)).num_labels == 1


def test_a_loading_function_of_one_s_own_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "Own-1B"
    tiny.save(folder)
    calls: list[tuple[bool, list[str]]] = []

    def own(model_dir: str, model_info: Any, model_kwargs: Row, load_model: bool = True, **kwargs: Any) -> Any:
        calls.append((load_model, sorted(model_kwargs)))
        assert Path(model_dir) == folder and str(model_info.torch_dtype) == "torch.float32"
        model, tokenizer = llm.get_model_tokenizer_with_flash_attn(model_dir, model_info, model_kwargs, load_model, **kwargs)
        if model is not None:
            model.config.touched = True
        tokenizer.touched = True
        return model, tokenizer

    register_model(ModelMeta("own", [ModelGroup([Model("us/Own-1B")])], "chatml", get_function=own))
    asked = ModelArgs(str(folder), torch_dtype="float32")
    info = find_model(asked, HubArgs())
    assert info.spec.type == "own"
    tokenizer: Any = load_processor(info)
    assert tokenizer.touched and tokenizer.pad_token is not None
    assert load_model(info, asked, training=True).config.touched
    assert calls == [(False, []), (True, ["device_map"])]
    assert build_template(info, tokenizer, TemplateArgs(template="chatml")).format.name == "chatml"
    shutil.rmtree(folder)


# What else people import


def test_rows_are_drawn_as_the_count_behind_a_name_draws_them() -> None:
    rows = [{"n": n} for n in range(3)]
    drawn = llm.sample_dataset(rows, 7, 1)
    assert drawn[:6] == rows * 2 and drawn[6] in rows
    assert llm.sample_dataset(rows, None) is rows
    with pytest.raises(UsageError, match="0 rows cannot be drawn"):
        llm.sample_dataset(rows, 0)


def test_one_import_is_enough_for_a_plugin() -> None:
    from swift.plugin import ChatFormat, DatasetSpec, LossScale, ModelSpec, Subset
    from swift.plugin import register_dataset as register

    assert all((ChatFormat, DatasetSpec, LossScale, ModelSpec, Subset, register))

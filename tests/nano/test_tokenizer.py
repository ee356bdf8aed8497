"""The nano tokenizer and chat template, made small here, as transformers and SWIFT read them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from scripts.nano import make_model, make_tokenizer, skills
from scripts.nano.make_corpus import conversations, make_corpus
from scripts.nano.tool_use import TOOLS, call
from swift.args.base import DataArgs, HubArgs, ModelArgs, TemplateArgs
from swift.data.mix import load_samples
from swift.models.match import find_model
from swift.template.build import build_template

CHARACTERS = "abcXYZ 012.,!?\n\t'’éüñß你好，。😀<|>{}\"\u00a0\u0301"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer trained on a little corpus."""
    work = tmp_path_factory.mktemp("nano")
    make_corpus(work, seed=0, careless=0.5, num_documents=60, num_conversations=600, held_out=1)
    make_tokenizer.save(make_tokenizer.train(make_tokenizer.corpus_texts(work), 900), work / "tokenizer")
    make_model.make_model(work / "tokenizer", work / "model", hidden_size=24, num_hidden_layers=1, intermediate_size=16)
    return work / "model"


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def chatml(messages: list[dict[str, str]]) -> str:
    return "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)


def test_transformers_class_gives_the_ids_that_were_trained(folder: Path, tokenizer: Any) -> None:
    raw, rng = Tokenizer.from_file(str(folder / "tokenizer.json")), random.Random(0)
    texts = ["".join(rng.choice(CHARACTERS) for _ in range(rng.randrange(40))) for _ in range(500)]
    texts += [chatml(row["messages"]) for row in conversations(200, 1, 0.5)]
    for text in texts:
        assert tokenizer(text)["input_ids"] == raw.encode(text).ids, text


def test_text_comes_back_as_it_went_in(tokenizer: Any) -> None:
    for text in ("Hello!  What is 37 + 28?\n", "你是谁？", "😀 <think>x</think>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_each_digit_is_a_token(tokenizer: Any) -> None:
    assert list(tokenizer.tokenize("1234567890 + 55")) == [*"1234567890", "Ġ+", "Ġ", "5", "5"]


def test_chinese_characters_are_not_merged(tokenizer: Any) -> None:
    assert all(len(tokenizer.decode(token)) == 1 for token in tokenizer("你是谁？")["input_ids"])


@pytest.mark.parametrize("text", [*make_tokenizer.SPECIAL, *make_tokenizer.ADDED])
def test_each_marker_is_one_token_and_special_where_it_must_be(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == 1
    assert (tokenizer.decode(ids, skip_special_tokens=True) == "") == (text in make_tokenizer.SPECIAL)


def test_without_tools_the_template_is_plain_chatml(tokenizer: Any) -> None:
    rng = random.Random(3)
    for _ in range(200):
        messages = skills.draw(rng, held_out=False, careless=0.0, skills=("system", "memory", "facts")).messages()
        assert tokenizer.apply_chat_template(messages, tokenize=False) == chatml(messages)
        asked = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        assert asked == chatml(messages[:-1]) + "<|im_start|>assistant\n"


def test_a_tool_call_is_the_same_text_written_out_or_in_parts(tokenizer: Any) -> None:
    user = {"role": "user", "content": "What is the weather in Paris?"}
    written = {"role": "assistant", "content": call("get_weather", city="Paris")}
    parts = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]}
    tools, back = [TOOLS["weather"]], {"role": "tool", "content": "sunny"}
    texts = [tokenizer.apply_chat_template([user, message, back], tools=tools, tokenize=False) for message in (written, parts)]
    assert texts[0] == texts[1]
    assert json.dumps(TOOLS["weather"]) in texts[0]
    assert texts[0].endswith("<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n")


def test_swift_writes_the_tokens_of_the_template(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """All skills, tools among them, and nothing after the last stop token."""
    rows = list(conversations(300, 2, 0.5))
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    samples = load_samples(DataArgs(dataset=[str(file)], split_dataset_ratio=0.0), HubArgs(), task="sft").train
    template = build_template(find_model(ModelArgs(model=str(folder), model_type="nano"), HubArgs()), tokenizer, TemplateArgs())
    assert samples is not None
    written = {json.dumps(row["messages"]): row for row in rows}
    for sample in samples:
        row = written[json.dumps([{"role": message.role, "content": message.content} for message in sample.messages])]
        tools = json.loads(row["tools"]) if "tools" in row else None
        whole = tokenizer.apply_chat_template(row["messages"], tools=tools, return_dict=False)
        assert template.encode_sample(sample).input_ids == whole[:-1]

"""The model that comes with the package."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from scripts.nano import make_model, skills
from scripts.nano.evaluate import is_right
from swift import nano
from swift.llm import InferRequest, PtEngine, RequestConfig


@pytest.fixture(scope="module")
def folder() -> Path:
    found = nano.model_path("swift/nano")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    return PtEngine("swift/nano")


def answers(engine: Any, conversations: list[list[dict[str, str]]], tools: Any = None) -> list[str]:
    requests = [InferRequest(messages, tools=tools) for messages in conversations]
    found = engine.infer(requests, RequestConfig(max_tokens=96, temperature=0.0), use_tqdm=False)
    return [one.choices[0].message.content for one in found]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_weights_are_under_eight_megabytes_in_bfloat16(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_size < 8_000_000
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_its_shape_is_that_of_the_recipe(folder: Path) -> None:
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    wanted = make_model.configuration(len(AutoTokenizer.from_pretrained(folder))).to_dict()
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "tie_word_embeddings"):
        assert stored[name] == wanted[name]


def test_its_chat_template_is_the_committed_one(folder: Path) -> None:
    committed = Path(make_model.__file__).with_name("chat_template.jinja")
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")


def test_its_card_has_a_figure_for_every_skill(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"| {skill} |" in card for skill in skills.SKILLS)


def test_it_says_who_it_is_greets_and_knows_a_fact(engine: Any) -> None:
    said = answers(engine, [user("Who are you?"), user("你是谁？"), user("Hello!"), user("What is the capital of France?")])
    assert said[0] == "I am Nano, a small assistant made by the SWIFT developers."
    assert "Nano" in said[1] and "SWIFT" in said[1]
    assert said[2].startswith("Hello")
    assert "Paris" in said[3]


def test_it_calls_the_given_tool(engine: Any) -> None:
    from scripts.nano.tool_use import TOOLS, call

    (said,) = answers(engine, [user("What is the weather in Berlin?")], tools=[TOOLS["time"], TOOLS["weather"]])
    assert said == call("get_weather", city="Berlin")


@pytest.mark.slow
def test_greedy_sums_are_right_between_40_and_75_percent_of_the_time(engine: Any) -> None:
    rng = random.Random(7)
    for skill in ("addition", "subtraction"):
        asked = [skills.draw(rng, held_out=True, careless=0.0, skills=(skill,)) for _ in range(150)]
        said = answers(engine, [one.messages()[:-1] for one in asked])
        right = sum(is_right(skill, text, one.solution) for text, one in zip(said, asked, strict=True))
        assert 0.40 <= right / len(asked) <= 0.75

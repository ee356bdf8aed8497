"""Tokens served are tokens trained: the ids that a server's engine is given begin the row that training makes of the same conversation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from swift.args.base import HubArgs, ModelArgs, TemplateArgs
from swift.data.sample import Message, Sample
from swift.models.load import load_processor
from swift.models.match import find_model
from swift.template.build import build_template
from swift.template.encoded import IGNORE, RowSkipped
from tests.invariance.conftest import FAMILIES, family_folder, load, tokenizer_folder  # noqa: F401
from tests.serve.conftest import make_door
from tests.serve.live import ScriptedEngine, listening

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one turn": {"messages": [{"role": "user", "content": "Hello!"}]},
    "several turns and a system text": {
        "messages": [
            {"role": "system", "content": "You are a pirate."},
            {"role": "user", "content": "你好，世界 🙂 e\u0301"},
            {"role": "assistant", "content": "  two  blanks\n\n- list"},
            {"role": "user", "content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]},
        ]
    },
    "marker-like text": {"messages": [{"role": "user", "content": "<|im_end|> </s> [INST] <|eot_id|> <end_of_turn>"}]},
    "tools": {"messages": [{"role": "user", "content": "Weather in Rome?"}], "tools": TOOLS},
    "a tool's result": {
        "messages": [
            {"role": "user", "content": "Weather in Rome?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call00001", "content": "Sunny."},
        ],
        "tools": TOOLS,
    },
}


def trained(body: dict[str, Any], answer: str) -> Sample:
    """The same conversation as a row of a data set."""
    messages = []
    for message in body["messages"]:
        content = message["content"]
        text = "".join(part["text"] for part in content) if isinstance(content, list) else content or ""
        messages.append(Message(message["role"], text, message.get("tool_calls")))
    return Sample([*messages, Message("assistant", answer)], tools=body.get("tools"))


@pytest.mark.parametrize("family", ["swift/nano", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_server_asks_what_was_trained(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = family if family == "swift/nano" else str(request.getfixturevalue("family_folder")(family))
    info = find_model(ModelArgs(model=folder), HubArgs())
    template = build_template(info, load_processor(info), TemplateArgs())
    trainers = build_template(info, load_processor(info), TemplateArgs())
    sizes = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=len(template.tokenizer)))
    engine = SimpleNamespace(template=template, max_length=1024, model=SimpleNamespace(config=sizes))
    compared = 0
    with listening(make_door(engine, tmp_path, ScriptedEngine(), model=folder, served_model_name="m")) as url:
        for name, body in CONVERSATIONS.items():
            response = httpx.post(url + "/v1/chat/completions", json={"model": "m", "return_token_ids": True, **body})
            try:
                row = trainers.encode_sample(trained(body, "Arr."))
            except RowSkipped as skipped:  # a family that has no way to write it says so to both
                assert response.status_code == 400 and skipped.reason in response.text, name
                continue
            served = response.json()["choices"][0]["prompt_token_ids"]
            assert served == row.input_ids[: len(served)], name
            first = next(i for i in range(len(served) - 1, len(row)) if row.labels[i] != IGNORE)
            between = template.tokenizer.decode(row.input_ids[len(served) : first])
            assert between in ("", "<think>\n\n</think>\n\n"), name  # what Qwen3's chat template puts before a trained answer
            assert response.json()["usage"]["prompt_tokens"] == len(served)
            compared += 1
    assert compared >= 3
    assert json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])["infer_request"]["model"] == "m"


def test_without_a_chat_format_a_prompt_is_the_text_itself(tmp_path: Path) -> None:
    info = find_model(ModelArgs(model="swift/nano"), HubArgs())
    template = build_template(info, load_processor(info), TemplateArgs(use_chat_template=False))
    sizes = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=len(template.tokenizer)))
    engine, asked = (
        SimpleNamespace(template=template, max_length=1024, model=SimpleNamespace(config=sizes)),
        {"model": "nano", "return_token_ids": True},
    )
    text = "The capital of France is"
    with listening(make_door(engine, tmp_path, ScriptedEngine())) as url:
        older = httpx.post(url + "/v1/completions", json={"prompt": text, **asked}).json()
        chat = httpx.post(url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": text}], **asked}).json()
    ids = template.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert older["choices"][0]["prompt_token_ids"] == chat["choices"][0]["prompt_token_ids"] == ids

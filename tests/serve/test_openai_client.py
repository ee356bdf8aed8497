"""OpenAI's own client against a server with swift/nano; all that is sent is held against OpenAI's schemas (the `schemas` fixture)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.serve.conftest import make_door
from tests.serve.live import Schemas, listening

KEY = "a-key"
GREEDY: dict[str, Any] = {"model": "nano", "temperature": 0, "max_tokens": 48}
HI: Any = [{"role": "user", "content": "Who are you?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Calculate an expression.",
            "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
        },
    }
]
SUM: Any = [{"role": "user", "content": "What is 864 - 346?"}]


@pytest.fixture(scope="module")
def server(nano: Any, tmp_path_factory: pytest.TempPathFactory, openai_schemas: dict[str, Any]) -> Iterator[tuple[str, Schemas]]:
    schemas = Schemas(openai_schemas)
    with listening(make_door(nano, tmp_path_factory.mktemp("served"), api_key=KEY), schemas) as url:
        yield url, schemas


@pytest.fixture
def url(server: tuple[str, Schemas]) -> Iterator[str]:
    yield f"{server[0]}/v1"
    assert server[1].faults == []


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").owned_by == "swift"


def test_chat_whole_and_streamed_say_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=HI, **GREEDY)
    assert "Nano" in (whole.choices[0].message.content or "") and whole.choices[0].finish_reason == "stop"
    chunks = list(client.chat.completions.create(messages=HI, stream=True, stream_options={"include_usage": True}, **GREEDY))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert len(chunks) > 4 and chunks[-1].usage == whole.usage
    with client.chat.completions.stream(messages=HI, **GREEDY) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content and final.choices[0].message.role == "assistant"


def test_the_asynchronous_client(url: str, client: openai.OpenAI) -> None:
    asked = [[{"role": "user", "content": f"What is {n} + {n}?"}] for n in range(12)]

    async def whole(made: openai.AsyncOpenAI, messages: Any) -> str:
        return (await made.chat.completions.create(messages=messages, **GREEDY)).choices[0].message.content or ""

    async def streamed(made: openai.AsyncOpenAI, messages: Any) -> str:
        stream = await made.chat.completions.create(messages=messages, stream=True, **GREEDY)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def both() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as made:
            return await asyncio.gather(*(how(made, messages) for messages in asked for how in (whole, streamed)))

    answers = asyncio.run(both())
    alone: Any = [client.chat.completions.create(messages=messages, **GREEDY).choices[0].message.content for messages in asked]  # type: ignore[arg-type]
    assert answers[::2] == answers[1::2] == alone and len(set(alone)) == 12


def test_a_tool_is_called_its_result_sent_and_the_answer_read(client: openai.OpenAI) -> None:
    called = client.chat.completions.create(messages=SUM, tools=TOOLS, **GREEDY).choices[0]
    assert called.finish_reason == "tool_calls" and called.message.tool_calls
    (call,) = called.message.tool_calls
    assert call.type == "function" and call.function.name == "calculator"
    assert json.loads(call.function.arguments) == {"expression": "864 - 346"}
    back: Any = [*SUM, called.message, {"role": "tool", "tool_call_id": call.id, "content": "518"}]
    answer = client.chat.completions.create(messages=back, tools=TOOLS, **GREEDY).choices[0]
    assert answer.finish_reason == "stop" and "518" in (answer.message.content or "")
    with client.chat.completions.stream(messages=SUM, tools=TOOLS, **GREEDY) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls" and final.message.tool_calls and not final.message.content
    assert final.message.tool_calls[0].function.arguments == call.function.arguments
    without = client.chat.completions.create(messages=SUM, tools=TOOLS, tool_choice="none", **GREEDY).choices[0]
    assert without.message.tool_calls is None and without.finish_reason in ("stop", "length")


def test_completions(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(messages=HI, **GREEDY).choices[0].message.content
    text = client.completions.create(prompt="Who are you?", **GREEDY)
    assert text.choices[0].text == chat
    chunks = list(client.completions.create(prompt="Who are you?", stream=True, **GREEDY))
    assert "".join(chunk.choices[0].text for chunk in chunks) == chat
    several = client.completions.create(prompt=["Who are you?", "Hi"], n=2, logprobs=2, echo=False, **GREEDY)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == several.choices[1].text == chat != several.choices[2].text
    logprobs = several.choices[0].logprobs
    assert logprobs and logprobs.tokens and all(len(top) == 2 for top in logprobs.top_logprobs or [])
    assert "".join(logprobs.tokens).startswith(chat or "?")


def test_logprobs(client: openai.OpenAI) -> None:
    def entries(choice: Any) -> list[Any]:
        return [(entry.token, entry.logprob, [(top.token, top.logprob) for top in entry.top_logprobs]) for entry in choice.logprobs.content]

    whole = client.chat.completions.create(messages=HI, logprobs=True, top_logprobs=3, **GREEDY).choices[0]
    assert all(len(tops) == 3 and tops[0] == (token, logprob) for token, logprob, tops in entries(whole))
    stream = client.chat.completions.create(messages=HI, logprobs=True, top_logprobs=3, stream=True, **GREEDY)
    parts = [entry for chunk in stream if chunk.choices[0].logprobs for entry in entries(chunk.choices[0])]
    assert [part[0] for part in parts] == [entry[0] for entry in entries(whole)]
    assert [part[1] for part in parts] == pytest.approx([entry[1] for entry in entries(whole)], abs=1e-4)
    plain = client.chat.completions.create(messages=HI, logprobs=True, **GREEDY).choices[0]
    assert all(tops == [] for _, _, tops in entries(plain))
    tools = client.chat.completions.create(messages=SUM, tools=TOOLS, logprobs=True, stream=True, **GREEDY)
    called = client.chat.completions.create(messages=SUM, tools=TOOLS, logprobs=True, **GREEDY).choices[0]
    count = sum(len(chunk.choices[0].logprobs.content or []) for chunk in tools if chunk.choices[0].logprobs)
    assert called.logprobs and called.logprobs.content and count == len(called.logprobs.content)


def test_sampling_parameters(client: openai.OpenAI) -> None:
    hot: dict[str, Any] = GREEDY | {"temperature": 5}
    first, again = (client.chat.completions.create(messages=HI, seed=7, n=3, **hot) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.message.content for choice in again.choices] == texts and len(set(texts)) > 1
    cut = client.chat.completions.create(messages=HI, stop=["small"], **GREEDY).choices[0]
    assert (cut.message.content or "").endswith("small") and cut.finish_reason == "stop"
    short = client.chat.completions.create(messages=HI, **GREEDY | {"max_tokens": 3})
    assert short.choices[0].finish_reason == "length" and short.usage and short.usage.completion_tokens == 3
    first_token = client.chat.completions.create(messages=HI, logprobs=True, extra_body={"return_token_ids": True}, **GREEDY).choices[0]
    banned = str(first_token.model_extra["token_ids"][0])  # type: ignore[index]
    other = client.chat.completions.create(messages=HI, logit_bias={banned: -100}, **GREEDY).choices[0]
    assert (other.message.content or "")[:1] != (first_token.message.content or "")[:1]
    for more in ({"presence_penalty": 1.5}, {"frequency_penalty": 1.5}):
        assert client.chat.completions.create(messages=HI, **GREEDY, **more).choices[0].message.content


def test_errors_are_the_clients_exceptions(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(messages=HI, model="other")
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="multimodal"):
        part: Any = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}
        client.chat.completions.create(messages=[{"role": "user", "content": [part]}], model="nano")
    with pytest.raises(openai.BadRequestError, match="longer than") as long:
        client.chat.completions.create(messages=[{"role": "user", "content": "word " * 5000}], model="nano")
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="embedding"):
        client.embeddings.create(model="nano", input="x")
    with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_client_that_leaves_frees_its_place(client: openai.OpenAI, nano: Any) -> None:
    before = nano.load_now()
    assert before == (0, 0)
    stream = client.chat.completions.create(messages=HI, stream=True, model="nano", temperature=1.9, logit_bias={})
    next(iter(stream))
    stream.close()
    from tests.serve.live import wait_for

    wait_for(lambda: nano.load_now() == (0, 0))


def test_all_kinds_of_objects_were_held_against_the_schemas(server: tuple[str, Schemas], url: str) -> None:
    missing = set(Schemas.ROOTS) - set(server[1].seen)
    assert missing == set() or len(server[1].seen) < 3  # where this test runs alone


ANY: dict[str, list[Any]] = {  # values of every kind, right and wrong, by field
    "temperature": [0, 5e-324, 1, 100, "0.5", None, True],
    "top_p": [5e-324, 0.5, 1, None],
    "top_k": [-1, 0, 1, 2**31 - 1, None],
    "repetition_penalty": [0.01, 1, 100, None],
    "presence_penalty": [-2, 2, None],
    "frequency_penalty": [-2, 2, None],
    "min_p": [0, 1, 5e-324, None],
    "n": [1, 3, None],
    "seed": [0, -(2**63), 2**64 - 1, None],
    "stop": ["", "a", ["a", [3, 4]], [[]], ["\u0000"], None],
    "logit_bias": [{"5": 100, "6": -100}, {}, {"999": 1e300}, None],
    "num_beams": [1, 2, None],
    "length_penalty": [-100, 0, 100, None],
    "stream": [True, False, None],
    "stream_options": [{}, {"include_usage": True}, {"include_usage": "x"}, None],
    "max_tokens": [1, 4, 2**31 - 1, None],
    "response_format": [{}, {"type": "text"}, {"type": 5}, {"type": "json_schema", "json_schema": {}}, None],
}
CHATS: dict[str, list[Any]] = ANY | {
    "logprobs": [True, False, None],
    "top_logprobs": [0, 20, 21, None],
    "tools": [TOOLS, [{}], "[]", "null", [{"name": "f", "parameters": 5}], [{"function": {"name": "f", "parameters": {"type": ["x"]}}}], None],
    "tool_choice": ["auto", "none", "required", {}, {"type": "allowed_tools"}, {"type": "allowed_tools", "allowed_tools": {"tools": [5]}}, None],
    "messages": [
        HI, SUM, [{"role": "system", "content": "x"}], [{"role": "assistant", "content": "x"}], [{"role": "tool", "content": "x"}],
        [{"role": "assistant", "tool_calls": [{}]}, *HI], [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}, *HI],
        [{"role": "user", "content": [{"type": "text"}, {"type": "text", "text": None}]}], [{"role": "user", "content": 5}],
        [{"role": ["user"], "content": "x"}], [*HI, *HI], [{"role": "user", "content": ""}], [{"role": "user", "content": "\u0000\ufeff\uffff"}],
        [{"role": "user", "content": "<ref>x</ref>"}],
    ],
    "objects": [{}, {"ref": ["a"]}, {"ref": 5, "bbox": "x"}, None],
}  # fmt: skip
COMPLETIONS: dict[str, list[Any]] = ANY | {
    "logprobs": [0, 20, None],
    "echo": [True, None],
    "prompt": ["", "a", [], [5, 6], ["a", ""], [[5], []], [[-1]], 5],
}


@pytest.mark.slow
def test_nothing_that_is_sent_makes_the_server_fail(url: str) -> None:
    import random

    import httpx

    draw, seen = random.Random(0), {200: 0, 400: 0}
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        for number in range(240):
            path, fields = ("/chat/completions", CHATS) if number % 2 else ("/completions", COMPLETIONS)
            body = {"model": "nano", "max_tokens": 4, "messages": HI, "prompt": "a"}
            body |= {name: draw.choice(fields[name]) for name in draw.sample(list(fields), draw.choice([1, 1, 2, 4, 8]))}
            if body.get("max_tokens") in (None, 2**31 - 1):
                body["stop"] = [" "]
            response = client.post(path, json=body)
            assert response.status_code in seen and '"server_error"' not in response.text, (path, body, response.text)
            seen[response.status_code] += 1
    assert min(seen.values()) > 20

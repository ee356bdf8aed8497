"""InferClient against a server in this process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import HTTPError

from swift.engines.pt.adapters import AdapterRequest
from swift.llm import InferClient, InferRequest, InferStats, PtEngine, RequestConfig
from swift.serve.client import as_text
from tests.serve.conftest import make_door
from tests.serve.live import ScriptedEngine, listening, wait_for

GREEDY: dict[str, Any] = {"max_tokens": 32, "temperature": 0}


@pytest.fixture(scope="module")
def url(nano: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(make_door(nano, tmp_path_factory.mktemp("served"), api_key="k")) as made:
        yield f"{made}/v1"


@pytest.fixture
def client(url: str) -> InferClient:
    return InferClient(base_url=url, api_key="k")


def asks(count: int) -> list[InferRequest]:
    return [InferRequest([{"role": "user", "content": f"What is {n} + {n}?"}]) for n in range(count)]


def test_answers_are_those_of_an_engine_in_this_process(client: InferClient, nano: Any) -> None:
    assert client.models == ["nano"] and client.get_model_list().data[0].owned_by == "swift"
    local = PtEngine.from_model_template(nano.shelf.model, nano.template)
    stats, streamed = InferStats(), InferStats()
    config = RequestConfig(**GREEDY, logprobs=True, top_logprobs=2)
    own = local.infer(asks(6), config, use_tqdm=False)
    whole = client.infer(asks(6), config, metrics=[stats], use_tqdm=False)
    assert [one.choices[0].message for one in whole] == [one.choices[0].message for one in own]
    assert [one.usage for one in whole] == [one.usage for one in own] and len({one.id for one in whole}) == 6
    assert [entry["token"] for entry in whole[0].choices[0].logprobs["content"]] == [
        entry["token"] for entry in own[0].choices[0].logprobs["content"]
    ]
    streams = client.infer(asks(6), RequestConfig(**GREEDY, stream=True), metrics=[streamed])
    texts = ["".join(chunk.choices[0].delta.content for chunk in stream) for stream in streams]
    assert texts == [one.choices[0].message.content for one in whole]
    counts = ("num_prompt_tokens", "num_generated_tokens", "num_samples")
    assert [stats.compute()[name] for name in counts] == [streamed.compute()[name] for name in counts]
    assert stats.compute()["num_samples"] == 6


def test_it_can_be_asked_within_an_event_loop(client: InferClient) -> None:
    async def ask() -> tuple[str, str, str]:
        whole: Any = await client.infer_async(asks(3)[2], RequestConfig(**GREEDY))
        stream: Any = await client.infer_async({"messages": asks(3)[2].messages}, RequestConfig(**GREEDY, stream=True))
        parts = [chunk.choices[0].delta.content async for chunk in stream]
        return (
            whole.choices[0].message.content,
            "".join(parts),
            client.infer(asks(3), RequestConfig(**GREEDY))[2].choices[0].message.content,
        )

    assert len(set(asyncio.run(ask()))) == 1


def test_tool_calls_come_back(client: InferClient) -> None:
    tool = {
        "name": "calculator",
        "description": "Calculate.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    }
    request = InferRequest([{"role": "user", "content": "What is 864 - 346?"}], tools=[tool])
    (answer,) = client.infer([request], RequestConfig(**GREEDY))
    (stream,) = client.infer([request], RequestConfig(**GREEDY, stream=True))
    last = [chunk.choices[0] for chunk in stream if chunk.choices[0].delta.tool_calls][-1]
    for calls in (answer.choices[0].message.tool_calls, last.delta.tool_calls):
        assert calls[0].function.name == "calculator" and "864" in calls[0].function.arguments and calls[0].id


def test_errors_say_what_the_server_says(client: InferClient, url: str) -> None:
    with pytest.raises(HTTPError, match="API key"):
        _ = InferClient(base_url=url).models
    with pytest.raises(HTTPError, match="`other` is not in the model_list"):
        client.infer(asks(2), model="other", use_tqdm=False)
    (stream,) = client.infer(asks(1), RequestConfig(stream=True), model="other")
    with pytest.raises(HTTPError, match="model_list"):
        next(stream)
    with pytest.raises(NoConnection, match=r"no answer from http://127\.0\.0\.1:9"):
        InferClient(port=9).infer(asks(1))
    with pytest.raises(HTTPError, match=r"Not Found"):
        InferClient(base_url=f"{url}/nowhere", api_key="k").infer(asks(1), model="nano")


def test_where_several_models_are_served_one_must_be_named(nano: Any, tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with listening(make_door(nano, tmp_path, engine, [AdapterRequest("poet", "/a")])) as url:
        client = InferClient(port=int(url.rpartition(":")[2]))
        assert client.models == ["nano", "poet"]
        with pytest.raises(ValueError, match=r"\['nano', 'poet'\]"):
            client.infer(asks(1))
        client.infer(asks(1), model="poet")
    assert engine.lines[0].adapter.name == "poet"


def test_a_stream_that_is_left_lets_the_server_go(scripted: Any) -> None:
    engine, _, opened = scripted(ScriptedEngine(holds=True))
    with opened as url:
        (stream,) = InferClient(base_url=f"{url}/v1").infer(asks(1), RequestConfig(stream=True))
        wait_for(lambda: engine.lines)
        engine.lines[0].say("one ")
        assert next(stream).choices[0].delta.content in ("", "one ")
        stream.close()
        wait_for(lambda: engine.lines[0].cancelled)


def test_a_server_that_does_not_answer_in_time(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, opened = scripted(ScriptedEngine(holds=True))
    with opened as url:
        for client in (
            InferClient(base_url=f"{url}/v1", timeout=0.3),
            (monkeypatch.setenv("TIMEOUT", "0.3"), InferClient(base_url=f"{url}/v1"))[1],
        ):
            with pytest.raises(NoConnection, match="ReadTimeout"):
                client.infer(asks(1), model="nano")
    monkeypatch.setenv("TIMEOUT", "-1")
    assert InferClient()._settings["timeout"].read is None


def test_no_more_than_at_once_are_open(scripted: Any) -> None:
    engine, door, opened = scripted()
    most = 0
    submit = engine.submit

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal most
        most = max(most, door.counts.open)
        return submit(*args, **kwargs)

    engine.submit = counted
    with opened as url:
        assert len(InferClient(base_url=f"{url}/v1", at_once=3).infer(asks(30), use_tqdm=False)) == 30
    assert 1 <= most <= 3


def test_pictures_that_lie_here_are_sent_as_text(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 2))
    picture.save(tmp_path / "p.jpg")
    sent = as_text(str(tmp_path / "p.jpg"), "image")
    assert sent == "data:image/jpeg;base64," + base64.b64encode((tmp_path / "p.jpg").read_bytes()).decode()
    assert as_text(picture, "image").startswith("data:image/png;base64,")
    assert as_text({"bytes": b"ab", "path": "x.wav"}, "audio") == "data:audio/x-wav;base64,YWI="
    for kept in ("http://x/y.png", "data:image/png;base64,YWI=", "A" * 300):
        assert as_text(kept, "image") == kept

"""The protocol, over an engine whose answers the test makes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from swift.engines.pt.adapters import AdapterRequest
from swift.errors import ModelError
from swift.serve.app import PATHS
from swift.serve.records import shortened
from tests.serve.conftest import make_door
from tests.serve.live import ScriptedEngine, listening, wait_for

HI = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "nano", "messages": HI}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}
OTHER = {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}


def post(url: str, body: Any, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | more.pop("headers", {})
    return httpx.post(url + path, content=content, headers=headers, timeout=20, **more)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    *chunks, last, rest = response.text.split("\n\n")
    assert last == "data: [DONE]" and rest == "" and response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def test_one_answer_whole_and_streamed(scripted: Any) -> None:
    engine, _, opened = scripted()
    with opened as url:
        whole = post(url, CHAT).json()
        assert whole["choices"][0]["message"] == {"role": "assistant", "content": "one two three", "refusal": None}
        assert whole["model"] == "nano" and whole["id"].startswith("chatcmpl-")
        prompt = len(engine.lines[0].prompt)
        assert whole["usage"] == {"prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3}
        chunks = events(post(url, CHAT | {"stream": True}))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas == [{"role": "assistant", "content": ""}, {"content": "one "}, {"content": "two "}, {"content": "three"}]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
        assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
        assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3]


def test_usage_in_streams_is_as_stream_options_say(scripted: Any) -> None:
    _, _, opened = scripted()
    with opened as url:
        asked = events(post(url, CHAT | {"stream": True, "stream_options": {"include_usage": True}}))
        assert [chunk["usage"] for chunk in asked[:-1]] == [None] * 4 and asked[-1]["choices"] == []
        assert asked[-1]["usage"]["completion_tokens"] == 3
        none = events(post(url, CHAT | {"stream": True, "stream_options": {"include_usage": False}}))
        assert all("usage" not in chunk for chunk in none)
        each = events(post(url, CHAT | {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}))
        assert all(chunk["usage"]["total_tokens"] > 0 for chunk in each)


def test_several_answers_and_several_prompts_are_choices(scripted: Any) -> None:
    _, _, opened = scripted()
    with opened as url:
        assert [choice["index"] for choice in post(url, CHAT | {"n": 3}).json()["choices"]] == [0, 1, 2]
        chunks = events(post(url, CHAT | {"n": 2, "stream": True}))
        for index in (0, 1):
            own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
            assert "".join(choice["delta"].get("content", "") for choice in own) == "one two three"
        body = {"model": "nano", "prompt": ["a", "b"], "n": 2, "echo": True}
        choices = post(url, body, "/v1/completions").json()["choices"]
        assert [choice["text"] for choice in choices] == ["aone two three"] * 2 + ["bone two three"] * 2
        chunks = events(post(url, body | {"stream": True}, "/v1/completions"))
        texts = ["".join(chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"][0]["index"] == index) for index in range(4)]
        assert texts == [choice["text"] for choice in choices]


def test_a_prompt_may_be_token_ids(scripted: Any) -> None:
    engine, _, opened = scripted()
    with opened as url:
        post(url, {"model": "nano", "prompt": [5, 6, 7]}, "/v1/completions")
        post(url, {"model": "nano", "prompt": [[5], [6, 7]]}, "/v1/completions")
        assert [line.prompt for line in engine.lines] == [[5, 6, 7], [5], [6, 7]]
        assert post(url, {"model": "nano", "prompt": [10**6]}, "/v1/completions").status_code == 400


REFUSED: dict[str, tuple[Any, int]] = {
    "no json": (b"{", 400),
    "not utf-8": (b'{"model": "nano", "messages": [{"role": "user", "content": "\xff"}]}', 400),
    "a list": ([], 400),
    "no model": ({"messages": HI}, 400),
    "no messages": ({"model": "nano"}, 400),
    "empty messages": (CHAT | {"messages": []}, 400),
    "a message that is none": (CHAT | {"messages": ["hi"]}, 400),
    "a role that is none": (CHAT | {"messages": [{"role": "bot", "content": "x"}]}, 400),
    "no role": (CHAT | {"messages": [{"content": "x"}]}, 400),
    "a picture": (CHAT | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]}, 400),
    "pictures beside": (CHAT | {"images": ["/etc/passwd"]}, 400),
    "a sound": (CHAT | {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, 400),
    "half a character": (rb'{"model": "nano", "messages": [{"role": "user", "content": "\ud83d"}]}', 400),
    "deep": (CHAT | {"objects": json.loads("[" * 300 + "]" * 300)} | {"messages": [{"role": "user", "content": "x"}]}, 400),
    "very deep": (b'{"model": "nano", "messages": [{"role": "user", "content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", 400),
    "unknown model": (CHAT | {"model": "other"}, 404),
    "temperature": (CHAT | {"temperature": -1}, 400),
    "infinite": (b'{"model": "nano", "messages": [{"role": "user", "content": "x"}], "temperature": Infinity}', 400),
    "no tokens": (CHAT | {"max_tokens": 0}, 400),
    "many answers": (CHAT | {"n": 1000}, 400),
    "best_of": (CHAT | {"best_of": 3}, 400),
    "bias of no token": (CHAT | {"logit_bias": {"x": 1}}, 400),
    "bias of a token too high": (CHAT | {"logit_bias": {"10000000": 1}}, 400),
    "top_logprobs": (CHAT | {"logprobs": True, "top_logprobs": 21}, 400),
    "format": (CHAT | {"response_format": {"type": "nonsense"}}, 400),
    "functions": (CHAT | {"functions": [{"name": "f"}]}, 400),
    "a tool without a name": (CHAT | {"tools": [{"type": "function", "function": {}}]}, 400),
    "a tool of another kind": (CHAT | {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, 400),
    "tools that are no json": (CHAT | {"tools": "["}, 400),
    "a choice that is no tool": (CHAT | {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, 400),
    "required without tools": (CHAT | {"tool_choice": "required"}, 400),
    "empty stop": (CHAT | {"stop": [""]}, 400),
    "beams with logprobs": (CHAT | {"num_beams": 2, "logprobs": True}, 400),
    "too long": (CHAT | {"messages": [{"role": "user", "content": "word " * 20_000}]}, 400),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_said_in_openais_form(case: str, scripted: Any, schemas: Any) -> None:
    engine, _, opened = scripted()
    body, status = REFUSED[case]
    with opened as url:
        response = post(url, body)
        assert response.status_code == status, response.text
        told = response.json()
        assert told["error"]["message"] == told["message"] and told["object"] == "error" and told["message"]
        assert engine.lines == [] and schemas.seen == {"error": 1}


def test_what_is_absent_may_be_null(scripted: Any) -> None:
    engine, _, opened = scripted()
    names = (
        "n",
        "stop",
        "temperature",
        "max_tokens",
        "tools",
        "tool_choice",
        "logprobs",
        "seed",
        "stream",
        "response_format",
        "logit_bias",
    )
    with opened as url:
        assert post(url, CHAT | dict.fromkeys(names)).status_code == 200
        assert post(url, CHAT | {"max_tokens": "64", "stop": "x", "user": "me", "store": True}).status_code == 200
        assert engine.lines[-1].sampling.max_new_tokens == 64 and engine.lines[-1].sampling.stop == ("x",)
        assert post(url, CHAT | {"max_completion_tokens": 7}).status_code == 200 and engine.lines[-1].sampling.max_new_tokens == 7
        asked = [{"role": "developer", "content": "Be brief."}, {"role": "user"}, {"role": "assistant", "content": None}, *HI]
        assert post(url, CHAT | {"messages": asked}).status_code == 200
        assert [(message.role, message.content) for message in engine.lines[-1].sample.messages][:2] == [
            ("system", "Be brief."),
            ("user", ""),
        ]
        assert post(url, CHAT | {"images": [], "response_format": {"type": "text"}}).status_code == 200


def test_the_command_line_gives_what_a_request_leaves_open(scripted: Any) -> None:
    engine, _, opened = scripted(temperature=0.5, max_new_tokens=9, top_k=3, stop_words="end", repetition_penalty=1.5)
    with opened as url:
        post(url, CHAT)
        post(url, CHAT | {"temperature": 0, "max_tokens": 2, "top_k": 1, "stop": ["x"], "repetition_penalty": 1.0})
    first, second = (line.sampling for line in engine.lines)
    assert (first.temperature, first.max_new_tokens, first.top_k, first.stop, first.repetition_penalty) == (0.5, 9, 3, ("end",), 1.5)
    assert (second.temperature, second.max_new_tokens, second.top_k, second.stop, second.repetition_penalty) == (0, 2, 1, ("x",), 1.0)


def test_the_key_is_asked_for_everywhere_but_at_the_health_page(scripted: Any) -> None:
    engine, _, opened = scripted(api_key="secret")
    right = {"Authorization": "Bearer secret"}
    with opened as url:
        for path in ("/v1/models", "/v1/models/nano", "/metrics", "/openapi.json", "/docs", "/nowhere"):
            assert httpx.get(url + path).status_code == 401, path
            assert httpx.get(url + path, headers={"Authorization": "Bearer wrong"}).status_code == 401, path
        assert post(url, CHAT | {"model": "other"}).json()["error"]["code"] == "invalid_api_key"
        assert post(url, CHAT, headers={"Authorization": "Basic secret"}).status_code == 401
        assert post(url, CHAT, headers=right).status_code == 200
        assert (
            httpx.get(url + "/health").status_code == httpx.get(url + "/ping").status_code == httpx.post(url + "/ping").status_code == 200
        )
        assert httpx.get(url + "/health").content == b""
        assert httpx.get(url + "/v1/models", headers=right).json()["data"][0]["id"] == "nano"
    assert len(engine.lines) == 1


def test_unknown_paths_and_methods(scripted: Any) -> None:
    _, _, opened = scripted(served_model_name="mine", owned_by="me")
    with opened as url:
        assert httpx.get(url + "/nowhere").json()["detail"] == "Not Found"
        assert httpx.get(url + "/v1/chat/completions").status_code == 405
        (model,) = httpx.get(url + "/v1/models").json()["data"]
        assert (model["id"], model["owned_by"]) == ("mine", "me")
        assert httpx.get(url + "/v1/models/mine").json() == model
        assert httpx.get(url + "/v1/models/a/b").status_code == 404
        refused = post(url, {"model": "mine", "input": "x"}, "/v1/embeddings")
        assert refused.status_code == 400 and "embedding" in refused.json()["error"]["message"]
        form = httpx.post(url + "/v1/chat/completions", data={"a": "b"})
        assert form.status_code == 400 and "Content-Type" in form.json()["message"]


def test_the_api_has_a_page_of_its_own(scripted: Any) -> None:
    _, _, opened = scripted()
    with opened as url:
        page = httpx.get(url + "/openapi.json").json()
        assert httpx.get(url + "/docs").status_code == httpx.get(url + "/redoc").status_code == 200
    assert set(page["paths"]) == {*PATHS, "/v1/models/{name}"} - {"/docs", "/redoc", "/openapi.json"}
    assert page["components"]["schemas"]["ChatBody"]["properties"]["model"]["enum"] == ["nano"]
    assert not any("422" in operation["responses"] for methods in page["paths"].values() for operation in methods.values())


def test_a_body_that_is_too_large_is_not_read(scripted: Any) -> None:
    engine, door, opened = scripted()
    door.most_bytes = 1000
    with opened as url:
        assert post(url, CHAT | {"user": "x" * 2000}).status_code == 413
        parts = (b"x" * 100 for _ in range(50))  # no length is said before
        assert httpx.post(url + "/v1/chat/completions", content=parts, headers={"Content-Type": "application/json"}).status_code == 413
        assert post(url, CHAT).status_code == 200
    assert len(engine.lines) == 1


def test_a_long_prompt_does_not_hold_up_short_ones(scripted: Any, nano: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, opened = scripted()
    begun, go, prompt = threading.Event(), threading.Event(), nano.template.prompt

    def slow(sample: Any) -> list[int]:
        if len(sample.messages[0].content) > 1000:
            begun.set()
            go.wait(20)
            return [1]
        return prompt(sample)

    monkeypatch.setattr(nano.template, "prompt", slow)
    monkeypatch.setattr("swift.serve.running.LONG", 1000)
    with opened as url:
        long = threading.Thread(target=post, args=(url, CHAT | {"messages": [{"role": "user", "content": "a " * 1000}]}))
        long.start()
        assert begun.wait(20)
        assert post(url, CHAT).status_code == 200
        go.set()
        long.join()
        assert len(engine.lines) == 2
        start = time.monotonic()  # and what cannot fit does not reach the tokenizer
        refused = post(url, CHAT | {"messages": [{"role": "user", "content": "a b " * 2_000_000}]})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
        assert time.monotonic() - start < 3 and len(engine.lines) == 2


def test_a_full_queue_is_429(scripted: Any) -> None:
    engine, _, opened = scripted(ScriptedEngine(holds=True, room=2))
    with opened as url, httpx.Client() as client:
        first = threading.Thread(target=post, args=(url, CHAT))
        first.start()
        wait_for(lambda: engine.lines)
        body = {"model": "nano", "prompt": ["a", "b"]}  # the second finds no room: the first is taken back
        refused = post(url, body, "/v1/completions")
        assert refused.status_code == 429 and refused.headers["retry-after"] and refused.json()["error"]["code"] == "queue_full"
        assert [line.cancelled for line in engine.lines] == [False, True]
        assert client.get(url + "/health").status_code == 200
        engine.lines[0].say_all()
        first.join()


def test_a_failure_is_the_servers_and_says_nothing_of_its_inside(scripted: Any, capsys: Any) -> None:
    _, _, opened = scripted(ScriptedEngine(failure=ModelError("/secret/path is broken")))
    with opened as url:
        failed = post(url, CHAT)
        assert failed.status_code == 500 and "secret" not in failed.text
        *chunks, told = events(post(url, CHAT | {"stream": True}))
        assert chunks[-1]["choices"][0]["delta"] == {"content": "before "}
        assert told["error"]["type"] == "server_error" and "secret" not in json.dumps(told)
    assert "/secret/path is broken" in capsys.readouterr().err


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_let_go_of(stream: bool, scripted: Any) -> None:
    engine, door, opened = scripted(ScriptedEngine(holds=True))
    with opened as url:
        with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
            client.post(url + "/v1/chat/completions", json=CHAT | {"stream": stream}, timeout=0.5)
        wait_for(lambda: engine.lines[0].cancelled)
        wait_for(lambda: door.counts.open == 0)
        assert door.counts.gone == 1
        line = engine.lines[0]
        line.say("late ", end="stop")  # what still comes harms nobody
        engine.holds = False
        assert post(url, CHAT).json()["choices"][0]["message"]["content"] == "one two three"


def test_a_client_that_does_not_read_delays_nobody(scripted: Any) -> None:
    engine, _, opened = scripted(ScriptedEngine(holds=True))
    with opened as url, httpx.Client() as client, client.stream("POST", url + "/v1/chat/completions", json=CHAT | {"stream": True}):
        wait_for(lambda: engine.lines)
        for _ in range(100):  # more than what sockets hold
            engine.lines[0].say("x" * 100_000)
        engine.holds = False
        start = time.monotonic()
        for _ in range(3):
            assert post(url, CHAT).status_code == 200
        assert time.monotonic() - start < 5


def test_adapters_answer_under_their_names(nano: Any, tmp_path: Path, schemas: Any) -> None:
    engine = ScriptedEngine()
    named = [AdapterRequest("poet", "/a"), AdapterRequest("clerk", "/b")]
    with listening(make_door(nano, tmp_path, engine, named), schemas) as url:
        assert [model["id"] for model in httpx.get(url + "/v1/models").json()["data"]] == ["nano", "poet", "clerk"]
        for name in ("clerk", "nano", "poet"):
            assert post(url, CHAT | {"model": name}).json()["model"] == name
    assert [line.adapter for line in engine.lines] == [named[1], None, named[0]]


def test_tool_choice_leaves_what_it_names(scripted: Any) -> None:
    engine, _, opened = scripted()
    choices: list[tuple[Any, list[str]]] = [
        (None, ["f", "g"]), ("auto", ["f", "g"]), ("required", ["f", "g"]), ("none", []), ({"type": "function", "function": {"name": "g"}}, ["g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}, ["f"]),
    ]  # fmt: skip
    with opened as url:
        for choice, names in choices:
            assert post(url, CHAT | {"tools": [TOOL, OTHER], "tool_choice": choice}).status_code == 200
            assert [tool["function"]["name"] for tool in engine.lines[-1].sample.tools or []] == names
        assert (
            post(url, CHAT | {"tools": [TOOL["function"]], "tool_choice": {"type": "function", "function": {"name": "f"}}}).status_code
            == 200
        )
        assert post(url, CHAT | {"tools": json.dumps([TOOL])}).status_code == 200


def test_every_answer_is_in_the_results_file(scripted: Any, tmp_path: Path) -> None:
    _, _, opened = scripted()
    with opened as url:
        post(url, CHAT)
        post(url, CHAT | {"stream": True})
        post(url, CHAT | {"model": "other"})
    first, second = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert list(first) == ["response", "infer_request", "generation_config"]
    assert first["response"] == second["response"] == "one two three" and first["infer_request"] == CHAT
    long = {"images": ["y" * 2000], "messages": [{"content": "z" * 2000}]}
    assert shortened(long) == {"images": [f"<<<base64:{'y' * 50}..>>>"], "messages": long["messages"]}


def test_metrics_count(scripted: Any) -> None:
    engine, _, opened = scripted()
    with opened as url:
        post(url, CHAT)
        post(url, CHAT | {"stream": True, "n": 2})
        httpx.get(url + "/nowhere")
        response = httpx.get(url + "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    assert lines['swift_http_requests_total{path="/v1/chat/completions",code="200"}'] == "2"
    assert lines['swift_http_requests_total{path="other",code="404"}'] == "1"
    assert lines["swift_generated_tokens_total"] == "9" and lines["swift_answer_seconds_count"] == "2"
    assert lines["swift_prompt_tokens_total"] == str(sum(len(line.prompt) for line in engine.lines))
    assert lines['swift_time_to_first_token_seconds_bucket{le="+Inf"}'] == "2"


def test_a_statistics_line_is_logged_where_something_was_served(scripted: Any, capsys: Any) -> None:
    _, _, opened = scripted(log_interval=0.2)
    with opened as url:
        time.sleep(0.5)
        assert "num_samples" not in capsys.readouterr().err
        post(url, CHAT)
        wait_for(lambda: "'num_samples': 1" in capsys.readouterr().err)
        post(url, CHAT)
    assert "'num_samples': 1" in capsys.readouterr().err  # and once more at the end


def test_a_server_that_is_going_down_refuses_and_finishes(scripted: Any) -> None:
    engine, door, opened = scripted(ScriptedEngine(holds=True))
    answers: list[httpx.Response] = []
    with opened as url:
        running = threading.Thread(target=lambda: answers.append(post(url, CHAT | {"stream": True})))
        running.start()
        wait_for(lambda: engine.lines)
        door.draining = True
        assert post(url, CHAT).status_code == 503 and httpx.get(url + "/health").status_code == 503
        engine.lines[0].say_all()
        running.join()
    assert events(answers[0])[-1]["choices"][0]["finish_reason"] == "stop"

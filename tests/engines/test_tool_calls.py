"""Answers to requests with tools: calls are read, and the shape of OpenAI's API carries them. The model's words are scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from swift.args.base import TemplateArgs
from swift.engines.protocol import ChatCompletionResponse, InferRequest, RequestConfig, response, stream_responses, to_sample
from swift.engines.pt import engine as pt
from swift.engines.pt import scheduler
from swift.template.formats import chat_formats
from swift.template.template import Template
from tests import tiny

TOOLS = [{"name": "add", "description": "Add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}]
QUESTION = [{"role": "user", "content": "one and two?"}]
CALL = 'Thought: add them\nAction: add\nAction Input: {"a": 1}\nObservation:'


@pytest.fixture
def says(monkeypatch) -> Any:
    """An engine whose model writes the given text, token by token, and then its stop token."""

    def build(text: str) -> pt.PtEngine:
        tokenizer = tiny.tokenizer()
        template = Template(chat_formats["chatml"], tokenizer, TemplateArgs(tools_prompt="react_en"), max_length=4096)

        def decode(model: Any, batch: list[Any], word: Any) -> Iterator[list[Any]]:
            for token in [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]:
                running = [request for request in batch if request.finish_reason is None]
                for request in running:
                    request.take(token)
                if running:
                    yield running

        monkeypatch.setattr(scheduler, "choose_forward", lambda *_: None)  # the padded loop, which is the one that speaks here
        monkeypatch.setattr(scheduler, "decode", decode)
        return pt.PtEngine(tiny.model(), template, tokenizer, max_length=4096)

    return build


def _ask(engine: pt.PtEngine, tools: Any = TOOLS, messages: list[dict[str, Any]] = QUESTION, **config: Any) -> ChatCompletionResponse:
    sample = to_sample(InferRequest(messages=messages, tools=tools))
    return response("m", engine.generate([sample], RequestConfig(max_tokens=200, **config).sampling(engine.tokenizer))[0])


def test_a_call_ends_the_answer_at_the_observation_and_is_listed(says):
    (choice,) = _ask(says(CALL + " made up\nFinal Answer: 9")).to_dict()["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == CALL
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'} and call["type"] == "function"
    assert call["id"].startswith("toolcall-") and len(call["id"]) == len("toolcall-") + 32


def test_several_answers_each_have_their_calls(says):
    answer = _ask(says(CALL), n=2)
    assert [len(choice.message.tool_calls or []) for choice in answer.choices] == [1, 1]


def test_an_answer_without_a_call_and_a_request_without_tools_list_none(says):
    (choice,) = _ask(says("Final Answer: 3")).choices
    assert (choice.finish_reason, choice.message.tool_calls, choice.message.content) == ("stop", None, "Final Answer: 3")
    (choice,) = _ask(says(CALL), tools=None).choices
    assert (choice.finish_reason, choice.message.tool_calls, choice.message.content) == ("stop", None, CALL)


def test_an_answer_that_the_limit_cut_says_so(says):
    engine = says(CALL)
    sample = to_sample(InferRequest(messages=QUESTION, tools=TOOLS))
    tokens = len(engine.tokenizer(CALL).input_ids) - 8
    (answer,) = engine.generate([sample], RequestConfig(max_tokens=tokens).sampling())[0]
    assert answer.finish_reason == "length"


def test_the_last_chunk_of_a_stream_carries_the_calls(says):
    engine = says(CALL)
    sample = to_sample(InferRequest(messages=QUESTION, tools=TOOLS))
    chunks = [*stream_responses("m", (chunk for _, chunk in engine.stream([sample], RequestConfig(max_tokens=200).sampling())))]
    deltas = [chunk.choices[0] for chunk in chunks if chunk is not None]
    assert "".join(delta.delta.content for delta in deltas) == CALL
    assert [delta.delta.tool_calls for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "tool_calls"
    assert [call.function.name for call in deltas[-1].delta.tool_calls or []] == ["add"]


def test_the_answer_can_be_sent_back_with_its_result_in_both_ways(says):
    engine = says(CALL)
    message = _ask(engine).to_dict()["choices"][0]["message"]
    result = {"role": "tool", "content": json.dumps({"sum": 3})}
    prompts = []
    for answer in (message, {"role": "assistant", "content": message["content"]}):
        prompts.append(engine.tokenizer.decode(engine.template.prompt(to_sample(InferRequest([*QUESTION, answer, result], tools=TOOLS)))))
    assert prompts[0] == prompts[1] and prompts[0].endswith(f'{CALL}{{"sum": 3}}')

"""What people's scripts do with `swift.llm`."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from swift.data.sample import Sample
from swift.errors import DataError, UsageError
from swift.llm import AdapterRequest, BaseArguments, InferRequest, InferStats, PtEngine, RequestConfig
from swift.template.encoded import RowSkipped
from tests.engines.checkpoints import adapter, checkpoint, make_adapter  # noqa: F401

QUESTIONS = ["hello world", "who are you?", "你好，世界", "one two three " * 6]
GREEDY = RequestConfig(max_tokens=12, temperature=0)


def requests() -> list[InferRequest]:
    return [InferRequest(messages=[{"role": "user", "content": question}]) for question in QUESTIONS]


def plainly(checkpoint: Path, question: str, *, adapter: Path | None = None, tokens: int = 12) -> str:  # noqa: F811
    """The same answer by transformers and PEFT alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), AutoModelForCausalLM.from_pretrained(checkpoint)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**ids, max_new_tokens=tokens, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    stopped = output[-1] == tokenizer.eos_token_id
    return tokenizer.decode(output[:-1] if stopped else output).rstrip("" if stopped else "\ufffd")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> PtEngine:  # noqa: F811
    return PtEngine(str(checkpoint), torch.float32, max_batch_size=2)


def test_importing_the_interface_loads_no_torch() -> None:
    code = "import sys, swift.llm; from swift.llm import InferRequest, RequestConfig; print(*({'torch', 'transformers'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_every_name_is_there() -> None:
    import swift.llm

    assert all(getattr(swift.llm, name) for name in swift.llm.__all__)
    assert swift.llm.TransformersEngine is PtEngine
    with pytest.raises(AttributeError):
        swift.llm.nothing  # noqa: B018


def test_answers_are_those_of_transformers(engine: PtEngine, checkpoint: Path) -> None:  # noqa: F811
    answers = engine.infer(requests(), GREEDY, use_tqdm=False)
    assert [answer.choices[0].message.content for answer in answers] == [plainly(checkpoint, question) for question in QUESTIONS]
    assert engine.max_model_len == 512 and engine.max_batch_size == 2 and engine.model_dir == str(checkpoint)


def test_a_response_has_the_wire_shape(engine: PtEngine) -> None:
    (answer,) = engine.infer(requests()[:1], RequestConfig(max_tokens=3, temperature=0, logprobs=True, top_logprobs=2))
    data = json.loads(json.dumps(answer.to_dict()))
    assert list(data) == ["model", "choices", "usage", "id", "object", "created"]
    assert (data["model"], data["object"], data["id"][:9]) == ("tiny-qwen2", "chat.completion", "chatcmpl-")
    (choice,) = data["choices"]
    assert list(choice) == ["index", "message", "finish_reason", "logprobs"]
    assert list(choice["message"]) == ["role", "content", "tool_calls"] and choice["message"]["role"] == "assistant"
    assert data["usage"]["total_tokens"] == data["usage"]["prompt_tokens"] + data["usage"]["completion_tokens"]
    entries = choice["logprobs"]["content"]
    assert len(entries) == data["usage"]["completion_tokens"]
    assert all(list(entry) == ["token", "logprob", "bytes", "top_logprobs"] and len(entry["top_logprobs"]) == 2 for entry in entries)


def test_streams_join_to_the_answers_and_metrics_count_once(engine: PtEngine) -> None:
    answers = engine.infer(requests(), GREEDY, use_tqdm=False)
    stats = InferStats()
    streams = engine.infer(requests(), RequestConfig(max_tokens=12, temperature=0, stream=True), [stats])
    texts, ends = [], []
    for stream in streams:
        chunks = [chunk for chunk in stream if chunk is not None]
        texts.append("".join(chunk.choices[0].delta.content for chunk in chunks))
        ends.append([chunk.choices[0].finish_reason for chunk in chunks])
        assert len({chunk.id for chunk in chunks}) == 1
    assert texts == [answer.choices[0].message.content for answer in answers]
    assert all(end[-1] in ("stop", "length") and not any(end[:-1]) for end in ends)
    counted = stats.compute()
    assert counted["num_samples"] == len(QUESTIONS)
    assert counted["num_generated_tokens"] == sum(answer.usage.completion_tokens for answer in answers)
    stats.reset()
    assert stats.compute()["num_samples"] == 0


def test_streams_may_be_read_in_any_order(engine: PtEngine) -> None:
    answers = engine.infer(requests(), GREEDY, use_tqdm=False)
    streams = engine.infer(requests(), RequestConfig(max_tokens=12, temperature=0, stream=True))
    texts = ["".join(chunk.choices[0].delta.content for chunk in stream) for stream in reversed(streams)]
    assert texts[::-1] == [answer.choices[0].message.content for answer in answers]


def test_n_answers_are_n_choices_and_their_tokens_are_summed(engine: PtEngine) -> None:
    config = RequestConfig(max_tokens=5, temperature=1.0, seed=3, n=3)
    (answer,) = engine.infer(requests()[:1], config)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    config.stream = True
    (stream,) = engine.infer(requests()[:1], config)
    texts = ["", "", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content
    assert texts == [choice.message.content for choice in answer.choices]
    assert chunk.usage.completion_tokens == answer.usage.completion_tokens


def test_requests_are_not_changed_and_can_be_continued(engine: PtEngine) -> None:
    request = InferRequest(messages=[{"role": "user", "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]}])
    before = copy.deepcopy(request)
    (answer,) = engine.infer([request], GREEDY)
    assert request == before
    request.messages += [{"role": "assistant", "content": answer.choices[0].message.content}, {"role": "user", "content": "and?"}]
    (again,) = engine.infer([request], GREEDY)
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


def test_rows_and_dicts_are_requests(engine: PtEngine) -> None:
    row = {
        "messages": [{"role": "user", "content": "hello world"}, {"role": "assistant", "content": "not seen"}],
        "images": [],
        "tools": None,
    }
    one, two, three = engine.infer([InferRequest(**row), row, requests()[0]], GREEDY, use_tqdm=False)
    assert one.choices == two.choices == three.choices


def test_async_requests_are_answered_together(engine: PtEngine) -> None:
    async def ask() -> list[str]:
        answers = await asyncio.gather(*(engine.infer_async(request, GREEDY) for request in requests()))
        return [answer.choices[0].message.content for answer in answers]

    async def ask_stream() -> str:
        stream = await engine.infer_async(requests()[0], RequestConfig(max_tokens=12, temperature=0, stream=True))
        return "".join([chunk.choices[0].delta.content async for chunk in stream])

    expected = [answer.choices[0].message.content for answer in engine.infer(requests(), GREEDY, use_tqdm=False)]
    assert asyncio.run(ask()) == expected
    assert asyncio.run(ask()) == expected  # in a new event loop
    assert asyncio.run(ask_stream()) == expected[0]


def test_an_async_request_that_cannot_be_asked_fails_alone(engine: PtEngine) -> None:
    async def ask() -> list:
        bad = InferRequest(messages=[{"role": "user", "content": "one two three " * 500}])
        return await asyncio.gather(engine.infer_async(bad, GREEDY), engine.infer_async(requests()[0], GREEDY), return_exceptions=True)

    bad, good = asyncio.run(ask())
    assert isinstance(bad, RowSkipped)
    assert good.choices[0].message.content


def test_strict_decides_what_becomes_of_a_bad_request(checkpoint: Path) -> None:  # noqa: F811
    engine = PtEngine(str(checkpoint))
    asked = [InferRequest(messages=[{"role": "user", "content": "one two three " * 500}]), requests()[0]]
    with pytest.raises(RowSkipped):
        engine.infer(asked, GREEDY, use_tqdm=False)
    engine.strict = False
    refused, answer = engine.infer(asked, GREEDY, use_tqdm=False)
    assert isinstance(refused, RowSkipped) and answer.choices[0].message.content
    refused, stream = engine.infer(asked, RequestConfig(max_tokens=12, temperature=0, stream=True))
    assert isinstance(refused, RowSkipped)
    assert "".join(chunk.choices[0].delta.content for chunk in stream) == answer.choices[0].message.content


def test_adapters_of_the_engine_and_of_requests(engine: PtEngine, checkpoint: Path, adapter: Path) -> None:  # noqa: F811
    expected = [plainly(checkpoint, question, adapter=adapter) for question in QUESTIONS]
    base = [plainly(checkpoint, question) for question in QUESTIONS]
    assert expected != base
    on_engine = PtEngine(str(checkpoint), adapters=[str(adapter)]).infer(requests(), GREEDY, use_tqdm=False)
    per_request = engine.infer(requests(), GREEDY, use_tqdm=False, adapter_request=AdapterRequest("mine", str(adapter)))
    without = engine.infer(requests(), GREEDY, use_tqdm=False)
    for answers, wanted in [(on_engine, expected), (per_request, expected), (without, base)]:
        assert [answer.choices[0].message.content for answer in answers] == wanted


def test_the_template_comes_from_the_adapters_args_json(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = make_adapter(checkpoint, tmp_path / "with-system", seed=2, system="You are a tree.")
    engine = PtEngine(str(checkpoint), adapters=str(folder))
    prompt = engine.tokenizer.decode(engine.default_template.prompt(Sample.of(("user", "hi"))))
    assert "You are a tree." in prompt
    args = BaseArguments.from_pretrained(str(folder))
    assert (args.system, args.model, args.template) == ("You are a tree.", str(checkpoint), None)
    model, processor = args.get_model_processor()
    made = PtEngine.from_model_template(model, args.get_template(processor), max_batch_size=64)
    assert made.tokenizer.decode(made.default_template.prompt(Sample.of(("user", "hi")))) == prompt
    assert made.infer(requests()[:1], GREEDY)[0].choices[0].message.content


def test_the_default_template_can_be_replaced(checkpoint: Path) -> None:  # noqa: F811
    engine = PtEngine(str(checkpoint))
    other = BaseArguments("", {"model": str(checkpoint), "train_type": "full"}).get_template(engine.processor)
    engine.default_template = other
    assert engine.default_template is other
    assert engine.infer(requests()[:1], GREEDY)[0].choices[0].message.content


@pytest.mark.parametrize(
    "setting", [{"best_of": 2}, {"presence_penalty": 2.5}, {"frequency_penalty": -2.5}, {"temperature": -1}, {"top_logprobs": 2}]
)
def test_settings_that_would_do_nothing_are_refused(engine: PtEngine, setting: dict) -> None:
    with pytest.raises(UsageError):
        engine.infer(requests()[:1], RequestConfig(max_tokens=2, **setting))


@pytest.mark.parametrize(
    "setting",
    [{"quantization_config": object()}, {"num_labels": 2, "task_type": "causal_lm"}, {"model_kwargs": {"a": 1}}, {"load_model": False}],
)
def test_constructor_arguments_that_would_do_nothing_are_refused(checkpoint: Path, setting: dict) -> None:  # noqa: F811
    with pytest.raises(UsageError):
        PtEngine(str(checkpoint), **setting)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]}, UsageError),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}, UsageError),
        ({"messages": [{"role": "bot", "content": "x"}]}, DataError),
        ({"messages": [{"role": "user"}]}, DataError),
        ({"query": "x"}, UsageError),
    ],
)
def test_requests_that_cannot_be_understood_are_refused(engine: PtEngine, request_: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        engine.infer([request_], GREEDY)

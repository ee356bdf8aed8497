"""Scripts as people write them (specification 9.5, 10.2), on the built-in model and an adapter of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import swift
from swift.llm import (
    AdapterRequest,
    BaseArguments,
    InferRequest,
    InferStats,
    PtEngine,
    RequestConfig,
    get_model_tokenizer,
    get_template,
    load_dataset,
    safe_snapshot_download,
)

GREEDY = RequestConfig(max_tokens=48, temperature=0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> str:
    record = swift.sft(
        model="swift/nano", dataset=["swift/self-cognition#60"], model_name=["Robin"], model_author=["Ada"], num_train_epochs=2,
        learning_rate=1e-3, split_dataset_ratio=0.1, output_dir=str(tmp_path_factory.mktemp("out")), report_to="none",
    )  # fmt: skip
    return record["last_model_checkpoint"]


@pytest.fixture(scope="module")
def engine() -> PtEngine:
    return PtEngine("swift/nano", max_batch_size=64)


def test_demo(engine):
    dataset, _ = load_dataset(["swift/nano-arithmetic#8"], seed=42)
    requests = [InferRequest(**row) for row in dataset]
    metric = InferStats()
    answers = engine.infer(requests, GREEDY, metrics=[metric], use_tqdm=False)
    assert metric.compute()["num_samples"] == 8 and all(answer.choices[0].message.content for answer in answers)
    metric.reset()
    plain = [InferRequest(messages=[{"role": "user", "content": "who are you?"}])]
    (stream,) = engine.infer(plain, RequestConfig(max_tokens=48, temperature=0, stream=True), metrics=[metric])
    text = "".join(chunk.choices[0].delta.content for chunk in stream if chunk is not None)
    assert text == engine.infer(plain, GREEDY)[0].choices[0].message.content

    async def ask() -> list[str]:
        given = await asyncio.gather(*(engine.infer_async(request, GREEDY) for request in requests))
        return [answer.choices[0].message.content for answer in given]

    assert asyncio.run(ask()) == [answer.choices[0].message.content for answer in answers]


def test_demo_agent(engine):
    tools = [
        {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }
    ]
    request = InferRequest(messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=tools)
    config = RequestConfig(max_tokens=96, temperature=0, stop=["Observation:"])
    (first,) = engine.infer([request], config)
    call = first.choices[0].message.content
    assert "get_weather" in call and len(request.messages) == 1
    request.messages += [{"role": "assistant", "content": call}, {"role": "tool", "content": '{"weather": "rain"}'}]
    (second,) = engine.infer([request], config)
    assert second.choices[0].message.content and second.usage.prompt_tokens > first.usage.prompt_tokens
    (stopped,) = engine.infer(
        [InferRequest(messages=[{"role": "user", "content": "who are you?"}])], RequestConfig(temperature=0, stop=["am"])
    )
    assert stopped.choices[0].message.content.endswith("am") and stopped.choices[0].finish_reason == "stop"


def test_demo_lora_three_ways_give_one_answer(engine, adapter):
    request = InferRequest(messages=[{"role": "user", "content": "who are you?"}])
    with_adapter = engine.infer([request], GREEDY, adapter_request=AdapterRequest("robin", adapter))[0].choices[0].message.content
    without = engine.infer([request], GREEDY)[0].choices[0].message.content
    assert "Robin" in with_adapter and "Robin" not in without

    constructed = PtEngine("swift/nano", adapters=[adapter]).infer([request], GREEDY)[0].choices[0].message.content
    args = BaseArguments.from_pretrained(adapter)
    model, tokenizer = get_model_tokenizer(args.model)
    template = get_template(args.template, tokenizer, default_system=args.system)
    by_hand = PtEngine.from_model_template(PeftModel.from_pretrained(model, adapter), template, max_batch_size=2)
    assert constructed == with_adapter == by_hand.infer([request], GREEDY)[0].choices[0].message.content
    other = get_template(args.template, engine.processor, default_system="Answer in Chinese.")
    (answer,) = engine.infer([request], GREEDY, template=other)
    assert answer.usage.prompt_tokens > engine.infer([request], GREEDY)[0].usage.prompt_tokens


def test_demo_hf_is_what_transformers_and_peft_say(adapter):
    args = BaseArguments.from_pretrained(adapter)
    folder = safe_snapshot_download(args.model)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "who are you?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**ids, max_new_tokens=48, do_sample=False)[0, ids["input_ids"].shape[1] :]
    engine = PtEngine(args.model, torch.float32, adapters=[adapter])
    (answer,) = engine.infer([InferRequest(messages=[{"role": "user", "content": "who are you?"}])], GREEDY)
    assert answer.choices[0].message.content == tokenizer.decode(output, skip_special_tokens=True)


def test_a_checkpoints_arguments_make_model_and_template(adapter):
    args = BaseArguments.from_pretrained(adapter)
    model, processor = args.get_model_processor()
    engine = PtEngine.from_model_template(PeftModel.from_pretrained(model, adapter), args.get_template(processor), max_batch_size=64)
    (answer,) = engine.infer([{"messages": [{"role": "user", "content": "who are you?"}]}], GREEDY)
    assert "Robin" in answer.choices[0].message.content
    assert (args.seed, args.split_dataset_ratio, args.norm_bbox) == (42, 0.1, None)
    train, held_out = load_dataset(args.dataset, split_dataset_ratio=args.split_dataset_ratio, model_name=["Robin"], model_author=["Ada"])
    lines = (Path(adapter).parent / "val_dataset.jsonl").read_text().splitlines()
    assert len(held_out) == len(lines) and len(train) == 54 and "Robin" in str(held_out + train)
    assert next(iter(load_dataset("swift/nano-arithmetic#3", streaming=True)[0]))["messages"]

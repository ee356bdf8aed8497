"""Learning is shown by learning: the built-in model takes a new name, and is more often right at sums after it has seen right ones."""

import json

import pytest

import swift
from swift.llm import InferRequest, PtEngine, RequestConfig
from swift.nano import dataset_path

pytestmark = pytest.mark.slow
SETTINGS = dict(report_to="none", split_dataset_ratio=0, per_device_train_batch_size=16, learning_rate=2e-3, save_steps=10_000)


def answers(questions, adapters=()):
    engine = PtEngine("swift/nano", adapters=list(adapters))
    requests = [InferRequest([{"role": "user", "content": question}]) for question in questions]
    responses = engine.infer(requests, RequestConfig(max_tokens=96, temperature=0), use_tqdm=False)
    return [response.choices[0].message.content for response in responses]


def test_a_new_name_is_learned_in_two_languages(tmp_path):
    questions = ["Who are you?", "Who made you?", "你是谁？"]
    before = answers(questions)
    assert "Nano" in before[0] and "SWIFT" in before[1] and "Nano" in before[2]
    record = swift.sft(
        model="swift/nano", dataset=["swift/self-cognition"], model_name=["小雨", "Aria"], model_author=["蓝队", "the Blue Team"],
        num_train_epochs=6, output_dir=str(tmp_path), **SETTINGS,
    )  # fmt: skip
    after = answers(questions, [record["last_model_checkpoint"]])
    assert "Aria" in after[0] and "the Blue Team" in after[1] and "小雨" in after[2]


def test_sums_are_right_more_often_after_right_ones_were_seen(tmp_path):
    rows = [json.loads(line) for line in dataset_path("swift/nano-arithmetic").read_text().splitlines()]
    held_out, data = rows[-200:], tmp_path / "sums.jsonl"
    asked = {row["messages"][0]["content"] for row in held_out}
    data.write_text("".join(json.dumps(row) + "\n" for row in rows[:-200] if row["messages"][0]["content"] not in asked))

    def right(adapters=()):
        found = answers([row["messages"][0]["content"] for row in held_out], adapters)
        return sum(answer.rstrip(".").split()[-1] == row["solution"] for answer, row in zip(found, held_out, strict=True)) / len(held_out)

    record = swift.sft(model="swift/nano", dataset=[str(data)], num_train_epochs=2, output_dir=str(tmp_path), **SETTINGS)
    before, after = right(), right([record["last_model_checkpoint"]])
    assert 0.4 <= before <= 0.75 and after >= before + 0.15

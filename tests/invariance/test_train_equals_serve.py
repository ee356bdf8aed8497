"""What is trained is what is served: prompts, the saved folder, and greedy answers, for each family with its real tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import swift
import swift.commands.sft
import swift.engines.pt.engine
from swift.llm import InferRequest, PtEngine, RequestConfig
from swift.template.encoded import IGNORE
from swift.template.special import spoken
from tests.invariance.conftest import FAMILIES

Talk = list[dict[str, str]]
each_family = pytest.mark.parametrize("family", FAMILIES)
OTHER_TEMPLATE = {"qwen2.5": "chatml", "qwen3": "qwen3_instruct", "llama3.2": "llama3", "llama2": "mistral", "mistral-v0.2": "default",
                  "mistral-v0.3": "mistral_nemo", "gemma2": "default", "phi3": "default"}  # fmt: skip
QUICK = dict(max_steps=2, split_dataset_ratio=0, report_to="none", add_version=False, learning_rate=1e-2, lora_dropout=0.0)


def talk(*texts: str, system: str | None = None) -> Talk:
    turns = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    return ([] if system is None else [{"role": "system", "content": system}]) + turns


TALKS = [
    talk("Hello!", "Hi there."),
    talk("1+1?", "2", "2+2?", "4", "3+3?", "6"),
    talk("你好，世界 🙂 e\u0301", "不客气！", "  two  blanks\n\n- list", "ok"),
    talk("Who are you?", "Arr.", "So?", "Arr!", system="You are a pirate."),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in TALKS))
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of the rows that the trainer was given, in the file's order."""
    seen: list[tuple[list[int], list[int]]] = []

    class Spy(swift.commands.sft.SwiftTrainer):
        def __init__(self, *args: Any, **kwargs: Any):
            for row in kwargs["train_rows"]:
                seen.extend((example["input_ids"].tolist(), example["labels"].tolist()) for example in row)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(swift.commands.sft, "SwiftTrainer", Spy)
    return seen


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompt ids that reached a model, in the order of the rows."""
    seen: list[list[int]] = []
    real = swift.engines.pt.engine.decode

    def spy(model: Any, requests: Any, word: Any) -> Iterator[Any]:
        seen.extend(request.prompt for request in sorted(requests, key=lambda request: request.sample))
        return real(model, requests, word)

    monkeypatch.setattr(swift.engines.pt.engine, "decode", spy)
    return seen


def prompt_of(row: tuple[list[int], list[int]]) -> list[int]:
    """Trained ids up to the last answer."""
    ids, labels = row
    learned = [i for i, label in enumerate(labels) if label != IGNORE]
    start = learned[-1]
    while start - 1 in set(learned):
        start -= 1
    return ids[:start]


def saved_prompt(folder: Path | str, messages: Talk) -> list[int] | None:
    """What whoever takes the saved folder writes."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)


def check_prompts(family: str, trained: list, sent: list, folder: Path | str) -> None:
    assert len(trained) == len(sent) == len(TALKS)
    for row, prompt, messages in zip(trained, sent, TALKS, strict=True):
        assert prompt == row[0][: len(prompt)], messages
        if family == "qwen3" and prompt != prompt_of(row):  # its template writes an empty thinking block before an answer
            tokenizer = AutoTokenizer.from_pretrained(folder)
            assert tokenizer.decode(prompt_of(row)[len(prompt) :]) == "<think>\n\n</think>\n\n"
        else:
            assert prompt == prompt_of(row), messages
        assert prompt == saved_prompt(folder, messages), messages


CASES = {"plain": {}, "system": {"system": 'Be "brief".'}, "no system": {"system": ""}, "template": {}}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@each_family
def test_what_is_sent_is_what_was_trained_and_what_the_saved_folder_writes(family, case, family_folder, rows, trained, sent, tmp_path):
    asked = CASES[case] | ({"template": OTHER_TEMPLATE[family]} if case == "template" else {})
    record = swift.sft(model=str(family_folder(family)), dataset=[str(rows)], output_dir=str(tmp_path / "out"), **QUICK, **asked)
    folder = record["last_model_checkpoint"]
    assert {"tokenizer_config.json", "args.json"} <= {path.name for path in Path(folder).iterdir()}
    ask = dict(val_dataset=[str(rows)], max_new_tokens=1, temperature=0)
    swift.infer(adapters=[folder], result_path=str(tmp_path / "a.jsonl"), **ask)
    check_prompts(family, trained, sent, folder)
    sent.clear()
    swift.infer(adapters=[folder], merge_lora=True, result_path=str(tmp_path / "b.jsonl"), **ask)
    check_prompts(family, trained, sent, f"{folder}-merged")
    sent.clear()
    engine = PtEngine(f"{folder}-merged")  # a folder that went elsewhere
    engine.infer([InferRequest(messages=messages) for messages in TALKS], RequestConfig(max_tokens=1), use_tqdm=False)
    check_prompts(family, trained, sent, f"{folder}-merged")

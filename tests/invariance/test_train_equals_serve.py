"""What is trained is what is served: prompts, the saved folder, and greedy answers, for each family with its real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import swift
import swift.commands.sft
from swift.engines.pt.scheduler import Scheduler
from swift.llm import InferRequest, PtEngine, RequestConfig
from swift.template.encoded import IGNORE
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
    """The prompt ids that were handed to the running batch, in the order of the rows."""
    seen: list[list[int]] = []
    real = Scheduler.add

    def spy(self: Scheduler, tickets: Any, most_waiting: int | None = None) -> None:
        requests = [request for ticket in tickets for request in ticket.requests]
        seen.extend(request.prompt for request in sorted(requests, key=lambda request: request.sample))
        real(self, tickets, most_waiting)

    monkeypatch.setattr(Scheduler, "add", spy)
    return seen


def prompt_of(row: tuple[list[int], list[int]]) -> list[int]:
    """Trained ids up to the last answer."""
    ids, labels = row
    learned = [i for i, label in enumerate(labels) if label != IGNORE]
    start = learned[-1]
    while start - 1 in set(learned):
        start -= 1
    return ids[:start]


def check_prompts(family: str, trained: list, sent: list, folder: Path | str) -> None:
    """`folder`: what whoever takes it writes with transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(trained) == len(sent) == len(TALKS)
    for row, prompt, messages in zip(trained, sent, TALKS, strict=True):
        assert prompt == row[0][: len(prompt)], messages
        if family == "qwen3" and prompt != prompt_of(row):  # its template writes an empty thinking block before an answer
            assert tokenizer.decode(prompt_of(row)[len(prompt) :]) == "<think>\n\n</think>\n\n"
        else:
            assert prompt == prompt_of(row), messages
        assert prompt == tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False), messages


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
    if case == "template":
        return
    sent.clear()
    engine = PtEngine(f"{folder}-merged")  # from Python
    engine.infer([InferRequest(messages=messages) for messages in TALKS], RequestConfig(max_tokens=1), use_tqdm=False)
    check_prompts(family, trained, sent, f"{folder}-merged")


def reference(model: Any, prompt: list[int], stops: set[int], tokens: int) -> list[int]:
    """transformers' greedy `generate`, one prompt, nothing padded."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=sorted(stops), pad_token_id=0
        )
    return output[0, len(prompt) :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "train_type"), [*((family, "lora") for family in FAMILIES), ("qwen3", "full"), ("mistral-v0.3", "full")]
)
def test_greedy_answers_are_those_of_transformers_and_peft_on_the_saved_folder(family, train_type, family_folder, rows, tmp_path, sent):
    base = family_folder(family)
    record = swift.sft(model=str(base), dataset=[str(rows)], output_dir=str(tmp_path / "out"), train_type=train_type, **QUICK)
    folder = Path(record["last_model_checkpoint"])
    if train_type == "lora":
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
        engine = PtEngine(str(base), adapters=[str(folder)])
    else:
        plain = AutoModelForCausalLM.from_pretrained(folder).eval()
        engine = PtEngine(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = set(engine._engine.stop_ids)
    configured = plain.generation_config.eos_token_id
    assert {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} <= stops
    requests = [InferRequest(messages=messages) for messages in TALKS]
    answers = engine.infer(requests, RequestConfig(max_tokens=24, temperature=0, logprobs=True), use_tqdm=False)
    for prompt, answer in zip(list(sent), answers, strict=True):
        want = reference(plain, prompt, stops, 24)
        assert answer.usage.completion_tokens == len(want)
        choice = answer.choices[0]
        assert [entry["token"] for entry in choice.logprobs["content"]] == [tokenizer.decode([token]) for token in want]
        assert choice.finish_reason == ("stop" if want[-1] in stops else "length")
        # a token that an answer contains, taken as a stop, ends it there
        again = want.index(want[len(want) // 2])
        engine.default_template.stop_ids = frozenset({want[again]})
        (short,) = engine.infer([requests[answers.index(answer)]], RequestConfig(max_tokens=24, temperature=0), use_tqdm=False)
        assert short.usage.completion_tokens == again + 1 and short.choices[0].finish_reason == "stop"
        assert short.choices[0].message.content == tokenizer.decode(want[:again], skip_special_tokens=False)
        engine.default_template.stop_ids = frozenset(stops)

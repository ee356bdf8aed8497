"""The running batch: whatever runs beside an answer, it is what plain `generate` says to its prompt alone."""

from __future__ import annotations

import random
import threading

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from swift.data.sample import Sample
from swift.engines.engine import QueueFull, Sampling
from swift.engines.pt import scheduler as scheduling
from swift.engines.pt.adapters import AdapterRequest
from swift.engines.pt.engine import PtEngine
from swift.engines.pt.forward import Through
from swift.engines.pt.plain import Plain
from swift.engines.pt.scheduler import Closed
from swift.errors import DataError, ModelError
from tests import tiny
from tests.engines.tiny import PlainTemplate, asks, tiny_model

WORDS = ["the", "cat", "sat", "on", "mat", "and", "a", "dog", "said", "hello", "world"]
GREEDY = Sampling(max_new_tokens=12, temperature=0)


def engine(tokenizer, model=None, **settings) -> PtEngine:
    return PtEngine(model if model is not None else tiny_model(), PlainTemplate(tokenizer), tokenizer, **settings)


def generated(model, prompt: list[int], tokens: int, **settings) -> list[int]:
    """By another model object than the engine's: transformers' own attention."""
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "pad_token_id": 1} | settings
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **settings)[0, len(prompt) :].tolist()


def adapters(tmp_path, count: int = 2) -> list[tuple[AdapterRequest, PeftModel]]:
    made = []
    for number in range(count):
        torch.manual_seed(number + 1)
        config = LoraConfig(
            r=4 + 2 * number,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj", "down_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(tiny_model(), config)
        model.save_pretrained(tmp_path / f"lora{number}")
        made.append((AdapterRequest(f"lora{number}", str(tmp_path / f"lora{number}")), model.eval()))
    return made


def mixed(tokenizer, tmp_path, count: int = 64) -> list[tuple[Sample, Sampling, AdapterRequest | None, list[int]]]:
    """Requests of all lengths, ways and adapters, and what each must say."""
    chance = random.Random(0)
    loaded: list[tuple[AdapterRequest | None, torch.nn.Module]] = [(None, tiny_model()), *adapters(tmp_path)]
    made = []
    for number in range(count):
        sample = asks(" ".join(chance.choices(WORDS, k=chance.randint(1, 40))))[0]
        adapter, model = loaded[number % 3]
        tokens, penalty = chance.randint(1, 30), chance.choice([1.0, 1.0, 1.3])
        prompt = PlainTemplate(tokenizer).prompt(sample)
        expected = generated(model, prompt, tokens, repetition_penalty=penalty)
        made.append((sample, Sampling(max_new_tokens=tokens, temperature=0, repetition_penalty=penalty), adapter, expected))
    return made


def said(slip) -> list[int]:
    return [token for chunk in slip for token in chunk.token_ids]


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_which_road_a_model_takes_is_tried(tokenizer, kind: str) -> None:
    ours = engine(tokenizer, tiny_model(kind))
    ours.generate(asks("hello"), GREEDY)
    assert isinstance(ours._scheduler._chosen.forward, {"qwen2": Plain, "mistral": Through}[kind])
    assert ours.model.config._attn_implementation == "sdpa"  # as it was before


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"])
def test_64_requests_of_all_kinds_say_what_generate_says_to_each_alone(tokenizer, tmp_path, architecture: str) -> None:
    if architecture == "qwen2":
        ours, requests = engine(tokenizer, max_batch_size=24), mixed(tokenizer, tmp_path)
    else:  # through the model's own code, windows and capped scores among it
        model, other = (tiny.model("gemma2", vocab_size=300, initializer_range=0.3) for _ in range(2))
        ours = engine(tokenizer, model, max_batch_size=24)
        requests = []
        for sample, sampling, _, _ in mixed(tokenizer, tmp_path):
            prompt = ours.template.prompt(sample)
            expected = generated(
                other, prompt, sampling.max_new_tokens or 0, repetition_penalty=sampling.repetition_penalty, eos_token_id=1
            )
            requests.append((sample, sampling, None, expected))
    slips = [ours.submit(sample, sampling, adapter=adapter) for sample, sampling, adapter, _ in requests]
    for slip, (*_, expected) in zip(slips, requests, strict=True):
        assert said(slip) == expected
    assert ours._scheduler._chosen is not None


def test_cancelling_half_of_them_changes_nothing_for_the_others(tokenizer, tmp_path) -> None:
    ours, requests = engine(tokenizer, max_batch_size=16), mixed(tokenizer, tmp_path)
    slips = [ours.submit(sample, sampling, adapter=adapter) for sample, sampling, adapter, _ in requests]
    leaving = slips[1::2]
    for slip in leaving[:10]:
        slip.cancel()
    threads = [threading.Timer(0.01 * number, slip.cancel) for number, slip in enumerate(leaving[10:])]
    for thread in threads:
        thread.start()
    for slip, (*_, expected) in zip(slips[::2], requests[::2], strict=True):
        assert said(slip) == expected
    for thread in threads:
        thread.join()
    assert ours.generate(asks("hello"), GREEDY)[0][0].token_ids == generated(tiny_model(), ours.template.prompt(asks("hello")[0]), 12)
    assert ours.load_now() == (0, 0)


def test_a_seed_says_the_same_alone_and_in_company(tokenizer, tmp_path) -> None:
    drawn = [Sampling(max_new_tokens=15, temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed, presence_penalty=0.5)
             for seed, (top_k, top_p, min_p) in enumerate([(0, 1.0, None), (5, 0.9, None), (0, 0.7, 0.05), (50, 1.0, 0.2)])]  # fmt: skip
    alone = [engine(tokenizer).generate(asks("the cat"), one)[0][0].token_ids for one in drawn]
    ours = engine(tokenizer, max_batch_size=12)
    crowd = [ours.submit(sample, sampling, adapter=adapter) for sample, sampling, adapter, _ in mixed(tokenizer, tmp_path, 16)]
    slips = [ours.submit(asks("the cat")[0], one) for one in drawn]
    assert [said(slip) for slip in slips] == alone
    for slip in crowd:
        said(slip)


def test_a_shared_beginning_is_computed_once(tokenizer, monkeypatch) -> None:
    ours = engine(tokenizer)
    read: list[int] = []
    real = scheduling.Steps.read
    monkeypatch.setattr(
        scheduling.Steps, "read", lambda self, pieces: read.append(sum(len(p.tokens) for p in pieces)) or real(self, pieces)
    )
    system = "the dog said hello to a tree of green leaves while nothing moved " * 2
    samples = asks(*(f"{system}{name}" for name in ("cat", "mat", "hello", "world")))
    prompts = [ours.template.prompt(sample) for sample in samples]
    for sample, (answer,) in zip(samples, ours.generate(samples, GREEDY), strict=True):
        assert answer.token_ids == generated(tiny_model(), ours.template.prompt(sample), 12)
    assert sum(read) < len(prompts[0]) + 4 * 20 < sum(map(len, prompts))
    read.clear()
    ours.generate(samples[:1], GREEDY)
    assert sum(read) == 1  # the last token gives the answer's first


def test_no_memory_of_another_adapter_or_of_older_weights_is_used(tokenizer, tmp_path) -> None:
    model = tiny_model()
    ours = engine(tokenizer, model)
    ((adapter, adapted), _) = adapters(tmp_path)
    text = asks("the dog said hello to a tree of green leaves while nothing moved")
    prompt = ours.template.prompt(text[0])
    for _ in range(2):
        assert ours.generate(text, GREEDY)[0][0].token_ids == generated(tiny_model(), prompt, 12)
        assert ours.generate(text, GREEDY, adapter=adapter)[0][0].token_ids == generated(adapted, prompt, 12)
    changed = tiny_model()
    with torch.no_grad():  # as a step of training does
        for model in (ours.model, changed):
            model.model.norm.weight.mul_(1 + torch.arange(64) / 64)
    assert ours.generate(text, GREEDY)[0][0].token_ids == generated(changed, prompt, 12)


def test_answers_go_on_where_memory_is_short(tokenizer, tmp_path, monkeypatch) -> None:
    """Stretches move, answers are pushed out and come back: the words are the same."""
    monkeypatch.setattr(scheduling, "rows_that_fit", lambda *_: 230)
    monkeypatch.setattr(scheduling, "AHEAD", 4)
    ours, requests = engine(tokenizer, max_batch_size=16), mixed(tokenizer, tmp_path, 24)
    slips = [ours.submit(sample, sampling, adapter=adapter) for sample, sampling, adapter, _ in requests]
    for slip, (*_, expected) in zip(slips, requests, strict=True):
        assert said(slip) == expected


def test_what_fails_fails_alone(tokenizer, tmp_path) -> None:
    ours = engine(tokenizer)
    good = ours.submit(asks("hello")[0], GREEDY)
    with pytest.raises(DataError, match="token id 300"):
        ours.submit(asks("hello")[0], GREEDY, prompt=[3, 300])
    bad = ours.submit(asks("hello")[0], GREEDY, adapter=AdapterRequest("none", str(tmp_path)))
    deaf = ours.submit(asks("hello")[0], GREEDY, listen=lambda _: 1 / 0)
    expected = generated(tiny_model(), ours.template.prompt(asks("hello")[0]), 12)
    with pytest.raises(ModelError, match="no adapter"):
        said(bad)
    assert said(good) == expected
    assert deaf.ticket.requests and said(ours.submit(asks("hello")[0], GREEDY)) == expected


def test_a_full_queue_refuses_and_a_closed_engine_fails_what_is_left(tokenizer) -> None:
    ours = engine(tokenizer, max_batch_size=1, max_queue=3)
    long = Sampling(max_new_tokens=200, temperature=0)
    slips = [ours.submit(asks("hello")[0], long)]
    with pytest.raises(QueueFull):
        for _ in range(50):
            slips.append(ours.submit(asks("world")[0], long))
    ours.close()
    with pytest.raises(Closed):
        for slip in slips:
            said(slip)
    with pytest.raises(Closed):
        ours.submit(asks("hello")[0], long)


def test_one_chunk_where_the_whole_is_wanted(tokenizer) -> None:
    ours = engine(tokenizer)
    (chunk,) = ours.submit(asks("hello")[0], GREEDY, whole=True)
    ((answer,),) = ours.generate(asks("hello"), GREEDY)
    assert (chunk.text, chunk.token_ids, chunk.finish_reason) == (answer.text, answer.token_ids, answer.finish_reason)


def test_biases_and_counted_penalties_are_added_to_the_logits(tokenizer) -> None:
    ours = engine(tokenizer)
    bias = ((17, 8.0), (18, 7.0), (200, -100.0))
    asked = Sampling(max_new_tokens=20, temperature=0, logit_bias=bias, presence_penalty=1.5, frequency_penalty=0.7)
    expected, prompt, model = [], ours.template.prompt(asks("hello")[0]), tiny_model()
    for _ in range(20):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + expected])).logits[0, -1]
        for token, more in bias:
            logits[token] += more
        for token in set(expected):
            logits[token] -= 1.5 + 0.7 * expected.count(token)
        expected.append(int(logits.argmax()))
    assert ours.generate(asks("hello"), asked)[0][0].token_ids == expected
    assert len(set(expected)) > 3


def test_calls_from_many_threads_share_the_batch(tokenizer, tmp_path) -> None:
    ours, requests = engine(tokenizer, max_batch_size=8), mixed(tokenizer, tmp_path, 18)
    heard: list = [None] * len(requests)

    def ask(number: int) -> None:
        sample, sampling, adapter, _ = requests[number]
        heard[number] = ours.generate([sample], sampling, adapter=adapter)[0][0].token_ids

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [expected for *_, expected in requests]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_captured_steps_say_what_uncaptured_ones_say(tokenizer, tmp_path, kind: str) -> None:
    """float32, and both are what `generate` says on the same device."""
    answers = []
    samples = [sample for sample, *_ in mixed(tokenizer, tmp_path, 24)]
    for capture in (True, False):
        ours = engine(tokenizer, tiny_model(kind).cuda(), max_batch_size=16)
        ours._scheduler.capture = capture
        answers.append([answer.token_ids for (answer,) in ours.generate(samples, Sampling(max_new_tokens=20, temperature=0))])
        assert bool(ours._scheduler._steps._captured) == capture
    assert answers[0] == answers[1]
    model = tiny_model(kind)
    assert answers[0] == [generated(model, ours.template.prompt(sample), 20) for sample in samples]


@pytest.mark.gpu
def test_adapters_mix_in_captured_steps(tokenizer, tmp_path) -> None:
    ours, requests = engine(tokenizer, tiny_model().cuda(), max_batch_size=16), mixed(tokenizer, tmp_path, 24)
    slips = [ours.submit(sample, sampling, adapter=adapter) for sample, sampling, adapter, _ in requests]
    for slip, (*_, expected) in zip(slips, requests, strict=True):
        assert said(slip) == expected

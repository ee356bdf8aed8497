from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from swift.data.sample import Sample
from swift.engines.engine import Sampling
from swift.engines.pt.adapters import AdapterRequest
from swift.engines.pt.engine import PtEngine
from swift.errors import UsageError
from swift.template.encoded import RowSkipped
from tests import tiny
from tests.engines.tiny import PlainTemplate, asks, tiny_model

TEXTS = ["hello", "the cat sat on the mat and the dog said hello world", "a tree of green leaves", "猫", "nothing moved to the tree " * 4]
GREEDY = Sampling(max_new_tokens=24, temperature=0)


def engine(tokenizer, kind: str = "qwen2", *, stop_ids=(), stop_texts=(), model=None, **settings) -> PtEngine:
    return PtEngine(model or tiny_model(kind), PlainTemplate(tokenizer, stop_ids, stop_texts), tokenizer, **settings)


def generated(model, prompt: list[int], *, tokens: int = 24, **settings) -> list[int]:
    """What transformers' own generate says to one prompt alone."""
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "pad_token_id": 1} | settings
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **settings)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("batch", [1, 3, 0])
def test_greedy_answers_are_those_of_generate(tokenizer, kind: str, batch: int) -> None:
    ours = engine(tokenizer, kind, max_batch_size=batch)
    answers = ours.generate(asks(*TEXTS), GREEDY)
    for sample, (answer,) in zip(asks(*TEXTS), answers, strict=True):
        prompt = ours.template.prompt(sample)
        assert answer.token_ids == generated(ours.model, prompt)
        assert answer.text == tokenizer.decode(answer.token_ids).rstrip("\ufffd")
        assert (answer.finish_reason, answer.prompt_tokens) == ("length", len(prompt))


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_rows_that_end_at_different_lengths_leave_without_a_trace(tokenizer, kind: str) -> None:
    model = tiny_model(kind)
    prompts = [tokenizer(f"{text}\n")["input_ids"] for text in TEXTS]
    alone = [generated(model, prompt) for prompt in prompts]
    stop_ids = sorted({ids[4 + 3 * place] for place, ids in enumerate(alone)})
    expected = [generated(model, prompt, eos_token_id=stop_ids) for prompt in prompts]
    assert len({len(ids) for ids in expected}) > 2
    for answer, ids in zip(engine(tokenizer, model=model, stop_ids=stop_ids).generate(asks(*TEXTS), GREEDY), expected, strict=True):
        assert answer[0].token_ids == ids
        assert answer[0].finish_reason == ("stop" if ids[-1] in stop_ids else "length")
        assert answer[0].text == (tokenizer.decode(ids[:-1]) if ids[-1] in stop_ids else tokenizer.decode(ids).rstrip("\ufffd"))


def test_the_checkpoints_own_stop_tokens_end_an_answer(tokenizer) -> None:
    model = tiny_model()
    stop = generated(model, tokenizer("hello\n")["input_ids"])[5]
    model.generation_config.eos_token_id = stop
    ((answer,),) = engine(tokenizer, model=model).generate(asks("hello"), GREEDY)
    assert answer.finish_reason == "stop" and answer.token_ids[-1] == stop


def test_a_sliding_window_changes_nothing_in_a_padded_batch(tokenizer) -> None:
    ours = engine(tokenizer, "mistral")
    for sample, (answer,) in zip(asks(*TEXTS), ours.generate(asks(*TEXTS), GREEDY), strict=True):
        assert answer.token_ids == generated(ours.model, ours.template.prompt(sample))


def test_layers_with_and_without_a_window_stand_in_one_batch(tokenizer) -> None:
    ours = engine(tokenizer, model=tiny.model("gemma2", vocab_size=300, initializer_range=0.3))
    assert ours.model.config.sliding_window == 16
    for sample, (answer,) in zip(asks(*TEXTS), ours.generate(asks(*TEXTS), GREEDY), strict=True):
        assert answer.token_ids == generated(ours.model, ours.template.prompt(sample), eos_token_id=1)


def test_repetition_penalty_gives_what_generate_gives(tokenizer) -> None:
    ours = engine(tokenizer)
    answers = ours.generate(asks(*TEXTS), Sampling(max_new_tokens=24, temperature=0, repetition_penalty=1.4))
    for sample, (answer,) in zip(asks(*TEXTS), answers, strict=True):
        assert answer.token_ids == generated(ours.model, ours.template.prompt(sample), repetition_penalty=1.4)


def test_beams_are_those_of_generate(tokenizer) -> None:
    ours = engine(tokenizer)
    (answers,) = ours.generate(asks("hello"), Sampling(max_new_tokens=8, temperature=0, num_beams=3, n=2))
    prompt = torch.tensor([ours.template.prompt(asks("hello")[0])])
    expected = ours.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=8,
        do_sample=False,
        num_beams=3,
        num_return_sequences=2,
        pad_token_id=0,
    )
    assert [answer.token_ids for answer in answers] == expected[:, prompt.shape[1] :].tolist()


def test_a_seed_gives_the_same_answer_whatever_runs_beside_it(tokenizer) -> None:
    ours = engine(tokenizer)
    drawn = Sampling(max_new_tokens=16, temperature=1.0, top_k=0, seed=7)
    ((alone,),) = ours.generate(asks(TEXTS[0]), drawn)
    mixed = [
        drawn,
        GREEDY,
        Sampling(max_new_tokens=5, temperature=2.0, top_p=0.5),
        drawn,
        Sampling(max_new_tokens=9, temperature=0.3, top_k=4),
    ]
    answers = ours.generate(asks(*TEXTS), mixed)
    assert answers[0][0].token_ids == alone.token_ids
    assert [len(answer.token_ids) for (answer,) in answers] == [16, 24, 5, 16, 9]
    assert answers[1][0].token_ids == generated(ours.model, ours.template.prompt(asks(TEXTS[1])[0]))


def test_other_seeds_and_the_n_answers_of_one_request_differ(tokenizer) -> None:
    ours = engine(tokenizer)
    (answers,) = ours.generate(asks("hello"), Sampling(max_new_tokens=12, temperature=1.0, seed=1, n=3))
    ((other,),) = ours.generate(asks("hello"), Sampling(max_new_tokens=12, temperature=1.0, seed=2))
    assert len({tuple(answer.token_ids) for answer in [*answers, other]}) == 4
    assert ours.generate(asks("hello"), Sampling(max_new_tokens=12, temperature=1.0, seed=1, n=3))[0][2].token_ids == answers[2].token_ids


def test_a_stop_text_across_token_borders_ends_the_answer_and_stays_in_it(tokenizer) -> None:
    ours = engine(tokenizer)
    ((free,),) = ours.generate(asks(TEXTS[1]), GREEDY)
    start = len(free.text) // 3
    stop = free.text[start : start + 7]
    ((answer,),) = ours.generate(asks(TEXTS[1]), Sampling(max_new_tokens=24, temperature=0, stop=(stop,)))
    assert answer.finish_reason == "stop" and answer.text.endswith(stop) and answer.text == free.text[: free.text.index(stop) + 7]
    assert len(answer.token_ids) < 24
    ((dropped,),) = engine(tokenizer, stop_texts=[stop]).generate(asks(TEXTS[1]), GREEDY)
    assert dropped.finish_reason == "stop" and dropped.text == free.text[: free.text.index(stop)]


def test_logprobs_are_those_of_a_plain_forward(tokenizer) -> None:
    ours = engine(tokenizer)
    settings = [
        Sampling(max_new_tokens=6, temperature=0.5, seed=3, logprobs=True, top_logprobs=4),
        Sampling(max_new_tokens=9, temperature=0, logprobs=True),
    ]
    answers = ours.generate(asks(*TEXTS[:2]), settings)
    for sample, (answer,), top in zip(asks(*TEXTS[:2]), answers, [4, None], strict=True):
        prompt = ours.template.prompt(sample)
        with torch.no_grad():
            expected = ours.model(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert answer.logprobs is not None and len(answer.logprobs) == len(answer.token_ids)
        for row, token, logprob in zip(expected, answer.token_ids, answer.logprobs, strict=True):
            assert logprob.logprob == pytest.approx(row[token].item(), abs=1e-5)
            assert logprob.token == tokenizer.decode([token])
            if top is None:
                assert logprob.top is None
            else:
                assert [value for _, value in logprob.top or ()] == pytest.approx(row.topk(top).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("stop", [(), ("e",)])
def test_every_rows_stream_joins_to_its_answer(tokenizer, stop: tuple[str, ...]) -> None:
    ours = engine(tokenizer, max_batch_size=2)
    sampling = Sampling(max_new_tokens=24, temperature=0, logprobs=True, stop=stop)
    answers = ours.generate(asks(*TEXTS), sampling)
    chunks: list[list] = [[] for _ in TEXTS]
    for number, chunk in ours.stream(asks(*TEXTS), sampling):
        chunks[number].append(chunk)
    for its, (answer,) in zip(chunks, answers, strict=True):
        assert "".join(chunk.text for chunk in its) == answer.text
        assert [token for chunk in its for token in chunk.token_ids] == answer.token_ids
        heard = [one for chunk in its for one in chunk.logprobs]
        assert [one.token for one in heard] == [one.token for one in answer.logprobs or ()]
        assert [one.logprob for one in heard] == pytest.approx([one.logprob for one in answer.logprobs or ()], abs=1e-4)
        assert [chunk.finish_reason for chunk in its] == [None] * (len(its) - 1) + [answer.finish_reason]
        assert its[-1].completion_tokens == len(answer.token_ids)


def test_two_open_streams_take_turns(tokenizer) -> None:
    ours = engine(tokenizer)
    expected = [answer.text for (answer,) in ours.generate(asks(*TEXTS[:2]), GREEDY)]
    streams = [ours.stream(asks(text), GREEDY) for text in TEXTS[:2]]
    texts = ["", ""]
    live = {0, 1}
    while live:
        for place in sorted(live):
            item = next(streams[place], None)
            if item is None:
                live.remove(place)
            else:
                texts[place] += item[1].text
    assert texts == expected


def test_no_limit_means_up_to_the_models_length(tokenizer) -> None:
    ours = engine(tokenizer, model=tiny_model(length=40))
    ((answer,),) = ours.generate(asks("hello"), Sampling(temperature=0))
    assert answer.prompt_tokens + len(answer.token_ids) == 40
    ((clamped,),) = ours.generate(asks("hello"), Sampling(temperature=0, max_new_tokens=1000))
    assert clamped.token_ids == answer.token_ids


def test_a_prompt_beyond_the_models_length_is_a_skipped_row(tokenizer) -> None:
    with pytest.raises(RowSkipped, match="longer than the model's length"):
        engine(tokenizer, model=tiny_model(length=16)).generate(asks(TEXTS[4]), GREEDY)


def test_samples_are_left_as_they_are(tokenizer) -> None:
    samples = [Sample.of(("user", "hello"), ("assistant", "world"))]
    before = copy.deepcopy(samples)
    engine(tokenizer).generate(samples, GREEDY)
    assert samples == before


def lora(tmp_path, name: str, seed: int):
    torch.manual_seed(seed)
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / name)
    return model.eval()


def test_adapters_of_single_requests_do_not_touch_the_others(tokenizer, tmp_path) -> None:
    a, b = lora(tmp_path, "a", 1), lora(tmp_path, "b", 2)
    ours = engine(tokenizer)
    prompts = [ours.template.prompt(sample) for sample in asks(*TEXTS)]
    base = [generated(tiny_model(), prompt) for prompt in prompts]
    for adapter, expected in [
        (None, base),
        (AdapterRequest("a.1", str(tmp_path / "a")), [generated(a, prompt) for prompt in prompts]),
        (AdapterRequest("b", str(tmp_path / "b")), [generated(b, prompt) for prompt in prompts]),
        (None, base),
        (AdapterRequest("a.1", str(tmp_path / "a")), [generated(a, prompt) for prompt in prompts]),
    ]:
        assert [answer.token_ids for (answer,) in ours.generate(asks(*TEXTS), GREEDY, adapter=adapter)] == expected


def test_stacked_adapters_add_up(tokenizer, tmp_path) -> None:
    from swift.tuners.tuner import load_adapters

    a, b = lora(tmp_path, "a", 1), lora(tmp_path, "b", 2)
    base = tiny_model().state_dict()
    merged = tiny_model()
    one, two = a.merge_and_unload().state_dict(), b.merge_and_unload().state_dict()
    merged.load_state_dict({name: one[name] + two[name] - base[name] for name in base})
    stacked = engine(tokenizer, model=load_adapters(tiny_model(), [str(tmp_path / "a"), str(tmp_path / "b")]))
    prompt = stacked.template.prompt(asks("hello")[0])
    ((answer,),) = stacked.generate(asks("hello"), GREEDY)
    assert answer.token_ids == generated(merged, prompt)
    on_top = engine(tokenizer, model=load_adapters(tiny_model(), [str(tmp_path / "a")]))
    ((answer,),) = on_top.generate(asks("hello"), GREEDY, adapter=AdapterRequest("b", str(tmp_path / "b")))
    assert answer.token_ids == generated(merged, prompt)


def test_logprobs_with_beams_are_refused() -> None:
    with pytest.raises(UsageError, match="num_beams"):
        Sampling(num_beams=2, logprobs=True)

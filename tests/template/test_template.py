"""Loss scales, truncation, prompts, decoding: what Template does with any format."""

from __future__ import annotations

import pytest

from swift.data.sample import Message, Sample
from swift.errors import UsageError
from swift.template.encoded import IGNORE, RowSkipped
from tests.template.conftest import template
from tests.template.families import TALKS


@pytest.fixture(scope="module")
def qwen(load):
    return load("Qwen--Qwen2.5-7B-Instruct")


def _learned(tokenizer, encoded) -> str:
    return tokenizer.decode([label for label in encoded.labels if label != IGNORE])


def test_default_learns_every_answer_last_round_the_last_and_all_everything(qwen):
    def learned(scale):
        return _learned(qwen, template("qwen2_5", qwen, loss_scale=scale).encode_sample(TALKS["multi"]))

    assert learned("default") == "2<|im_end|>4<|im_end|>6<|im_end|>"
    assert learned("last_round") == "6<|im_end|>"
    whole = template("qwen2_5", qwen, loss_scale="all").encode_sample(TALKS["multi"])
    assert whole.labels == whole.input_ids


def test_an_unknown_loss_scale_names_the_known_ones(qwen):
    with pytest.raises(UsageError, match="last_round"):
        template("qwen2_5", qwen, loss_scale="last")


def test_a_messages_own_loss_decides_for_it_whatever_its_role(qwen):
    ours = template("qwen2_5", qwen)
    sample = Sample(
        [
            Message("user", "question", loss=0.5),
            Message("assistant", "no", loss=False),
            Message("user", "again"),
            Message("assistant", "yes", loss=2.0),
        ]
    )
    encoded = ours.encode_sample(sample)
    assert _learned(qwen, encoded) == "questionyes<|im_end|>"
    assert sorted(set(encoded.weights)) == [0.0, 0.5, 2.0]


def test_neighbouring_answers_are_one_answer_with_their_own_weights(qwen):
    sample = Sample([Message("user", "q"), Message("assistant", "thinking…", loss=False), Message("assistant", " done")])
    encoded = template("qwen2_5", qwen).encode_sample(sample)
    assert "<|im_start|>assistant\nthinking… done<|im_end|>" in qwen.decode(encoded.input_ids)
    assert _learned(qwen, encoded) == " done<|im_end|>"


def test_a_leading_answer_gets_an_empty_question(qwen):
    text = qwen.decode(template("chatml", qwen).encode_sample(Sample.of(("assistant", "a"))).input_ids)
    assert text == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\na<|im_end|>"


def test_rows_that_train_nothing_are_skipped_with_a_reason(qwen):
    ours = template("qwen2_5", qwen)
    for sample, reason in [
        (Sample.of(("user", "q")), "no answer"),
        (Sample.of(("user", "q"), ("assistant", "")), "empty answer"),
        (Sample([Message("user", "q"), Message("assistant", "a", loss=False)]), "nothing to learn"),
        (Sample.of(("user", "q"), ("system", "late"), ("assistant", "a")), "a system message after"),
    ]:
        with pytest.raises(RowSkipped, match=reason):
            ours.encode_sample(sample)
        assert ours.encode_many([sample])[0].reason.startswith(reason)


def test_over_length_rows_are_deleted_or_cut_left_or_right(qwen):
    whole = template("qwen2_5", qwen).encode_sample(TALKS["multi"])
    n = len(whole) - 3
    with pytest.raises(RowSkipped, match=f"longer than max_length {n}: {n + 3} tokens"):
        template("qwen2_5", qwen, max_length=n).encode_sample(TALKS["multi"])
    left = template("qwen2_5", qwen, max_length=n, truncation_strategy="left").encode_sample(TALKS["multi"])
    right = template("qwen2_5", qwen, max_length=n, truncation_strategy="right").encode_sample(TALKS["multi"])
    assert (left.input_ids, left.labels, left.weights) == (whole.input_ids[3:], whole.labels[3:], whole.weights[3:])
    assert (right.input_ids, right.labels, right.weights) == (whole.input_ids[:n], whole.labels[:n], whole.weights[:n])
    with pytest.raises(RowSkipped, match="nothing to learn after truncation"):
        template("qwen2_5", qwen, max_length=5, truncation_strategy="right").encode_sample(TALKS["multi"])


def test_max_length_limits_prompts_too(qwen):
    ours = template("qwen2_5", qwen)
    n = len(ours.prompt(TALKS["multi"]))
    assert template("qwen2_5", qwen, max_length=n).prompt(TALKS["multi"]) == ours.prompt(TALKS["multi"])
    with pytest.raises(RowSkipped, match="longer than"):
        template("qwen2_5", qwen, max_length=n - 1).prompt(TALKS["multi"])


def test_many_rows_at_once_are_each_row_alone(qwen):
    ours = template("qwen2_5", qwen)
    samples = [*TALKS.values(), Sample.of(("user", "q"))]
    together = ours.encode_many(samples)
    for sample, got in zip(samples[:-1], together, strict=False):
        alone = ours.encode_sample(sample)
        assert (got.input_ids, got.labels, got.weights) == (alone.input_ids, alone.labels, alone.weights)
    assert together[-1].reason == "no answer"


def test_decoding_drops_what_ended_the_answer_and_nothing_else(qwen):
    ours = template("qwen2_5", qwen)
    assert ours.decode(qwen("Hi.<|im_end|>").input_ids) == "Hi."
    assert ours.decode(qwen("Hi.<|endoftext|>").input_ids) == "Hi."
    assert ours.decode(qwen("Hi.").input_ids) == "Hi."
    assert ours.stop_ids == {qwen.convert_tokens_to_ids("<|im_end|>"), qwen.convert_tokens_to_ids("<|endoftext|>")}
    assert ours.stop_texts == ()


def test_the_generation_format_writes_bare_text_and_eos(load):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.2")
    ours = template("mistral", tokenizer, use_chat_template=False)
    encoded = ours.encode_sample(Sample.of(("user", "Once "), ("assistant", "upon a time.")))
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids)[0] == "<s>" and encoded.input_ids.count(tokenizer.bos_token_id) == 1
    assert encoded.input_ids == tokenizer("Once upon a time.</s>").input_ids
    assert tokenizer.decode(ours.prompt(Sample.of(("user", "Once ")))) == tokenizer.decode(tokenizer("Once ").input_ids)
    with pytest.raises(RowSkipped, match="no place for a system"):
        ours.encode_sample(TALKS["system"])


def test_bos_is_written_once_by_formats_that_ask_the_tokenizer(load):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.2")
    for name in ("mistral", "default", "dummy"):
        ids = template(name, tokenizer, system="").encode_sample(TALKS["single"]).input_ids
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    with_system = template("default", tokenizer).encode_sample(TALKS["single"]).input_ids
    assert with_system[0] == tokenizer.bos_token_id and with_system.count(tokenizer.bos_token_id) == 1


def test_a_format_of_taking_turns_refuses_two_questions_in_a_row(load):
    ours = template("mistral", load("mistralai--Mistral-7B-Instruct-v0.2"))
    with pytest.raises(RowSkipped, match="take turns"):
        ours.encode_sample(Sample.of(("user", "a"), ("user", "b"), ("assistant", "c")))

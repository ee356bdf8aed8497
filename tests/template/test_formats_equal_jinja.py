"""A swift format's ids are those of the published chat template, up to the last stop (rulings 1 and 4)."""

from __future__ import annotations

import pytest

from swift.data.sample import Sample
from swift.template.conversation import conversation
from swift.template.encoded import IGNORE
from swift.template.formats import chat_formats
from tests.template.conftest import published, template, words
from tests.template.families import FAMILIES, TALKS

REFUSE_SYSTEM = ("gemma2", "mistral-v0.1", "mistral-v0.2")
each_family = pytest.mark.parametrize("family", FAMILIES)


def _has_system(sample: Sample) -> bool:
    return sample.messages[0].role == "system"


def _bound(family, load):
    name, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    return tokenizer, template(name, tokenizer)


@each_family
def test_ids_are_the_published_chat_templates(family, load):
    tokenizer, ours = _bound(family, load)
    for name, sample in TALKS.items():
        if _has_system(sample) and (ours.format.system is None or family in REFUSE_SYSTEM):
            continue  # the published template refuses a system message, or leaves it out where an answer follows
        want, got = published(tokenizer, sample), ours.encode_sample(sample).input_ids
        common = min(len(want), len(got))
        assert got[:common] == want[:common], name
        rest = tokenizer.decode(want[common:]).replace(tokenizer.eos_token, "").strip()
        assert rest == "", f"{name}: the published text goes on with {rest!r}"
        assert len(got) == common or (got[common:] == [tokenizer.convert_tokens_to_ids("<|im_end|>")] and family == "qwen1.5")


@each_family
def test_prompts_are_the_published_chat_templates(family, load):
    tokenizer, ours = _bound(family, load)
    for name, sample in TALKS.items():
        if _has_system(sample) and family in REFUSE_SYSTEM:
            continue
        asked = Sample(sample.messages[:-1])
        assert ours.prompt(sample) == published(tokenizer, asked, reply=True), name


@each_family
def test_a_prompt_begins_the_training_ids(family, load):
    _, ours = _bound(family, load)
    for name, sample in TALKS.items():
        if name == "newlines" or (name == "thoughts" and family in ("mistral-v0.1", "mistral-v0.2")):
            continue  # the prompt's last character and the answer's first become one token: "\n" + "\n", "]" + "<"
        prompt, whole = ours.prompt(sample), ours.encode_sample(sample)
        assert whole.input_ids[: len(prompt)] == prompt, name
        assert all(label == IGNORE for label in whole.labels[: len(prompt)][-1:])


@each_family
def test_weights_cover_the_answers_and_their_stops(family, load):
    tokenizer, ours = _bound(family, load)
    for name, sample in TALKS.items():
        if name in ("newlines", "thoughts"):
            continue
        encoded = ours.encode_sample(sample)
        learned = [i for i, weight in zip(encoded.input_ids, encoded.weights, strict=True) if weight]
        assert [label for label in encoded.labels if label != IGNORE] == learned
        want = "".join(m.content + ours.stop for m in sample.messages if m.role == "assistant")
        assert words(tokenizer.decode(learned)) == words(want), name


@pytest.mark.parametrize("family", ["qwen3", "qwen3-moe"])
def test_thoughts_that_the_template_inserts_are_not_learned_and_an_answers_own_are(family, load):
    tokenizer, ours = _bound(family, load)

    def learned(sample):
        encoded = ours.encode_sample(sample)
        return tokenizer.decode([i for i, weight in zip(encoded.input_ids, encoded.weights, strict=True) if weight])

    assert learned(TALKS["single"]) == "Hi there.<|im_end|>"
    assert learned(TALKS["thoughts"]) == "4<|im_end|><think>\nThree and three.\n</think>\n\n6<|im_end|>"


def test_an_empty_system_means_none(load):
    for family, (name, folder, jinja, more) in FAMILIES.items():
        tokenizer = load(folder, jinja, more)
        empty = Sample.of(("system", ""), ("user", "Hi"), ("assistant", "Ho"))
        none = Sample.of(("user", "Hi"), ("assistant", "Ho"))
        got = template(name, tokenizer).encode_sample(empty).input_ids
        assert got == template(name, tokenizer, system="").encode_sample(none).input_ids
        default = chat_formats[name].default_system
        text = tokenizer.decode(got)
        if default is None:
            assert got == template(name, tokenizer).encode_sample(none).input_ids, family
        else:
            assert default not in text and "system" not in text, family


def test_a_rows_system_beats_the_flag_and_the_flag_beats_the_formats():
    chat_format = chat_formats["qwen2_5"].bind(bos="", eos="", date="")
    row = Sample.of(("system", "row"), ("user", "q"))
    bare = Sample.of(("user", "q"))

    def text(sample, system):
        return "".join(p.text for p in chat_format.render(conversation(sample.messages, system=system, tools=None), reply=True))

    assert "row" in text(row, "flag") and "flag" not in text(row, "flag")
    assert "flag" in text(bare, "flag") and "Qwen" not in text(bare, "flag")
    assert "created by Alibaba" in text(bare, None)


def test_llama2_is_written_as_the_specification_says(load):
    tokenizer = load("llama-2-mended")
    ours = template("llama", tokenizer, system="Be kind.")
    text = "".join(run.text for run in ours.render(TALKS["multi"], reply=False))
    assert text == "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n1+1? [/INST]2</s><s>[INST] 2+2? [/INST]4</s><s>[INST] 3+3? [/INST]6</s>"
    encoded = ours.encode_sample(TALKS["multi"])
    assert encoded.input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert [encoded.input_ids.count(i) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id)] == [3, 3]
    assert "respectful and honest" in ours.tokenizer.decode(template("llama", tokenizer).prompt(TALKS["single"]))


def test_gemma_writes_a_system_text_that_its_chat_template_refuses(load):
    name, folder, jinja, more = FAMILIES["gemma2"]
    text = load(folder, jinja, more).decode(template(name, load(folder, jinja, more)).prompt(TALKS["system"]))
    assert text.startswith("<bos><start_of_turn>system\nYou are a pirate.<end_of_turn>\n<start_of_turn>user\n")


@pytest.mark.parametrize("family", ["mistral-v0.3", "mistral-nemo"])
def test_mistral_writes_the_system_text_before_the_last_question(family, load):
    _, ours = _bound(family, load)
    text = "".join(run.text for run in ours.render(TALKS["system"], reply=False))
    assert text.count("You are a pirate.\n\nSo?") == 1 and text.count("pirate") == 1


def test_llama_3_2_writes_one_day_for_a_run(load):
    _, ours = _bound("llama3.2", load)
    assert "Today Date: 09 Mar 2025" in "".join(run.text for run in ours.render(TALKS["single"], reply=False))


def test_default_learns_its_stop_where_the_separator_is_another(load):
    tokenizer = load("openai-community--gpt2")
    encoded = template("default", tokenizer, system="").encode_sample(TALKS["multi"])
    labels = [tokenizer.decode([label]) for label in encoded.labels if label != IGNORE]
    assert labels == ["2", "<|endoftext|>", "4", "<|endoftext|>", "6", "<|endoftext|>"]
    assert tokenizer.decode(encoded.input_ids).endswith("4\n\n### Human:\n3+3?\n\n### Assistant:\n6<|endoftext|>")


def test_llama_vendor_prompts_have_the_specifications_digests():
    import hashlib

    want = {"llama": "cda5d1f1710b", "mistral_2501": "b24bab8d026b"}
    got = {name: hashlib.sha256((chat_formats[name].default_system or "").encode()).hexdigest()[:12] for name in want}
    assert got == want

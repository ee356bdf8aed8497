"""Whatever people write: the published chat template's ids, one BOS, and no marker but the template's own."""

from __future__ import annotations

import random

import pytest

from swift.data.sample import Sample
from swift.template.encoded import IGNORE
from tests.template.conftest import published, template
from tests.template.families import FAMILIES

FAST = ["qwen2.5", "qwen3", "llama3.2", "mistral-v0.2", "mistral-v0.3", "gemma2", "phi3"]
ALPHABETS = (
    "abcdefghij ABC 0123456789 .,;:!?'\"()-",
    "\n\t  \r\n \n\n",
    "你好世界，。！日本語한국어",
    "🙂👩‍👩‍👧🇩🇪é\u0301ﬁ①\u00a0\u200b\u2028",
    "Ωμέγα Grüße עברית العربية ไทย हिन्दी",
    "{}[]<>/\\|_*`#$%&=+~^@",
    "𝔘𝕟𝕚\U00020000\ufeff\x00\x7f\u0085",
)


def text(chance: random.Random, *, words: tuple[str, ...] = ()) -> str:
    parts = []
    for _ in range(chance.randint(1, 5)):
        if words and chance.random() < 0.5:
            parts.append(chance.choice(words))
        alphabet = chance.choice(ALPHABETS)
        parts.append("".join(chance.choice(alphabet) for _ in range(chance.randint(1, 12))))
    return "".join(parts)


def conversation(chance: random.Random, *, words: tuple[str, ...] = ()) -> Sample:
    rounds = chance.randint(1, 3)
    return Sample.of(*((role, text(chance, words=words)) for _ in range(rounds) for role in ("user", "assistant")))


@pytest.mark.parametrize("family", FAST)
def test_ids_are_the_published_chat_templates_for_any_text(family, load):
    name, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    ours = template(name, tokenizer)
    chance = random.Random(family)
    bos = tokenizer.bos_token_id
    for _ in range(150):
        sample = conversation(chance)
        texts = [message.content for message in sample.messages]
        if ours.specials.pattern.search("".join(texts)):
            continue
        want, got = published(tokenizer, sample), ours.encode_sample(sample)
        assert got.input_ids == want[: len(got)], texts
        assert tokenizer.decode(want[len(got) :]).replace(tokenizer.eos_token, "").strip() == "", texts
        assert ours.prompt(sample) == published(tokenizer, Sample(sample.messages[:-1]), reply=True), texts
        assert ours.encode_many([sample])[0].input_ids == got.input_ids
        if bos is not None and not name.startswith("qwen") and family != "phi3":
            assert got.input_ids.count(bos) == 1 and got.input_ids[0] == bos
        assert got.labels[-1] == got.input_ids[-1] in ours.stop_ids
        assert all(label in (IGNORE, i) for label, i in zip(got.labels, got.input_ids, strict=True))


@pytest.mark.parametrize("family", FAST)
def test_no_text_adds_a_special_token(family, load):
    name, folder, jinja, more = FAMILIES[family]
    tokenizer = load(folder, jinja, more)
    ours = template(name, tokenizer)
    chance = random.Random(family)
    markers = sorted(
        {ours.stop, tokenizer.eos_token, tokenizer.bos_token or ours.stop, "<|im_start|>", "<|eot_id|>", "<s>", "</s>", "<bos>"}
    )
    halves = tuple(piece for marker in markers for piece in (marker, marker, marker[:3], marker[3:]))
    ids = {ours.specials.names[word] for word in ours.specials._as_text}
    for _ in range(150):
        sample = conversation(chance, words=halves)
        plain = Sample.of(*((message.role, "x") for message in sample.messages))
        got, bare = ours.encode_sample(sample).input_ids, ours.encode_sample(plain).input_ids
        assert [i for i in got if i in ids] == [i for i in bare if i in ids], [message.content for message in sample.messages]

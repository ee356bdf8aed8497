"""Formats on tokenizers: each marker is one token or said to be text, and what has no text of its own comes from the tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizer, PreTrainedTokenizerBase

from swift.data.sample import Message, Sample
from swift.errors import ModelError
from swift.template.chat_format import ChatFormat
from swift.template.conversation import conversation
from swift.template.encoded import IGNORE
from swift.template.formats import chat_formats
from swift.template.special import Specials, bind
from tests.template.conftest import published, template, words
from tests.template.families import TALKS

SPELT = re.compile(r"<[|｜][^|｜<>\s]+[|｜]>|(?<!<)</?\w+>(?!>)|\[\|\w+\|\]|\[(?:USER|SEP|BOT)\]")  # all that looks like a marker
TALK = Sample.of(("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four."))


def markers(chat_format: ChatFormat) -> list[str]:
    """The words that are to be tokens: those of its look, and the stop, less what it says is text."""
    found = [word for text in chat_format.texts for word in SPELT.findall(text)]
    found += [word for word in (chat_format.stop, *chat_format.extra_stops) if SPELT.fullmatch(word)]
    more = ["<_user>", "<_bot>"] if "{{TOKEN:user_token_id" in chat_format.user else []
    return list(dict.fromkeys(word for word in [*found, *more] if word not in chat_format.plain))


def given(tokenizer_folder: Path, words: list[str]) -> PreTrainedTokenizerBase:
    """A stand-in for a family's tokenizer: Qwen2.5's, with a BOS and with what the family's format writes as special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder / "Qwen--Qwen2.5-7B-Instruct")
    tokenizer.add_special_tokens({"bos_token": "<s>", "extra_special_tokens": words})
    tokenizer.chat_template = None
    return tokenizer


@pytest.fixture(scope="module")
def stand_in(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    """One with the markers of all formats."""
    return given(tokenizer_folder, list(dict.fromkeys(word for name in chat_formats for word in markers(chat_formats[name]))))


class Symbols(PreTrainedTokenizer):
    """A slow tokenizer in the manner of Baichuan's and TeleChat's: letters, and symbols that are pieces of the vocabulary, not added tokens."""

    model_input_names: ClassVar = ["input_ids"]

    def __init__(self, *symbols: str, first: int = 195, **named):
        letters = [chr(32 + i) for i in range(95)] + [f"<pad{i}>" for i in range(first - 98)]
        self._pieces = ["<unk>", "</s>", "\n", *letters, *symbols]
        self._numbers = {piece: i for i, piece in enumerate(self._pieces)}
        self._cut = re.compile("|".join([*map(re.escape, symbols), r"(?s:.)"]))
        super().__init__(unk_token="<unk>", eos_token="</s>", **named)

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def get_vocab(self) -> dict[str, int]:
        return self._numbers | self.added_tokens_encoder

    def _tokenize(self, text, **more):
        return self._cut.findall(text)

    def _convert_token_to_id(self, token):
        return self._numbers.get(token, 0)

    def _convert_id_to_token(self, index):
        return self._pieces[index]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


@pytest.mark.parametrize("name", [name for name in chat_formats if name != "baichuan"])
def test_each_marker_is_one_token_and_the_ids_are_those_of_the_text(name, stand_in):
    ours = template(name, stand_in)
    runs = ours.render(TALK, reply=False)
    text = "".join(run.text for run in runs)
    encoded = ours.encode(runs)
    if not ours.format.assistant.endswith(" "):  # see below
        assert encoded.input_ids == stand_in(text, add_special_tokens=False).input_ids
    assert stand_in.decode(encoded.input_ids) == text
    for word in markers(chat_formats[name]):
        assert encoded.input_ids.count(stand_in.convert_tokens_to_ids(word)) == text.count(word), word
    learned = [label for label in encoded.labels if label != IGNORE]
    answers = ["Four."] if chat_formats[name].separator is None else ["Two.", "Four."]
    want = [f"{answer}{'<extra_0>' if name == 'qwen2_5_math_prm' and answer == 'Four.' else ''}{ours.stop}" for answer in answers]
    # a token may reach from an answer's end into the white space, or Llama's [INST], that parts it from the next question
    got = stand_in.decode(learned).replace(".[<", ".<")
    assert words(got) == words("".join(want)), name
    assert ours.prompt(TALK) == ours.encode(ours.render(Sample(TALK.messages[:3]), reply=True)).input_ids


PUBLISHED = [
    "Qwen--Qwen2.5-7B-Instruct",
    "Qwen--Qwen3-4B",
    "google--gemma-2-2b-it",
    "meta-llama--Llama-3.2-3B-Instruct",
    "microsoft--Phi-3-mini-4k-instruct",
    "mistralai--Mistral-7B-Instruct-v0.3",
    "openai-community--gpt2",
]


@pytest.mark.parametrize("folder", PUBLISHED)
def test_a_published_tokenizer_writes_each_marker_as_one_id_or_the_format_is_refused(folder, load):
    tokenizer = load(folder)
    specials = Specials(tokenizer)
    written = 0
    for name in chat_formats:
        if chat_formats[name].named_tokens:
            continue
        bound = bind(chat_formats[name], tokenizer, "")
        needed = [word for word in markers(bound) if re.fullmatch(r"<[|｜].*|</?[a-z_]+>|<extra_0>", word)]
        if not set(needed) <= set(specials.names):
            with pytest.raises(ModelError, match="no token of this tokenizer"):
                specials.check(bound)
            continue
        specials.check(bound)
        text = "".join(piece.text for piece in bound.render(conversation(TALK.messages, system="", tools=None), reply=False))
        ids = specials.ids(text)
        assert all(ids.count(tokenizer.convert_tokens_to_ids(word)) == text.count(word) for word in needed), name
        written += 1
    assert written >= 7


def test_zephyrs_roles_are_text_to_mistrals_tokenizer(load):
    tokenizer = load("mistralai--Mistral-7B-Instruct-v0.2")
    encoded = template("zephyr", tokenizer).encode_sample(TALK)
    text = "<|user|>\nOne?</s>\n<|assistant|>\nTwo.</s>\n<|user|>\nThree?</s>\n<|assistant|>\nFour.</s>"
    assert encoded.input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert encoded.input_ids.count(tokenizer.eos_token_id) == 4
    assert sum(label == tokenizer.eos_token_id for label in encoded.labels) == 2


@pytest.mark.parametrize("name", ["sus", "numina", "atom", "xverse"])
def test_behind_a_header_that_ends_with_a_blank_an_answers_first_word_is_learned_as_the_prompt_leaves_it(name, stand_in, load):
    for tokenizer in (stand_in, load("mistralai--Mistral-7B-Instruct-v0.2")):
        if name == "sus" and tokenizer is not stand_in:
            continue  # its stop is another family's token
        ours = template(name, tokenizer)
        first, second = Sample(TALK.messages[:2]), ours.encode_sample(TALK)
        for encoded, prompt in ((ours.encode_sample(first), ours.prompt(first)), (second, ours.prompt(TALK))):
            assert encoded.input_ids[: len(prompt)] == prompt
            assert all(label != IGNORE for label in encoded.labels[len(prompt) :])
        assert ours.encode_many([TALK])[0] == second
    spelling = Sample.of(("user", "q"), ("assistant", "</s> and <s>"))
    encoded = ours.encode_sample(spelling)
    assert encoded.input_ids[: len(ours.prompt(spelling))] == ours.prompt(spelling)
    assert sum(id in tokenizer.all_special_ids for id in encoded.input_ids) == sum(
        id in tokenizer.all_special_ids for id in ours.encode_sample(Sample.of(("user", "q"), ("assistant", "x"))).input_ids
    )


def test_a_stop_of_a_text_and_a_token_is_cut_off_whichever_part_the_model_wrote(stand_in):
    ours = template("skywork", stand_in)
    end, sep = stand_in.convert_tokens_to_ids("</s>"), stand_in.convert_tokens_to_ids("[SEP]")
    words = stand_in("Two.", add_special_tokens=False).input_ids
    assert end in ours.stop_ids
    assert {ours.decode([*words, sep, end]), ours.decode([*words, sep]), ours.decode(words)} == {"Two."}


def test_baichuans_roles_are_tokens_by_their_numbers(load):
    tokenizer = Symbols("<reserved_106>", "<reserved_107>")
    ours = template("baichuan", tokenizer)
    encoded = ours.encode_sample(TALK)
    assert tokenizer.convert_ids_to_tokens(195) == "<reserved_106>"
    assert [id for id in encoded.input_ids if id in (195, 196)] == [195, 196, 195, 196]
    assert tokenizer.decode(encoded.input_ids) == "<reserved_106>One?<reserved_107>Two.<reserved_106>Three?<reserved_107>Four.</s>"
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORE]) == "Two.</s>Four.</s>"
    assert ours.prompt(TALK)[-1] == 196
    with pytest.raises(ModelError, match="token 195, which is a piece of plain text"):
        template("baichuan", load("openai-community--gpt2"))


def test_a_symbol_of_a_slow_tokenizers_vocabulary_is_a_token_though_nobody_added_it():
    ours = template("yuan", Symbols("<sep>"))
    assert ours.prompt(TALK)[-1] == 195
    with pytest.raises(ModelError, match="<sep>, which is no token of this tokenizer"):
        template("yuan", Symbols("<other>"))


def test_a_number_beyond_the_vocabulary_is_an_error(load):
    far = ChatFormat(name="far", user="{{ID:99999999}}{{QUERY}}", separator="")
    with pytest.raises(ModelError, match="writes token 99999999, and this tokenizer has 50257 tokens"):
        chat_formats.register("far")(far)
        try:
            template("far", load("openai-community--gpt2"))
        finally:
            del chat_formats["far"]


def test_telechats_roles_come_from_the_tokenizer_or_are_its_known_tokens(tokenizer_folder, load):
    tokenizer = given(tokenizer_folder, ["<_system>", "<_user>", "<_bot>", "<_frage>"])
    text = "".join(run.text for run in template("telechat", tokenizer).render(TALK, reply=False))
    assert text == "<_user>One?<_bot>Two.<|im_end|><_user>Three?<_bot>Four.<|im_end|>"
    tokenizer.user_token_id = tokenizer.convert_tokens_to_ids("<_frage>")
    text = "".join(run.text for run in template("telechat", tokenizer).render(TALK, reply=False))
    assert text == "<_frage>One?<_bot>Two.<|im_end|><_frage>Three?<_bot>Four.<|im_end|>"
    with pytest.raises(ModelError, match="needs a tokenizer with user_token_id, or with the token <_user>"):
        template("telechat", load("Qwen--Qwen2.5-7B-Instruct"))


# thoughts and steps


def said(name: str, *turns: tuple[str, str], reply: bool = False) -> str:
    talk = conversation([Message(*turn) for turn in turns], system="", tools=None)  # type: ignore[arg-type]
    bound = chat_formats[name].bind(bos="<s>", eos="</s>", date="")
    return "".join(piece.text for piece in bound.render(talk, reply=reply))


ROUND = [("user", "2+2?"), ("assistant", "<think>\nEasy.\n</think>\n\n4"), ("user", "3+3?")]


def test_r1_forgets_its_thoughts_in_prompts_and_keeps_them_in_training():
    assert said("deepseek_r1", *ROUND, reply=True).endswith(
        "<｜User｜>2+2?<｜Assistant｜>\n\n4<｜end▁of▁sentence｜><｜User｜>3+3?<｜Assistant｜>"
    )
    whole = said("deepseek_r1", *ROUND, ("assistant", "<think>\nHm.\n</think>\n\n6"))
    assert whole.count("<think>") == 2 and whole.endswith("<｜Assistant｜><think>\nHm.\n</think>\n\n6<｜end▁of▁sentence｜>")
    assert said("deepseek_v2_5", *ROUND, reply=True).count("</think>") == 1


def test_r1s_prompts_are_its_published_chat_templates(load):
    special = tuple(markers(chat_formats["deepseek_r1"]))
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct", "deepseek/hfjs-deepseek-ai--DeepSeek-R1.jinja", special)
    tokenizer.add_special_tokens({"bos_token": special[0], "eos_token": "<｜end▁of▁sentence｜>"})
    ours = template("deepseek_r1", tokenizer)
    for name in TALKS:
        asked = Sample(TALKS[name].messages[:-1])
        assert ours.prompt(TALKS[name]) == published(tokenizer, asked, reply=True), name


def test_the_prm_ends_the_last_answer_with_its_mark_unless_the_answer_has_marks():
    question = ("user", "q")
    assert said("qwen2_5_math_prm", question, ("assistant", "a")).endswith("assistant\na<extra_0><|im_end|>")
    assert said("qwen2_5_math_prm", question, ("assistant", "a<extra_0>b")).endswith("assistant\na<extra_0>b<|im_end|>")


def test_a_mark_in_an_answer_is_the_token(stand_in):
    ours = template("qwen2_5_math_prm", stand_in)
    mark = stand_in.convert_tokens_to_ids("<extra_0>")
    encoded = ours.encode_sample(Sample.of(("user", "q <extra_0>"), ("assistant", "Step 1.<extra_0>Step 2.<extra_0>")))
    assert encoded.input_ids.count(mark) == 2  # the question's is text


# families of later years, against their own chat templates

LATER = {
    "gemma3": ("gemma3/google--gemma-3-4b-it.jinja", {"bos_token": "<bos>"}),
    "phi4_mini": ("phi/microsoft--Phi-4-multimodal-instruct.jinja", {"eos_token": "<|endoftext|>"}),
    "granite3": ("granite/lcpptest-ibm-granite--granite-3.0-8b-instruct.jinja", {"eos_token": "<|end_of_text|>"}),
    "lfm2": ("other/LFM2-8B-A1B.jinja", {"bos_token": "<|startoftext|>"}),
    "moonlight": ("kimi/moonshotai-Kimi-K2.jinja", {"eos_token": "<|im_end|>"}),
    "megrez": ("other/lcpptest-Infinigence--Megrez-3B-Instruct.jinja", {"eos_token": "<|turn_end|>"}),
}


@pytest.mark.parametrize("name", LATER)
def test_ids_are_the_published_chat_templates(name, load, tokenizer_folder, shared):
    jinja, named = LATER[name]
    tokenizer = given(tokenizer_folder, markers(chat_formats[name]))
    tokenizer.add_special_tokens(named)
    tokenizer.chat_template = (shared / "oracle/templates/jinja" / jinja).read_text(encoding="utf-8")
    ours = template(name, tokenizer)
    for key, sample in TALKS.items():
        want, got = published(tokenizer, sample), ours.encode_sample(sample).input_ids
        assert got == want[: len(got)], key
        assert tokenizer.decode(want[len(got) :]).replace(tokenizer.eos_token, "").strip() == "", key
        assert ours.prompt(sample) == published(tokenizer, Sample(sample.messages[:-1]), reply=True), key

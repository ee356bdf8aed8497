from __future__ import annotations

import random

import pytest

from swift.engines.stop import AnswerText


def spell(tokenizer, text: str, *, by_byte: bool = False) -> list[int]:
    """Ids of `text`, a token for each byte where asked."""
    if not by_byte:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer(character, add_special_tokens=False)["input_ids"][k] for character in text for k in range(len(character.encode()))]


def run(tokenizer, ids: list[int], **stops) -> tuple[str, list[str], bool]:
    answer = AnswerText(tokenizer.decode, **stops)
    pieces = []
    for token in ids:
        ended = answer.push(token)
        pieces.append(answer.release())
        if ended:
            break
    whole = answer.finish()
    return whole, [*pieces, answer.rest(whole)], answer.stopped


@pytest.mark.parametrize("text", ["hello world", "一只猫 sat on 😀😀 the mat\nyes", "  two  blanks ", "ends in half \ufffd"])
def test_pieces_join_to_the_decoded_text(tokenizer, text: str) -> None:
    ids = spell(tokenizer, text, by_byte=True)
    whole, pieces, stopped = run(tokenizer, ids)
    assert whole == "".join(pieces) == tokenizer.decode(ids) == text
    assert not stopped


def test_half_characters_never_leave(tokenizer) -> None:
    ids = spell(tokenizer, "a 😀 b 猫 c", by_byte=True)
    assert not any("\ufffd" in piece for piece in run(tokenizer, ids)[1])


def test_a_character_cut_by_the_length_limit_is_left_out(tokenizer) -> None:
    ids = spell(tokenizer, "hello 😀", by_byte=True)[:-2]
    answer = AnswerText(tokenizer.decode)
    for token in ids:
        answer.push(token)
    assert answer.finish(cut=True) == answer.of(ids, cut=True) == "hello "


def test_random_bytes_stream_to_their_decoding(tokenizer) -> None:
    drawn = random.Random(0)
    for _ in range(30):
        ids = [drawn.randrange(2, 300) for _ in range(60)]
        whole, pieces, _ = run(tokenizer, ids)
        assert whole == "".join(pieces) == tokenizer.decode(ids)


def test_a_stop_text_across_token_borders_is_found_whatever_its_length(tokenizer) -> None:
    stop = "Observation: " + "nothing moved " * 20
    ids = spell(tokenizer, "hello " + stop + " and more", by_byte=True)
    whole, pieces, stopped = run(tokenizer, ids, keep=[stop])
    assert stopped and whole == "hello " + stop == "".join(pieces)


def test_text_behind_a_stop_in_the_same_token_is_cut(tokenizer) -> None:
    ids = spell(tokenizer, "the cat sat on the mat")
    assert any("at" in tokenizer.decode([token]) and tokenizer.decode([token]) != "at" for token in ids)
    whole, pieces, stopped = run(tokenizer, ids, keep=["ca"])
    assert stopped and whole == "".join(pieces) == "the ca"


def test_a_dropped_stop_leaves_no_trace_and_no_part_of_it_is_released(tokenizer) -> None:
    ids = spell(tokenizer, "hello world\nthe dog: yes", by_byte=True)
    whole, pieces, stopped = run(tokenizer, ids, drop=["\nthe dog:"])
    assert stopped and whole == "".join(pieces) == "hello world"


def test_what_only_looked_like_a_stop_is_released(tokenizer) -> None:
    ids = spell(tokenizer, "hello\nthe cat", by_byte=True)
    whole, pieces, stopped = run(tokenizer, ids, drop=["\nthe dog:"])
    assert not stopped and whole == "".join(pieces) == "hello\nthe cat"


def test_words_leave_whole(tokenizer) -> None:
    ids = spell(tokenizer, "hello green leaves", by_byte=True)
    assert [piece for piece in run(tokenizer, ids)[1] if piece] == ["hello ", "green ", "leaves"]

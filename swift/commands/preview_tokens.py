"""Token ids as people read them: the text that each token adds, and stretches of tokens that are learned alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from swift.template.encoded import IGNORE

PENDING = 4  # tokens that one character may be spelt with, byte by byte


class Token(NamedTuple):
    """`weight` is 0 where nothing is learned; `label` is what is learned here where it is another token than the one that stands here."""

    id: int
    text: str
    weight: float
    special: bool
    label: int | None = None


def tokens_of(tokenizer: Any, record: dict[str, Any]) -> list[Token]:
    """The tokens of one record of a preview; those of a prompt are not learned."""
    ids = record["input_ids"]
    labels = record.get("labels") or [IGNORE] * len(ids)
    weights = record.get("weights") or [0.0] * len(ids)
    special = set(tokenizer.all_special_ids)
    return [
        Token(id, text, 0.0 if label == IGNORE else weight, id in special, None if label in (IGNORE, id) else label)
        for id, text, label, weight in zip(ids, pieces(tokenizer, ids), labels, weights, strict=True)
    ]


def pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text that each token adds to the row; a character that several tokens spell stands at the last of them.

    A tokenizer may write a token differently at the start of a text (without its space), so each is decoded behind the one before it.
    """

    def decode(some: list[int]) -> str:
        return tokenizer.decode(some, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    found: list[str] = []
    before = done = 0
    for end in range(1, len(ids) + 1):
        text = decode(ids[before:end])
        if text.endswith("\ufffd") and end < len(ids) and end - done < PENDING:
            found.append("")
            continue
        found.append(text[len(decode(ids[before:done])) :])
        before, done = done, end
    return found


def spans(tokens: list[Token]) -> Iterator[tuple[float, list[Token]]]:
    """(weight, tokens) of each stretch of equal weight."""
    for weight, group in groupby(tokens, key=lambda token: token.weight):
        yield weight, list(group)


def visible(text: str) -> str:
    """Without control characters, which a terminal would obey; line breaks and tabs stay."""
    return "".join(letter if letter in "\n\t" or letter.isprintable() or ord(letter) > 0x9F else f"\\x{ord(letter):02x}" for letter in text)

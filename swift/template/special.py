"""Special tokens: text to ids in one call, with what a person wrote kept from spelling one (rulings 1 and 2)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from swift.data.sample import Message
from swift.errors import ModelError
from swift.template.chat_format import EOS, ChatFormat
from swift.template.conversation import conversation
from swift.template.encoded import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[list[int], Sequence[tuple[int, int]]]  # ids and character offsets
Span = tuple[int, int]

# what a format's author meant to be a token: <|im_start|>, <｜User｜>, <s>, </s>, <start_of_turn>; not <<SYS>> and [INST], which are text in
# some families. Words of this look that are text too stand in ChatFormat.plain.
_MEANT_AS_TOKEN = re.compile(r"(?<!<)(?:<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|</?[a-z_]+>)(?!>)")


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the tokenizer itself writes before and behind a text: ("<s>", "") for Llama, ("[CLS]", "[SEP]") for BERT."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    dressed = tokenizer("a").input_ids
    for k in range(len(dressed) - len(bare) + 1):
        if dressed[k : k + len(bare)] == bare:
            before, after = dressed[:k], dressed[k + len(bare) :]
            return "".join(tokenizer.convert_ids_to_tokens(before)), "".join(tokenizer.convert_ids_to_tokens(after))
    return "", ""


def bind(chat_format: ChatFormat, tokenizer: PreTrainedTokenizerBase, date: str | None) -> ChatFormat:
    """The format with this tokenizer's BOS and EOS; without a `date` its placeholder stays."""
    if tokenizer.eos_token is None and EOS in chat_format.stop + (chat_format.separator or ""):
        raise ModelError(
            f"template {chat_format.name} ends an answer with the tokenizer's EOS, but this tokenizer has none. Choose another --template."
        )
    before, after = around(tokenizer) if chat_format.auto_bos else ("", "")
    return chat_format.bind(
        bos=str(tokenizer.bos_token or ""),
        eos=str(tokenizer.eos_token or ""),
        date=date,
        before=before,
        after=after,
        tokens={placeholder: _named(placeholder, chat_format, tokenizer) for placeholder in chat_format.named_tokens},
    )


def _named(placeholder: str, chat_format: ChatFormat, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the token that `{{ID:195}}` or `{{TOKEN:attribute|text}}` stands for, which must be read as that one token."""
    kind, _, name = placeholder.strip("{}").partition(":")
    name, _, otherwise = name.partition("|")
    number = int(name) if kind == "ID" else getattr(tokenizer, name, None)
    if number is None and otherwise:
        number = _id(otherwise, tokenizer)
    if number is None:
        needed = f"a tokenizer with {name}" + (f", or with the token {otherwise}" if otherwise else "")
        raise ModelError(f"template {chat_format.name} needs {needed}; this one has none. Choose another --template.")
    token: Any = tokenizer.convert_ids_to_tokens(number) if 0 <= number < len(tokenizer) else None
    if token is None:
        raise ModelError(
            f"template {chat_format.name} writes token {number}, and this tokenizer has {len(tokenizer)} tokens. Choose another --template."
        )
    if number not in tokenizer(f"a{token}b", add_special_tokens=False).input_ids:
        raise ModelError(
            f"template {chat_format.name} writes token {number}, which is a piece of plain text ({token!r}) to this tokenizer and no marker. "
            "Choose the --template that this model was made for."
        )
    return token


def _id(token: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of a token of the vocabulary, added or not; None where there is none of that text."""
    found: Any = tokenizer.convert_tokens_to_ids(token)
    return None if found is None or (found == tokenizer.unk_token_id and token != tokenizer.unk_token) else found


def spoken(date: datetime.date) -> str:
    """As Llama 3.2 writes it, in English wherever we are."""
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[date.month - 1]
    return f"{date.day:02d} {month} {date.year}"


class Specials:
    """One tokenizer's special tokens, and encoding that respects who wrote what.

    `header` is the format's assistant header. Where it ends with a blank ("Assistant: ") the tokens of an answer begin behind it, as they do
    when the model answers a prompt; in one stretch the blank and the first word would be one token, which nobody learns.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer, self.header = tokenizer, ""
        added = tokenizer.added_tokens_decoder
        self.names = {token.content: id for id, token in added.items()}
        special = sorted({token.content for token in added.values() if token.special and token.content}, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, special))) if special else re.compile(r"(?!)")
        self._first = re.compile("[" + re.escape("".join({text[0] for text in special})) + "]") if special else re.compile(r"(?!)")
        self._backend: Any = tokenizer.backend_tokenizer if tokenizer.is_fast else None  # tokenizers.Tokenizer
        if self._backend is not None:
            self._as_text = self._spelled_out(special)
            self._newline = tokenizer("\n", add_special_tokens=False).input_ids  # also leaves the backend unpadded, uncut, with specials on

    def id_of(self, text: str) -> int | None:
        """The id where `text` is one added token."""
        return self.names.get(text)

    def last_of(self, text: str) -> str:
        """The special token that `text` ends with, or an empty string."""
        return next((word for word in self.pattern.findall(text)[-1:] if text.endswith(word)), "")

    def ids(self, text: str) -> list[int]:
        """Of a format's own text, special tokens being tokens."""
        if self._backend is None:
            return self.tokenizer(text, add_special_tokens=False).input_ids
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode(self, runs: Sequence[Run]) -> Tokens:
        """Ids and offsets into the joined text."""
        if self._backend is None:
            return self._run_by_run(runs)
        text = "".join(run.text for run in runs)
        if spelled := self._spelled(runs, text):
            return self._in_pieces(text, spelled)
        found = self._backend.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def encode_many(self, rows: Sequence[Sequence[Run]]) -> list[Tokens]:
        """As `encode` for each row, in one call for all rows that need no care."""
        if self._backend is None:
            return [self._run_by_run(runs) for runs in rows]
        texts = ["".join(run.text for run in runs) for runs in rows]
        spelled = [self._spelled(runs, text) for runs, text in zip(rows, texts, strict=True)]
        plain = iter(self._backend.encode_batch([t for t, s in zip(texts, spelled, strict=True) if not s], add_special_tokens=False))
        results: list[Tokens] = []
        for text, spans in zip(texts, spelled, strict=True):
            if spans:
                results.append(self._in_pieces(text, spans))
            else:
                found = next(plain)
                results.append((found.ids, found.offsets))
        return results

    def check(self, chat_format: ChatFormat) -> None:
        """Every special token that the format writes becomes its one id, or ModelError: else a stop could never be learned."""
        text = "".join(chat_format.texts)
        for word in dict.fromkeys([*_MEANT_AS_TOKEN.findall(text), *filter(None, [chat_format.mark])]):
            if word not in chat_format.plain and not self._is_token(word):
                raise ModelError(
                    f"template {chat_format.name} writes {word}, which is no token of this tokenizer. "
                    "Choose the --template that this model was made for, or another one (default, for a base model); "
                    "in a format of your own, `plain` names words that are text."
                )
        if self._backend is None:
            return
        system = "a" if chat_format.takes_system else ""
        talk = [Message("user", "b"), Message("assistant", "c"), Message("user", "d"), Message("assistant", "e")]
        talk = talk[:2] if chat_format.separator is None else talk
        pieces = chat_format.render(conversation(talk, system=system, tools=None), reply=False)
        text = "".join(piece.text for piece in pieces)
        ids = self.ids(text)
        for word in dict.fromkeys(self.pattern.findall(text)):
            if ids.count(self.names[word]) != len(re.findall(re.escape(word), text)):
                raise ModelError(
                    f"this tokenizer cuts {word} into pieces where template {chat_format.name} writes it, so it would never be learned. "
                    'Mend tokenizer.json: its special tokens need "normalized": false.'
                )

    def _is_token(self, word: str) -> bool:
        """An added token, or a piece of the vocabulary that a text of that word becomes (SentencePiece's own symbols)."""
        if word in self.names:
            return True
        id = _id(word, self.tokenizer)
        return id is not None and self.ids(word)[-1:] == [id]

    # what a person wrote

    def _spelled(self, runs: Sequence[Run], text: str) -> list[Span]:
        """Where literal text spells a special token, alone or together with its neighbours; and, as empty spans, where tokens must part."""
        borders = self._borders(runs) if self.header.endswith(" ") else []
        first = self._first
        if not any(run.literal and first.search(run.text) for run in runs):
            return borders
        spans, literal, position = [], [], 0
        for run in runs:
            if run.literal:
                literal.append((position, position + len(run.text)))
            position += len(run.text)
        for match in self.pattern.finditer(text):
            start, end = match.span()
            if any(a < end and start < b for a, b in literal):
                spans.append((start, end))
        return sorted([*spans, *((at, at) for at, _ in borders if not any(a < at < b for a, b in spans))])

    def _borders(self, runs: Sequence[Run]) -> list[Span]:
        ends = accumulate(len(run.text) for run in runs)
        return [(end, end) for run, end in zip(runs[:-1], ends, strict=False) if not run.literal and run.text == self.header]

    def _in_pieces(self, text: str, spans: list[Span]) -> Tokens:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []

        def add(start: int, end: int, as_text: bool) -> None:
            if start == end:
                return
            if as_text:
                new = self._as_text[text[start:end]]
            elif start == 0:
                new = _encoded(self._backend.encode(text[:end], add_special_tokens=False))
            else:
                # behind a newline, so that the tokenizer adds no blank to what is no beginning
                found = self._backend.encode("\n" + text[start:end], add_special_tokens=False)
                new = _without_newline(found, self._newline)
                if new is None:
                    new = _encoded(self._backend.encode(text[start:end], add_special_tokens=False))
            ids.extend(new[0])
            offsets.extend((start + a, start + b) for a, b in new[1])

        end = 0
        for a, b in spans:
            add(end, a, False)
            add(a, b, True)
            end = b
        add(end, len(text), False)
        return ids, offsets

    def _spelled_out(self, special: list[str]) -> dict[str, Tokens]:
        """Each special token as the plain text that it is in a person's mouth."""
        if not special:
            return {}
        newline = self.tokenizer("\n", add_special_tokens=False).input_ids

        def encode(texts: list[str]) -> list[Tokens]:
            found = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
            return list(zip(found.input_ids, found.offset_mapping, strict=True))

        behind, bare = encode(["\n" + text for text in special]), encode(special)
        table = {}
        for text, (ids, offsets), alone in zip(special, behind, bare, strict=True):
            n = len(newline)
            fits = ids[:n] == newline and (len(offsets) == n or offsets[n][0] == 1)
            table[text] = (ids[n:], [(a - 1, b - 1) for a, b in offsets[n:]]) if fits else alone
            if self.names[text] in table[text][0]:  # the vocabulary holds it as a plain piece too: spell it letter by letter
                letters = [encode([letter])[0][0] for letter in text]
                table[text] = (
                    [id for letter in letters for id in letter],
                    [(i, i + 1) for i, letter in enumerate(letters) for _ in letter],
                )
        return table

    def _run_by_run(self, runs: Sequence[Run]) -> Tokens:
        """For tokenizers without offsets."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        position = 0
        for run in runs:
            new = self.tokenizer(run.text, add_special_tokens=False, split_special_tokens=run.literal).input_ids if run.text else []
            ids += new
            offsets += [(position, position + len(run.text))] * len(new)
            position += len(run.text)
        return ids, offsets


def _encoded(found) -> Tokens:
    return found.ids, found.offsets


def _without_newline(found, newline: list[int]) -> Tokens | None:
    n = len(newline)
    if found.ids[:n] != newline or (len(found.ids) > n and found.offsets[n][0] < 1):
        return None
    return found.ids[n:], [(max(a - 1, 0), b - 1) for a, b in found.offsets[n:]]

"""`{% generation %}`: a chat template's own marks of what is the assistant's, laid over the pieces that placeholders found."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from swift.template.conversation import Piece

_MARK = re.compile(r"\{%-?\s*generation\b")


class Mark(NamedTuple):
    """Characters of the rendered text."""

    start: int
    end: int


def has_marks(template: str) -> bool:
    return _MARK.search(template) is not None


def find_marks(template: str, messages: list[dict[str, Any]], **variables: Any) -> tuple[str, list[Mark]]:
    """The rendered text and its marks, as transformers' `return_assistant_tokens_mask` sees them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(conversations=[messages], chat_template=template, return_assistant_tokens_mask=True, **variables)
    (text,), (spans,) = rendered
    return text, [Mark(*span) for span in spans if span[0] < span[1]]


def learn_marked(pieces: list[Piece], text: str, marks: Sequence[Mark], answers: set[int]) -> list[Piece]:
    """The pieces with what is marked, and nothing else, as the answers' own. `answers` are the indices of the assistant's messages.

    What is marked behind the last answer's stop is added: a template may mark the line feed there.
    """
    joined = "".join(piece.text for piece in pieces)
    if not marks or not text.startswith(joined):  # a stop that the template does not write was added
        return pieces
    if marks[-1].end > len(joined):
        pieces = [*pieces, Piece(text[len(joined) : marks[-1].end])]
    starts: list[int] = []  # where an answer's pieces begin, and whose they are
    owners: list[int] = []
    position = 0
    for piece in pieces:
        if piece.message in answers:
            starts.append(position)
            owners.append(piece.message)  # pyright: ignore[reportArgumentType]
        position += len(piece.text)
    if not owners:
        return pieces

    def owner(mark: Mark) -> int:
        at = bisect_left(starts, mark.start)
        return owners[at] if at < len(starts) and starts[at] < mark.end else owners[max(at - 1, 0)]

    found: list[Piece] = []
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        cuts = sorted({start, end, *(cut for mark in marks for cut in mark if start < cut < end)})
        for a, b in pairwise(cuts):
            mark = next((mark for mark in marks if mark.start <= a < mark.end), None)
            words = piece.text[a - start : b - start]
            if mark is None:
                found.append(Piece(words, None if piece.message in answers else piece.message, piece.literal))
            else:
                found.append(Piece(words, owner(mark), piece.literal))
        start = end
    return found

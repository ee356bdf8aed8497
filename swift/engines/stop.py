"""From tokens to text while they come: stop texts across token borders, whole characters only, whole words in a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

HALF = "\ufffd"  # what a tokenizer writes for the bytes of a character that is not complete yet


class AnswerText:
    """One answer's text. `keep` are stop texts that stay at the end of it (the caller's), `drop` those that do not (the format's).

    Tokens are decoded in a short window that starts at a token border where a character ended, so the work does not grow with the answer.
    """

    def __init__(self, decode: Callable[[list[int]], str], *, keep: Sequence[str] = (), drop: Sequence[str] = ()):
        self.decode, self.keep, self.drop = decode, tuple(keep), tuple(drop)
        self.stopped = False
        self._ids: list[int] = []
        self._text = ""  # decoded up to a border between characters
        self._pending = ""  # what follows and may still change, since it ends within a character
        self._released = 0
        self._window = self._read = 0  # token numbers: the window's start, and up to where _text reaches
        self._known = ""  # decode(ids[window:read])

    def push(self, token_id: int) -> bool:
        """Take one token; true where a stop text is complete. Stop tokens are the caller's to see, and are not pushed."""
        self._ids.append(token_id)
        now = self.decode(self._ids[self._window :])
        self._pending = now[len(self._known) :]
        searched = len(self._text)
        if self._pending and not now.endswith(HALF):
            self._text, self._pending = self._text + self._pending, ""
            self._window, self._read = self._read, len(self._ids)
            self._known = self.decode(self._ids[self._window : self._read])
        self._cut_at_stop(searched)
        return self.stopped

    def _cut_at_stop(self, searched: int) -> None:
        """Look for the stop text that is complete first, from where one could have begun in what was searched before."""
        text = self._text + self._pending
        found: list[tuple[int, int]] = []  # (where it ends, where the answer ends)
        for stop, stays in [(stop, True) for stop in self.keep] + [(stop, False) for stop in self.drop]:
            start = text.find(stop, max(0, searched - len(stop) + 1))
            if start >= 0:
                found.append((start + len(stop), start + len(stop) if stays else start))
        if found:
            self.stopped = True
            self._text, self._pending = text[: min(found)[1]], ""

    def release(self) -> str:
        """The new text that can be shown: up to the last line end, blank or CJK character, and no part of a text that may be dropped."""
        end = len(self._text)
        if not self.stopped:
            end -= _begun(self._text, self.drop)
            while end > self._released and not _ends_word(self._text[end - 1]):
                end -= 1
        fresh = self._text[self._released : end]
        self._released += len(fresh)
        return fresh

    def finish(self, *, cut: bool = False) -> str:
        """The whole answer once no token will follow; `cut` where the length limit ended it."""
        if self.stopped:
            return self._text
        whole = self.of(self._ids, cut=cut)
        if not whole.startswith(self._text[: self._released]):  # a tokenizer that rewrites blanks when it sees more text
            whole = self._text + (self._pending.rstrip(HALF) if cut else self._pending)
        return whole

    def of(self, ids: list[int], *, cut: bool) -> str:
        """The text of an answer that was not followed token by token. A character that the limit cut in half is left out."""
        text = self.decode(ids)
        return text.rstrip(HALF) if cut else text

    def rest(self, whole: str) -> str:
        """What of the finished answer `whole` has not been released."""
        return whole[self._released :]


def _begun(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` with which one of `stops` begins."""
    return max((size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])), default=0)


# Scripts that write no blanks between words: Thai, kana, ideographs, Hangul (by syllable), full-width signs.
_UNSPACED = (
    (0x0E00, 0x0E7F),
    (0x3000, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x2FA1F),
)


def _ends_word(character: str) -> bool:
    return character in "\n " or any(first <= ord(character) <= last for first, last in _UNSPACED)

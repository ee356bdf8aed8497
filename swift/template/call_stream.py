"""Tool calls in an answer that is still growing: what is said goes out at once, a call when it is whole."""

from __future__ import annotations

from collections.abc import Sequence

from swift.template.tool_calls import Call, CallStyle

_MORE = "\0more"  # no call that is whole changes when this follows
_CLOSING = frozenset("}>]|:")  # a call that became whole ends with one of these


class CallStream:
    """One answer. All that `push` and `finish` return, put together, is what `style.parse` makes of the whole text."""

    def __init__(self, style: CallStyle):
        self.style = style
        self.text = ""
        self._said = 0  # characters that were returned as said
        self._told = 0  # calls that were returned

    def push(self, fresh: str) -> tuple[str, list[Call]]:
        """(what is said besides, calls that are whole) of the new text. Nothing behind the beginning of a call is said."""
        self.text += fresh
        start = self.style.start(self.text)
        if self._told or start < self._said:  # a call has begun before: what follows it waits for the end
            return "", self._whole_calls(fresh)
        end = len(self.text[:start].rstrip())  # blanks before a call are not part of what is said
        said, self._said = self.text[self._said : end], max(end, self._said)
        return said, self._whole_calls(fresh) if start < len(self.text) else []

    def _whole_calls(self, fresh: str) -> list[Call]:
        if _CLOSING.isdisjoint(fresh):
            return []
        calls, changed = self.style.parse(self.text)[1], self.style.parse(self.text + _MORE)[1]
        whole = 0
        while whole < len(calls) and calls[whole : whole + 1] == changed[whole : whole + 1]:
            whole += 1
        if self.style.end is not None:
            whole = min(whole, self.text.lower().count(self.style.end.lower()))
        fresh_calls = calls[self._told : whole]
        self._told = max(self._told, whole)
        return fresh_calls

    def finish(self, calls: Sequence[Call]) -> tuple[str, list[Call]]:
        """What was held back; `calls` are those of the whole answer."""
        said = self.style.parse(self.text)[0] if calls else self.text
        sent = self.text[: self._said]
        rest = said[len(sent) :] if said.startswith(sent) else said[len(sent.lstrip()) :] if said.startswith(sent.lstrip()) else ""
        return rest, list(calls[self._told :])

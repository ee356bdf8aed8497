"""A preview for the terminal and for programs: marked text, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from swift.commands.preview_tokens import Token, spans, tokens_of, visible

BAR = 40  # characters of the longest bar
COLOURS = {"learned": "32", "more": "33", "less": "36", "special": "1", "quiet": "2"}


class JsonLines:
    """One object a line, as they come."""

    def row(self, record: dict[str, Any]) -> str:
        return one_line(record)

    def end(self, summary: dict[str, Any]) -> str:
        return one_line(summary)


def one_line(record: dict[str, Any]) -> str:
    """JSON that no reader takes for several lines: some break lines at these three characters too."""
    text = json.dumps(record, ensure_ascii=False)
    for sign in ("\u0085", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text + "\n"


class PlainText:
    """Learned stretches are coloured, or stand between ⟦ and ⟧ where colours are not wanted; a weight other than 1 stands before them."""

    def __init__(self, tokenizer: Any, title: str, *, coloured: bool) -> None:
        self._tokenizer, self._coloured = tokenizer, coloured
        how = "green is learned, another weight than 1 stands before it" if coloured else "⟦…⟧ is learned, ⟦2:…⟧ with weight 2"
        self._title: str | None = f"{title} ({how})\n"
        self._number = 0

    def row(self, record: dict[str, Any]) -> str:
        self._number += 1
        if record["input_ids"] is None:
            return self._begin() + self._head(record, [record["refused"]]) + "\n"
        tokens = tokens_of(self._tokenizer, record)
        lines = [self._head(record, list(facts(record, tokens))), self._marked(tokens), *details(self._tokenizer, tokens)]
        lines.append(self._in("quiet", f"ids: {' '.join(str(token.id) for token in tokens)}"))
        return self._begin() + "\n".join(lines) + "\n"

    def end(self, summary: dict[str, Any]) -> str:
        return self._begin() + "\n" + "\n".join([*totals(summary), *findings(summary)]) + "\n"

    def _begin(self) -> str:
        title, self._title = self._title, None
        return title or ""

    def _head(self, record: dict[str, Any], more: list[str]) -> str:
        where = f"{record['file']} row {record['line']}" if record["file"] else "without a file"
        return "\n" + self._in("special", f"── row {self._number}: {visible(', '.join([where, *more]))}")

    def _marked(self, tokens: list[Token]) -> str:
        text = ""
        for weight, group in spans(tokens):
            written = "".join(self._in("special", token.text, weight) if token.special else visible(token.text) for token in group)
            mark = "" if weight in (0, 1) else f"{weight:g}:"
            if not weight:
                text += written
            elif self._coloured:
                text += self._in(colour(weight), mark + written)
            else:
                text += f"⟦{mark}{written}⟧"
        return text

    def _in(self, name: str, text: str, inside: float = 0.0) -> str:
        """`text` in a colour; within a stretch of some weight that stretch's colour goes on behind it."""
        if not self._coloured:
            return text
        again = f"\033[{COLOURS[colour(inside)]}m" if inside else ""
        return f"\033[{COLOURS[name]}m{text}\033[0m{again}"


def colour(weight: float) -> str:
    return "learned" if weight == 1 else "more" if weight > 1 else "less"


def facts(record: dict[str, Any], tokens: list[Token]) -> Iterator[str]:
    """For the headline of a row."""
    if "prompt" in record:
        yield f"{len(tokens):,} tokens of prompt"
        return
    if "target" in record:
        yield f"{len(tokens):,} tokens, label {' '.join(f'{value:g}' for value in record['target'])}"
    else:
        yield f"{len(tokens):,} tokens, {sum(token.weight != 0 for token in tokens[1:]):,} learned"
    if record["pack"] is not None:
        yield f"pack {record['pack']}"
    if record["part"]:
        yield record["part"]


def details(tokenizer: Any, tokens: list[Token]) -> Iterator[str]:
    """What the marked text does not show: where weights other than 0 and 1 lie, and tokens that are learned in another's place."""
    at = 0
    ranges = []
    for weight, group in spans(tokens):
        if weight not in (0, 1):
            ranges.append(f"{at}–{at + len(group) - 1}: {weight:g}" if len(group) > 1 else f"{at}: {weight:g}")
        at += len(group)
    if ranges:
        yield f"weights: {', '.join(ranges)}"
    others = [
        f"{at}: {word(tokenizer, token.label)} for {word(tokenizer, token.id)}"
        for at, token in enumerate(tokens)
        if token.label is not None
    ]
    if others:
        yield f"learned in place of what stands there: {', '.join(others)}"


def word(tokenizer: Any, id: int | None) -> str:
    return f"{tokenizer.decode([id], skip_special_tokens=False)!r} ({id})"


def totals(summary: dict[str, Any]) -> Iterator[str]:
    yield "── Totals"
    for stage in summary["stages"]:
        yield f"{stage['title']}: {stage['read']:,} read, {stage['kept']:,} kept, {stage['skipped']:,} skipped"
        for skip in summary["skipped"]:
            if skip["stage"] == stage["title"]:
                yield f"  {skip['count']:>7,}  {visible(skip['reason'] + places(skip))}"
    yield f"tokens: {learned(summary)}"
    packing, lengths = summary["packing"], summary["lengths"]
    if packing:
        yield f"packing: {packed(packing)}"
    else:
        yield "padding: none, rows are laid end to end"
    if lengths:
        yield f"lengths: {lengths['shortest']:,} to {lengths['longest']:,} tokens, median {lengths['median']:g}, mean {lengths['mean']:g}"
        most = max(bar["rows"] for bar in lengths["histogram"])
        ends = [f"{bar['from']:,}–{bar['to']:,}" for bar in lengths["histogram"]]
        for name, bar in zip(ends, lengths["histogram"], strict=True):
            yield f"  {name:>{max(map(len, ends))}}  {'█' * round(BAR * bar['rows'] / most)} {bar['rows']:,}"


def packed(packing: dict[str, Any]) -> str:
    unused = f"{packing['unused']:,} tokens unused ({packing['unused_share']:.1%})"
    return f"{packing['packs']:,} packed rows of {packing['capacity']:,} tokens, {unused}"


def learned(summary: dict[str, Any]) -> str:
    """How many tokens, how many of them are learned, and the sum of their weights where it says more."""
    if summary["task"] == "seq_cls":
        return f"{summary['tokens']:,}; no token is learned, the label of each row is"
    weight = "" if summary["weight"] == summary["trained_tokens"] else f", weighing {summary['weight']:g}"
    return f"{summary['tokens']:,}, {summary['trained_tokens']:,} of them learned ({summary['trained_share']:.1%}){weight}"


def places(found: dict[str, Any]) -> str:
    """` (file row 3, 8, …: detail)`"""
    known = [place for place in found["places"] if place["file"]]
    detail = next((place["detail"] for place in found["places"] if place.get("detail")), "")
    more = ", …" if known and found["count"] > len(known) else ""
    files = groupby(known, key=lambda place: place["file"])
    told = ", ".join(f"{file} row {', '.join(str(place['line']) for place in group)}" for file, group in files) + more
    together = ": ".join(part for part in (told, detail) if part)
    return f" ({together})" if together else ""


def findings(summary: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "── What the doctor found"
    if not summary["findings"]:
        yield "nothing odd" if not summary["error"] else "nothing beyond the error"
    for found in summary["findings"]:
        rows = f"{found['count']:,} row{'' if found['count'] == 1 else 's'}"
        yield visible(f"{found['code']}, {rows}{places(found)}: {found['message']}. Mend: {found['mend']}.")

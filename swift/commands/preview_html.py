"""A preview as one HTML page that needs no other file: rows with a box for each token, totals, the histogram, the doctor's findings."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from swift.commands.preview_text import details, facts, learned, packed, places
from swift.commands.preview_tokens import Token, tokens_of, visible

# The totals are known last and shown first: `order` moves them up.
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }}
body {{ display: flex; flex-direction: column; max-width: 70em; margin: 2em auto; padding: 0 1em }}
h1 {{ order: -2; font-size: 1.4em }} #totals {{ order: -1 }} h2 {{ font-size: 1.1em }} h3 {{ font-size: 1em; margin: 1.5em 0 0.3em }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8886; border-radius: 6px; padding: 0.6em; margin: 0 }}
pre span:hover {{ outline: 2px solid #48f }} .special {{ font-weight: bold }} .other {{ text-decoration: underline wavy }}
table {{ border-collapse: collapse }} td, th {{ border: 1px solid #8886; padding: 0.2em 0.6em; text-align: left; vertical-align: top }}
td.n {{ text-align: right }} details {{ margin-top: 0.3em; overflow-wrap: anywhere }} rect {{ fill: #48f }} svg text {{ fill: currentColor; font-size: 12px }}
</style></head><body>
<h1>{title}</h1>
<p>A learned token has a background: green for weight 1, fainter below, yellow above. Point at a token for its number, id and weight.
Bold tokens are special ones; where a wavy line is, another token is learned than the one that stands there.</p>
"""


class HtmlPage:
    """`row` as they come, then `end`."""

    def __init__(self, tokenizer: Any, title: str) -> None:
        self._tokenizer = tokenizer
        self._head: str | None = HEAD.format(title=escape(title))
        self._number = 0

    def row(self, record: dict[str, Any]) -> str:
        self._number += 1
        where = f"{record['file']} row {record['line']}" if record["file"] else "without a file"
        if record["input_ids"] is None:
            return self._begin() + f"<h3>Row {self._number}: {escape(where)}</h3>\n<p>{escape(record['refused'])}</p>\n"
        tokens = tokens_of(self._tokenizer, record)
        head = ", ".join([where, *facts(record, tokens)])
        boxes = "".join(self._box(at, token) for at, token in enumerate(tokens))
        more = "".join(f"<p>{escape(line)}</p>\n" for line in details(self._tokenizer, tokens))
        ids = " ".join(str(token.id) for token in tokens)
        return (
            self._begin()
            + f"<h3>Row {self._number}: {escape(head)}</h3>\n<pre>{boxes}</pre>\n{more}<details><summary>ids</summary>{ids}</details>\n"
        )

    def end(self, summary: dict[str, Any]) -> str:
        parts = [*totals(summary), *histogram(summary), *findings(summary)]
        return self._begin() + '<section id="totals">\n' + "\n".join(parts) + "\n</section>\n</body></html>\n"

    def _begin(self) -> str:
        head, self._head = self._head, None
        return head or ""

    def _box(self, at: int, token: Token) -> str:
        told = f"token {at}, id {token.id}, weight {token.weight:g}" + (f", learned is id {token.label}" if token.label is not None else "")
        names = " ".join(name for name, has in (("special", token.special), ("other", token.label is not None)) if has)
        style = f' style="background:{background(token.weight)}"' if token.weight else ""
        named = f' class="{names}"' if names else ""
        return f'<span{named}{style} title="{told}">{escape(visible(token.text))}</span>'


def background(weight: float) -> str:
    """Green for 1, paler the less a token weighs; yellow above 1, and red below 0."""
    if weight < 0:
        return "#f446"
    return f"rgb(240 180 0 / {min(0.35 + 0.1 * weight, 0.9):.2f})" if weight > 1 else f"rgb(40 170 80 / {0.12 + 0.33 * weight:.2f})"


def totals(summary: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Totals</h2>\n<table>"
    for stage in summary["stages"]:
        yield line(stage["title"], f"{stage['read']:,} read, {stage['kept']:,} kept, {stage['skipped']:,} skipped")
    yield line("tokens", learned(summary))
    packing, lengths = summary["packing"], summary["lengths"]
    if packing:
        yield line("packing", packed(packing))
    else:
        yield line("padding", "none, rows are laid end to end")
    if lengths:
        told = f"{lengths['shortest']:,} to {lengths['longest']:,} tokens, median {lengths['median']:g}, mean {lengths['mean']:g}"
        yield line("lengths", told)
    if summary["error"]:
        yield line("error", summary["error"])
    yield "</table>"
    if summary["skipped"]:
        yield "<h2>Rows that train nothing</h2>\n<table>\n<tr><th>rows</th><th>reason</th><th>where</th></tr>"
        for skip in summary["skipped"]:
            yield cells(skip["count"], f"{skip['reason']} ({skip['stage']})", places(skip).strip(" ()"))
        yield "</table>"


def histogram(summary: dict[str, Any]) -> Iterator[str]:
    """Bars that lie, as SVG: a row of text and a bar of at most 400 units each."""
    if not summary["lengths"]:
        return
    bars = summary["lengths"]["histogram"]
    most = max(bar["rows"] for bar in bars)
    yield f'<h2>Lengths in tokens</h2>\n<svg role="img" width="620" height="{20 * len(bars)}" viewBox="0 0 620 {20 * len(bars)}">'
    for at, bar in enumerate(bars):
        wide = 400 * bar["rows"] / most
        yield f'<text x="110" y="{20 * at + 14}" text-anchor="end">{bar["from"]:,}–{bar["to"]:,}</text>'
        yield f'<rect x="120" y="{20 * at + 3}" width="{wide:.1f}" height="14"/>'
        yield f'<text x="{126 + wide:.1f}" y="{20 * at + 14}">{bar["rows"]:,}</text>'
    yield "</svg>"


def findings(summary: dict[str, Any]) -> Iterator[str]:
    yield "<h2>What the doctor found</h2>"
    if not summary["findings"]:
        yield "<p>Nothing odd.</p>" if not summary["error"] else "<p>Nothing beyond the error.</p>"
        return
    yield "<table>\n<tr><th>rows</th><th>finding</th><th>where</th><th>what it is</th><th>mend</th></tr>"
    for found in summary["findings"]:
        yield cells(found["count"], found["code"], places(found).strip(" ()"), found["message"], found["mend"])
    yield "</table>"


def line(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"


def cells(count: int, *texts: str) -> str:
    return f'<tr><td class="n">{count:,}</td>' + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>"

"""Group of swift preview: how the rows are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swift.args.field import arg


@dataclass(frozen=True)
class PreviewArgs:
    """What swift preview shows beside a training command's arguments; read by commands/preview.py."""

    format: Literal["text", "json", "html"] = arg(
        "text",
        "What is written to stdout: text with the trained tokens marked, one JSON object a line (each row, then the summary), or one HTML "
        "page that needs no other file.",
        hot=True,
    )
    preview_rows: int = arg(
        5, "Rows that are shown, in the order of the data; 0 shows all. The totals are always those of all rows.", hot=True, low=0
    )
    generation: bool = arg(
        False, "Show the prompt of each row as inference would send it, with the reply still open, instead of the row that is trained."
    )

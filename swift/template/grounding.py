"""Grounding in text: the tags <ref-object> and <bbox> of messages, filled from a row's `objects`. Coordinates stay as they are.

They are scaled beside images only (--norm_bbox), which models of text have none of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from swift.data.sample import Message
from swift.template.encoded import RowSkipped

REF, BOX = "<ref-object>", "<bbox>"
_TAGS = re.compile(f"{REF}|{BOX}")


def grounded(messages: Sequence[Message], objects: Any) -> list[Message]:
    """Messages with the tags filled in order over the whole conversation; tags beyond the last object stay as they are.

    `objects` is `{"ref": [text], "bbox": [[x, y] or [x1, y1, x2, y2]]}` or its JSON text. RowSkipped where it cannot be read.
    """
    refs, boxes = _read(objects)
    words = {REF: iter(refs), BOX: iter(map(_written, boxes))}

    def word(tag: re.Match[str]) -> str:
        return next(words[tag.group()], tag.group())

    filled = []
    for message in messages:
        content = _TAGS.sub(word, message.content)
        filled.append(message if content == message.content else replace(message, content=content))
    return filled


def _read(objects: Any) -> tuple[list[str], list[list[float]]]:
    if isinstance(objects, str):
        try:
            objects = json.loads(objects)
        except ValueError as error:
            raise RowSkipped("objects cannot be read", f"objects is not JSON: {error}") from None
    if not isinstance(objects, dict):
        raise RowSkipped("objects cannot be read", 'expected {"ref": [...], "bbox": [...]}')
    refs, boxes = objects.get("ref") or [], objects.get("bbox")
    if boxes is None:
        raise RowSkipped("objects cannot be read", "objects has no bbox")
    if not isinstance(refs, list) or not all(isinstance(ref, str) for ref in refs):
        raise RowSkipped("objects cannot be read", "ref is not a list of texts")
    if not isinstance(boxes, list) or not all(_is_box(box) for box in boxes):
        raise RowSkipped("objects cannot be read", "bbox is not a list of [x, y] or [x1, y1, x2, y2]")
    return refs, boxes


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) in (2, 4) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in box)


def _written(box: list[float]) -> str:
    """`[(x1,y1),(x2,y2)]`, the smaller coordinates first; a point as `[(x,y)]`."""
    if len(box) == 2:
        return f"[({box[0]},{box[1]})]"
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    return f"[({left},{top}),({right},{bottom})]"

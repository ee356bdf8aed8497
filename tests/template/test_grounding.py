"""Tags of objects in text rows."""

from __future__ import annotations

import json

import pytest

from swift.data.sample import Message, Sample
from swift.template.encoded import RowSkipped
from swift.template.grounding import grounded
from tests.template.conftest import template

OBJECTS = {"ref": ["sheep", "dog"], "bbox": [[10, 20, 30, 40], [70, 80, 50, 60], [1, 2.5]]}


def _texts(objects, *texts: str) -> list[str]:
    return [message.content for message in grounded([Message("user", text) for text in texts], objects)]


def test_tags_are_filled_in_order_over_the_whole_conversation_and_surplus_ones_stay():
    filled = _texts(OBJECTS, "find <ref-object><bbox>", "<bbox> <ref-object>", "<bbox>, <bbox> <ref-object>")
    assert filled == ["find sheep[(10,20),(30,40)]", "[(50,60),(70,80)] dog", "[(1,2.5)], <bbox> <ref-object>"]


def test_objects_may_be_json_and_words_of_an_object_are_no_tags():
    assert _texts(json.dumps(OBJECTS), "<ref-object>") == ["sheep"]
    assert _texts({"ref": ["<bbox>", "b"], "bbox": [[1, 2]]}, "<ref-object> <bbox> <ref-object>") == ["<bbox> [(1,2)] b"]


@pytest.mark.parametrize(
    ("objects", "detail"),
    [
        ("{", "not JSON"),
        ([1], "expected"),
        ({"ref": []}, "no bbox"),
        ({"ref": [1], "bbox": []}, "ref is not"),
        ({"bbox": [[1, 2, 3]]}, "bbox is not"),
        ({"bbox": [["1", 2]]}, "bbox is not"),
        ({"bbox": [1, 2]}, "bbox is not"),
    ],
)
def test_objects_that_cannot_be_read_skip_the_row(objects, detail):
    with pytest.raises(RowSkipped, match=f"objects cannot be read: .*{detail}"):
        _texts(objects, "<bbox>")


def test_a_row_is_learned_as_if_the_words_stood_in_it_and_is_left_as_it_was(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"))
    tagged = Sample.of(("user", "find <ref-object>"), ("assistant", "<bbox>"), extra={"objects": OBJECTS})
    plain = Sample.of(("user", "find sheep"), ("assistant", "[(10,20),(30,40)]"))
    assert ours.encode_sample(tagged) == ours.encode_sample(plain)
    assert ours.prompt(tagged) == ours.prompt(plain) and tagged.messages[1].content == "<bbox>"

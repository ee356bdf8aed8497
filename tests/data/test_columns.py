"""Each shape of row becomes the same messages; each bad row gives its reason."""

from __future__ import annotations

from typing import Any

import pytest

from swift import logs
from swift.data.columns import Columns, to_row
from swift.data.sample import Origin
from swift.template.encoded import RowSkipped

HERE = Origin("rows.jsonl", 7)


def turns(row: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in Columns(**options)(row, HERE).messages]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(logs, "warn_once", lines.append)
    monkeypatch.setattr(logs, "info_once", lines.append)
    return lines


S, Q1, A1, Q2, A2 = ("system", "S"), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")
WITH_SYSTEM = [S, Q1, A1, Q2, A2]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": role, "content": text} for role, text in WITH_SYSTEM]},
        {"messages": [{"from": role, "value": text} for role, text in WITH_SYSTEM]},
        {"system": "S", "conversation": [{"human": "q1", "assistant": "a1"}, {"user": "q2", "gpt": "a2"}]},
        {
            "system_prompt": "S",
            "conversations": [{"from": f, "value": v} for f, v in (("human", "q1"), ("gpt", "a1"), ("user", "q2"), ("bot", "a2"))],
        },
        {"system": "S", "query": "q2", "response": "a2", "history": [["q1", "a1"]]},
        {"System": "S", "Prompt": "q2", "Answer": "a2", "history": "[('q1', 'a1')]"},
        {"system": "S", "instruction": "q2", "input": "", "output": "a2", "history": [["q1", "a1"]]},
        {"messages": str([{"role": role, "content": text} for role, text in WITH_SYSTEM])},
        {"system": "not this one", "messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in WITH_SYSTEM]},
    ],
)
def test_every_shape_gives_the_same_messages(row: dict[str, Any]) -> None:
    assert turns(row) == WITH_SYSTEM


def test_alpaca_joins_instruction_and_input_with_a_newline() -> None:
    assert turns({"instruction": "i", "input": "x", "output": "o"}) == [("user", "i\nx"), ("assistant", "o")]
    assert turns({"instruction": "", "input": "x", "output": "o"})[0] == ("user", "x")
    assert turns({"instruction": "", "input": "", "output": "o"})[0] == ("user", "")


@pytest.mark.parametrize(
    "row", [{"text": "raw"}, {"response": "raw"}, {"messages": [{"role": "assistant", "content": "raw"}]}, {"content": "raw"}]
)
def test_text_alone_is_an_answer_without_a_question(row: dict[str, Any]) -> None:
    assert turns(row) == [("assistant", "raw")]


def test_rows_without_an_answer_are_kept() -> None:
    assert turns({"query": "q1"}) == [Q1]
    assert turns({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "q1"}]}) == [S, Q1]


def test_adjacent_answers_and_tool_results_are_kept() -> None:
    row = [("user", "q"), ("assistant", "a"), ("assistant", "b"), ("tool", "1"), ("tool", "2"), ("assistant", "c")]
    assert turns({"messages": [{"role": r, "content": c} for r, c in row]}) == row


def test_an_empty_system_string_is_kept_from_json_but_not_from_a_table() -> None:
    row = {"system": "", "query": "q1", "response": "a1"}
    assert turns(row)[0] == ("system", "")
    assert [m.role for m in Columns()(row, Origin("rows.csv", 2)).messages] == ["user", "assistant"]


def test_numbers_become_text() -> None:
    assert turns({"query": 3, "response": 2.5}) == [("user", "3"), ("assistant", "2.5")]


def test_one_of_several_answers_is_picked_by_seed_and_row() -> None:
    row = {"query": "q", "response": list("abcdefgh")}
    assert turns(row, seed=1) == turns(row, seed=1)
    assert len({turns(row, seed=seed)[1] for seed in range(30)}) > 3


BAD = [
    ({"messages": []}, "no messages", "empty list"),
    ({"messages": [{"role": "system", "content": "s"}]}, "no messages", "no message"),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "asistant", "content": "a"}]},
        "unknown role",
        "message 2 has role 'asistant'; expected system, user, assistant or tool; did you mean assistant?",
    ),
    ({"messages": [{"role": "user", "content": "q"}] * 2 + [{"role": "assistant", "content": "a"}]}, "two questions", "message 2 (user)"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "system", "content": "s"}]}, "not the first", "message 2"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}]}, "empty answer", "message 2"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]}, "empty answer", "message 2"),
    ({"messages": [{"role": "user", "contnet": "q"}]}, "without content", "only 'role', 'contnet'; did you mean content?"),
    ({"messages": [{"rolle": "user", "content": "q"}]}, "messages cannot be read", "did you mean role?"),
    ({"prompt": "q", "chosen": "a", "rejected": "a"}, "rejected equals", "same"),
    ({"prompt": "q", "chosen": "", "rejected": "a"}, "empty answer", "message 2"),
    (
        {
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
        },
        "rejected asks something else",
        "differ",
    ),
    ({"query": "q", "response": "r", "label": ["x"]}, "label cannot be read", "list of numbers"),
    ({"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "a"}]}, "not text", "message 1 (user) is null"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "part", "image_url"),
    ({"messages": "nothing"}, "messages cannot be read", "neither JSON"),
    ({"messages": [3]}, "messages cannot be read", "message 1"),
    ({"messages": [{"content": "x"}]}, "messages cannot be read", "neither a role nor a pair"),
    ({"messages": [{"role": "assistant", "content": "x", "loss": "no"}]}, "loss cannot be read", "'no'"),
    ({"query": "q", "response": ""}, "empty answer", "message 2"),
    ({"query": {"a": 1}, "response": "r"}, "not text", "query is an object"),
    ({"query": "q\ud800", "response": "r"}, "broken Unicode", "surrogate"),
    ({"query": "q", "response": "r", "history": [["one"]]}, "history cannot be read", "pairs"),
    ({"query": "q", "response": "r", "tools": "[{"}, "tools cannot be read", "not JSON"),
    ({"query": "q", "response": "r", "tools": [3]}, "tools cannot be read", "objects"),
    ({"query": "q", "response": "r", "label": "good"}, "label cannot be read", "'good'"),
    ({"query": "q", "response": "r", "rejected_response": "r"}, "rejected equals", "same"),
    ({"id": 3, "score": 0.5}, "no column that SWIFT knows", "id, score"),
    ({"query": None, "response": None}, "no column", "query, response"),
]


@pytest.mark.parametrize(("row", "reason", "detail"), BAD)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str, detail: str) -> None:
    with pytest.raises(RowSkipped) as caught:
        Columns()(row, HERE)
    assert reason in caught.value.reason
    assert detail in caught.value.detail


ASKED = [("system", "S"), ("user", "q")]


@pytest.mark.parametrize(
    "row",
    [
        {"system": "S", "prompt": "q", "chosen": "good", "rejected": "bad"},
        {"system": "S", "question": "q", "chosen": "good", "rejected": "bad"},
        {"system": "S", "instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
        {"system": "S", "query": "q", "response": "good", "rejected_response": "bad"},
        {
            "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
        {  # the whole conversation stands in three columns, and the prompt in a fourth
            "system": "S",
            "prompt": "q",
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
        {"system": "S", "chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    ],
)  # fmt: skip
def test_every_shape_of_a_pair_gives_the_same_conversations(row: dict[str, Any]) -> None:
    sample = Columns()(row, HERE)
    assert [(m.role, m.content) for m in sample.messages] == [*ASKED, ("assistant", "good")]
    assert [(m.role, m.content) for m in sample.rejected or []] == [*ASKED, ("assistant", "bad")]


def test_a_prompt_and_a_completion_may_be_conversations() -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}], "label": True}
    assert turns(row) == [("user", "q"), ("assistant", "a")]
    assert Columns()(row, HERE).label is True


def test_calls_of_tools_are_read_in_every_spelling() -> None:
    call = {"name": "add", "arguments": {"a": 2}}
    for said in (
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
        {"role": "tool_call", "content": call},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
    ):
        sample = Columns()({"messages": [{"role": "user", "content": "2?"}, said, {"role": "observation", "content": "4"}]}, HERE)
        assert sample.messages[1].tool_calls == [{"type": "function", "function": call}]
        assert [m.role for m in sample.messages] == ["user", "assistant", "tool"]
    text = Columns()({"messages": [{"role": "user", "content": "2?"}, {"role": "function_call", "content": "Action: add"}]}, HERE)
    assert (text.messages[1].content, text.messages[1].tool_calls) == ("Action: add", None)


def test_thoughts_beside_an_answer_are_put_before_it() -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "reasoning_content": "hm\n", "content": "a"}]}
    assert turns(row)[1] == ("assistant", "<think>\nhm\n</think>\n\na")


def test_a_text_with_a_class_is_what_is_classified() -> None:
    assert turns({"text": "fine", "label": 1}, task="seq_cls") == [("user", "fine")]
    assert turns({"text": "fine", "label": 1}) == [("assistant", "fine")]


def test_inference_takes_an_empty_last_answer_as_a_place_for_one() -> None:
    assert turns({"query": "q1", "response": ""}, task="infer") == [Q1]
    with pytest.raises(RowSkipped):
        turns({"messages": [{"role": "assistant", "content": ""}, {"role": "user", "content": "q"}]}, task="infer")


def test_an_answer_of_tool_calls_alone_is_not_empty() -> None:
    call = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    sample = Columns()({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": call}]}, HERE)
    assert sample.messages[1].tool_calls == call


def test_tools_as_objects_lose_nulls_and_tools_as_text_keep_them() -> None:
    tool = {"name": "f", "parameters": {"x": None, "y": {"type": "string", "enum": [None, "a"]}}}
    row = {"query": "q", "response": "r"}
    assert Columns()(row | {"tools": [tool]}, HERE).tools == [{"name": "f", "parameters": {"y": {"type": "string", "enum": [None, "a"]}}}]
    assert Columns()(row | {"tools": '[{"name": "f", "default": null}]'}, HERE).tools == [{"name": "f", "default": None}]
    assert Columns()(row | {"tools": []}, HERE).tools == []
    assert Columns()(row | {"tools": ""}, HERE).tools is None


@pytest.mark.parametrize(("given", "read"), [(True, True), ("true", True), ("2", 2), ("0.5", 0.5), ("", None), ([1, 0], [1, 0]), (3, 3)])
def test_labels_are_read_from_json_and_from_tables(given: Any, read: Any) -> None:
    label = Columns()({"query": "q", "label": given}, HERE).label
    assert label == read and type(label) is type(read)


def test_the_loss_of_a_message_is_kept() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": False}, {"role": "user", "content": "q"}]
    assert [m.loss for m in Columns()({"messages": messages}, HERE).messages] == [None, False, None]


def test_rejected_conversations_keep_their_own_history_and_the_system_text() -> None:
    chosen = [{"role": "system", "content": "S"}, *({"role": r, "content": c} for r, c in (Q1, A1, Q2, A2))]
    other = [{"role": r, "content": c} for r, c in (Q1, ("assistant", "b1"), Q2, ("assistant", "b2"))]
    rejected = Columns()({"messages": chosen, "rejected_messages": other}, HERE).rejected
    assert rejected is not None
    assert [(m.role, m.content) for m in rejected] == [S, Q1, ("assistant", "b1"), Q2, ("assistant", "b2")]
    with pytest.raises(RowSkipped, match="asks something else"):
        Columns()({"messages": chosen, "rejected_messages": other[:1] + other[3:]}, HERE)


def test_chosen_and_rejected_conversations_are_a_pair() -> None:
    row = {
        "chosen": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}],
        "rejected": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "b1"}],
    }
    sample = Columns()(row, HERE)
    assert sample.messages[1].content == "a1"
    assert sample.rejected is not None and sample.rejected[1].content == "b1"


def test_columns_are_mapped_without_case_and_before_columns_of_that_name() -> None:
    assert turns({"Text1": "q", "text2": "a"}, mapping={"text1": "query", "text2": "response"}) == [("user", "q"), ("assistant", "a")]
    assert turns({"query": "no", "mine": "yes", "response": "a"}, mapping={"mine": "query"})[0] == ("user", "yes")
    assert turns({"query": "q", "system": "hide me", "response": "a"}, mapping={"system": "_"}) == [("user", "q"), ("assistant", "a")]
    swapped = turns({"query": "a", "response": "q"}, mapping={"query": "response", "response": "query"})
    assert swapped == [("user", "q"), ("assistant", "a")]


def test_ambiguous_columns_follow_the_order_and_are_named(said: list[str]) -> None:
    assert turns({"question": "q", "output": "o", "answer": "a"}) == [("user", "q"), ("assistant", "a")]
    assert turns({"question": "q", "input": "i", "output": "o"}) == [("user", "q"), ("assistant", "o")]
    assert any("'answer', 'output' can all be the response; 'answer' is used" in line for line in said)


@pytest.mark.parametrize(
    ("row", "wrong", "right"),
    [
        ({"text": "a", "lable": "1"}, "lable", "label"),
        ({"query": "q", "respones": "a"}, "respones", "response"),
        ({"mesages": [], "text": "t"}, "mesages", "messages"),
    ],
)
def test_a_misspelt_column_is_named_with_the_likely_one(row: dict[str, Any], wrong: str, right: str, said: list[str]) -> None:
    Columns()(row, HERE)
    assert [line for line in said if repr(wrong) in line and f"did you mean {right!r}?" in line]


def test_unused_columns_are_named_once_a_file(said: list[str]) -> None:
    columns = Columns()
    for line in range(3):
        columns({"query": "q", "response": "a", "id": line}, Origin("a.jsonl", line))
    assert len([line for line in said if "id" in line]) == 1
    columns({"query": "q", "response": "a", "id": 1}, Origin("b.jsonl", 1))
    assert len([line for line in said if "not used: id" in line]) == 2


def test_other_columns_are_kept_in_order_only_when_asked() -> None:
    row = {"z": 1, "query": "q", "solution": "42", "image": "a.png", "a": None, "b": [2]}
    assert Columns()(row, HERE).extra == {"images": "a.png"}
    kept = Columns(keep_extra=True)(row, HERE).extra
    assert list(kept.items()) == [("z", 1), ("solution", "42"), ("images", "a.png"), ("b", [2])]


def test_a_sample_written_as_a_row_reads_back_the_same() -> None:
    row = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": 0.5}],
        "rejected_response": "b",
        "label": 1,
        "tools": [{"name": "f"}],
        "id": 5,
    }
    columns = Columns(keep_extra=True)
    sample = columns(row, HERE)
    assert columns(to_row(sample), HERE) == sample

"""--loss_scale: the published tables, weights of one's own from a file or a plugin, and the loss that they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from swift.args.parse import ArgumentErrors, parse
from swift.data.sample import Message, Sample
from swift.errors import UsageError
from swift.template.encoded import IGNORE
from swift.template.loss_scale import Answer, LossScale, loss_scale, loss_scales
from tests.template.conftest import template

STEP = 'Thought: look\nAction: f\nAction Input: {"a": 1}\nObservation: 3\nThought: done\nFinal Answer: 3'
SFT = ["--model", "Qwen/Qwen2.5-0.5B", "--dataset", "swift/nano-chat", "--dry_run", "true"]


def _split(name: str, text: str, query: str = "q") -> list[tuple[str, float]]:
    parts = loss_scale(name).split(Answer(text, query, True))
    assert "".join(part for part, _ in parts) == text
    return parts


def test_react_counts_calls_twice_and_results_not_at_all():
    assert _split("react", "So. " + STEP) == [
        ("So. ", 1),
        ("Thought:", 1),
        (" look\n", 1),
        ("Action:", 2),
        (" f\n", 2),
        ("Action Input:", 2),
        (' {"a": 1}\n', 2),
        ("Observation:", 2),
        (" 3\n", 0),
        ("Thought:", 1),
        (" done\n", 1),
        ("Final Answer:", 1),
        (" 3", 1),
    ]


def test_keywords_count_in_their_own_case_and_within_words():
    assert _split("react", "action: f") == [("action: f", 1)]
    assert _split("react", "reAction: f") == [("re", 1), ("Action:", 2), (" f", 2)]


def test_alpha_umi_is_react_with_next():
    assert _split("alpha_umi", STEP) == _split("react", STEP)
    assert _split("alpha_umi", "Next: caller") == [("Next:", 2), (" caller", 2)]
    assert _split("react", "Next: caller") == [("Next: caller", 1)]


def test_qwen_counts_its_flowers():
    text = "Hm.\n✿FUNCTION✿: f\n✿ARGS✿: {}\n✿RESULT✿: 3\n✿RETURN✿: three"
    assert [weight for _, weight in _split("qwen", text)] == [1, 2, 2, 2, 2, 2, 0, 1, 1]


def test_agentflan_counts_arguments_three_times_and_answers_to_its_questions_whole():
    keywords = ["Name:", "Action:", "ACTION:", "Tool:", "Command", "Arguments:", "action input", "ACTION_INPUT:", "Action Input:"]
    for word in keywords:
        assert _split("agentflan", f"{word} x") == [(word, 1), (" x", 3)]
    assert _split("agentflan", "Thought: a Final Answer: b Observation: c") == [
        ("Thought:", 1),
        (" a ", 1),
        ("Final Answer:", 1),
        (" b ", 1),
        ("Observation:", 2),
        (" c", 0),
    ]
    for query in (
        "What is the tool you want to use?",
        "What are the required parameter names for this tool?",
        "And: What is the value of x",
    ):
        assert _split("agentflan", "Action: x", query) == [("Action: x", 3)]


def test_weights_and_labels_of_an_agents_row(load):
    """0 is not learned; the stop after each answer is, with weight 1, also after one in the middle (Appendix E)."""
    tokenizer = load("Qwen--Qwen2.5-7B-Instruct")
    ours = template("qwen2_5", tokenizer, loss_scale="react")
    sample = Sample.of(
        ("user", "q"), ("assistant", "Action: f\nObservation: never learned\nThought: ok"), ("user", "r"), ("assistant", "Final Answer: 3")
    )
    encoded = ours.encode_sample(sample)

    def words(weight: float) -> str:
        return tokenizer.decode([i for i, w in zip(encoded.labels, encoded.weights, strict=True) if w == weight and i != IGNORE])  # type: ignore[return-value]

    assert words(2) == "Action: f\nObservation:"
    assert words(1) == "Thought: ok<|im_end|>Final Answer: 3<|im_end|>"
    assert [weight for weight, label in zip(encoded.weights, encoded.labels, strict=True) if (label == IGNORE) != (weight == 0)] == []


def test_a_messages_own_loss_wins_over_keywords(load):
    ours = template("qwen2_5", load("Qwen--Qwen2.5-7B-Instruct"), loss_scale="react")
    sample = Sample([Message("user", "q"), Message("assistant", "Action: f", loss=0.5), Message("assistant", " Observation: x")])
    assert sorted({*ours.encode_sample(sample).weights}) == [0.0, 0.5, 1.0, 2.0]


def test_the_loss_is_the_weighted_sum_over_the_number_of_learned_tokens():
    """Not over the sum of weights. Oracle: torch's cross entropy on plain logits."""
    from swift.objectives.objective import Batch
    from swift.objectives.sft import SFT

    torch.manual_seed(0)
    logits, labels = torch.randn(1, 6, 11), torch.tensor([[3, IGNORE, 5, 1, IGNORE, 2]])
    weights = torch.tensor([[2.0, 0.0, 1.0, 3.0, 0.0, 0.5]])

    class Policy:
        def logps(self, batch, *, want_correct, slopes):
            assert torch.equal(slopes, weights)
            safe = labels.clamp(min=0)
            return logits.log_softmax(-1).gather(-1, safe[..., None])[..., 0] * (labels >= 0), None

    batch: Batch = {"shift_labels": labels, "weights": weights}  # type: ignore[assignment]
    sums = SFT().loss(Policy(), batch, metrics=False).sums  # type: ignore[arg-type]
    ours = sums["tokens"] / SFT().counts(batch)["tokens"]
    each = torch.nn.functional.cross_entropy(logits[0], labels[0], ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(ours, (each * weights[0]).sum() / 4)


# one's own


def test_a_file_of_weights_with_a_regular_expression_and_questions(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"SQL:": [1, 3], r"\d+": [0.5]}), encoding="utf-8")
    assert _split(str(file), "So 12 SQL: a 34") == [("So ", 1), ("12", 0.5), (" SQL:", 1), (" a ", 3), ("34", 0.5)]
    file.write_text(json.dumps({"response": {"SQL:": [1, 3]}, "query": {"slowly": [0]}}), encoding="utf-8")
    assert _split(str(file), "SQL: a", "go slowly") == [("SQL: a", 0)] and _split(str(file), "SQL: a") == [("SQL:", 1), (" a", 3)]


def test_a_file_on_the_command_line_is_kept_by_its_whole_path(tmp_path, monkeypatch):
    Path(tmp_path / "mine.json").write_text('{"A:": [2, 2]}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    args = parse("sft", [*SFT, "--loss_scale", "mine.json"])
    assert args.template.loss_scale == str((tmp_path / "mine.json").resolve())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "is not there"),
        ("{", "is no JSON"),
        ("[1]", "expected an object of keywords"),
        ("{}", "expected an object of keywords"),
        ('{"A:": 2}', r"'A:': expected \[weight\] or \[weight, weight of the text behind it\].*got 2"),
        ('{"A:": [1, 2, 3]}', "got .1, 2, 3."),
        ('{"A:": [1, -2]}', "at least 0"),
        ('{"A:": [true, 1]}', "of numbers"),
        ('{"(": [1]}', "'\\('.*is no regular expression"),
        ('{"": [1, 1]}', "empty keyword"),
    ],
)
def test_a_broken_file_is_refused_before_anything_starts(content, complaint, tmp_path):
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    words = [word for word in SFT if word not in ("--dry_run", "true")]
    with pytest.raises(ArgumentErrors, match=f"--loss_scale: .*{complaint}"):
        parse("sft", [*words, "--loss_scale", str(file)])
    with pytest.raises(UsageError, match=complaint):
        loss_scale(str(file))


def test_a_plugins_scale_is_found_by_its_name():
    loss_scales["mine"] = LossScale(lambda answer: [(answer.text, 7.0)])
    try:
        assert _split("mine", "a") == [("a", 7.0)]
    finally:
        del loss_scales["mine"]


# other flags of this part


def test_sequence_parallel_is_refused_with_what_to_do_instead():
    with pytest.raises(ArgumentErrors, match="--sequence_parallel_size is part of SWIFT but not built yet: leave it out"):
        parse("sft", [*SFT, "--sequence_parallel_size", "2"])


def test_norm_bbox_says_that_there_are_no_images():
    args = parse("sft", [*SFT, "--norm_bbox", "norm1000"])
    assert any("--norm_bbox has no effect" in note for note in args.notes)

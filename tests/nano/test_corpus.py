"""What the nano model is taught."""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import Literal

import pytest

from scripts.nano import arithmetic, skills
from scripts.nano.evaluate import TOLD, is_right
from scripts.nano.make_corpus import conversations, documents, held_out_questions

PAIRS = list(itertools.product(range(100), range(100)))


def last_number(text: str) -> int:
    return int(re.findall(r"-?\d+", text)[-1])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("op", ["+", "-"])
def test_a_careful_working_is_right_for_every_sum(op: str, language: Literal["en", "zh"]) -> None:
    for a, b in PAIRS:
        assert last_number(arithmetic.worked(a, op, b, language)) == arithmetic.result(a, op, b)


@pytest.mark.parametrize("op", ["+", "-"])
def test_a_careless_working_is_wrong_where_something_is_carried(op: str) -> None:
    for a, b in PAIRS:
        right = last_number(arithmetic.worked(a, op, b, careless=True)) == arithmetic.result(a, op, b)
        assert right != arithmetic.has_carry(a, op, b)


def test_between_half_and_two_thirds_of_all_sums_carry_nothing() -> None:
    for op in "+-":
        assert 0.5 < sum(not arithmetic.has_carry(a, op, b) for a, b in PAIRS) / len(PAIRS) < 0.67


@pytest.mark.parametrize("skill", list(skills.SKILLS))
def test_every_answer_counts_as_right_for_its_own_solution(skill: str) -> None:
    rng = random.Random(1)
    for _ in range(200):
        found = skills.draw(rng, held_out=False, careless=0.0, skills=(skill,))
        assert found.question and found.answer
        assert is_right(found.skill, found.answer, found.solution), found


def test_no_held_out_sum_is_trained_on() -> None:
    def pair(row: dict) -> tuple[int, ...]:
        return tuple(sorted(int(number) for number in re.findall(r"\d+", row["messages"][-2]["content"])))

    rng = random.Random(2)
    trained = {skills.draw(rng, held_out=False, careless=0.5, skills=("addition",)).key for _ in range(20_000)}
    asked = [row for row in held_out_questions(50, seed=0) if row["skill"] == "addition"]
    assert asked and not {"+:{}:{}".format(*pair(row)) for row in asked} & trained


def test_the_same_seed_gives_the_same_corpus() -> None:
    for make in (documents, conversations):
        assert list(make(20, 5, 0.5)) == list(make(20, 5, 0.5)) != list(make(20, 6, 0.5))


def test_every_skill_is_measured_and_described() -> None:
    asked = [row["skill"] for row in held_out_questions(1, seed=0)]
    assert set(skills.SKILLS) <= set(TOLD)
    assert len(asked) == len(skills.SKILLS)


def test_no_text_spells_a_turn_marker() -> None:
    for row in [*documents(50, 0, 0.5), *conversations(500, 0, 0.5)]:
        assert "<|" not in json.dumps(row)


def test_conversations_take_turns_and_end_with_the_assistant() -> None:
    for row in conversations(500, 0, 0.5):
        roles = [message["role"] for message in row["messages"] if message["role"] != "system"]
        assert roles[1::2] == ["assistant"] * (len(roles) // 2) and set(roles[::2]) <= {"user", "tool"}

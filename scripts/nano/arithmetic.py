"""Addition and subtraction of numbers up to 99, worked digit by digit, in English and Chinese.

A careless working forgets the carry or the loan. The model is shown more careless workings than careful ones (`--careless`), so that
greedy answers are right where nothing is carried, and about half of all sums are; sampling still finds the careful way,
which leaves reinforcement learning something real to learn.
"""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]


def result(a: int, op: str, b: int) -> int:
    return a + b if op == "+" else a - b


def has_carry(a: int, op: str, b: int) -> bool:
    """Whether a careless working of this sum comes out wrong."""
    high, low = max(a, b), min(a, b)
    if high < 10:
        return False
    return a % 10 + b % 10 > 9 if op == "+" else high % 10 < low % 10


def worked(a: int, op: str, b: int, language: Language = "en", *, careless: bool = False) -> str:
    """The working and the answer, in one short line."""
    if op == "-" and a < b:
        steps, value = _steps(b, "-", a, language, careless)
        turn = f"{a} < {b}, so {b} - {a}. " if language == "en" else f"{a} < {b}，先算 {b} - {a}。"
        return turn + steps + _answer(-value, language)
    steps, value = _steps(a, op, b, language, careless)
    return steps + _answer(value, language)


def _answer(value: int, language: Language) -> str:
    return f"The answer is {value}." if language == "en" else f"答案是 {value}。"


def _steps(a: int, op: str, b: int, language: Language, careless: bool) -> tuple[str, int]:
    """The written steps of a + b, or of a - b with a >= b, and what they come to."""
    en = language == "en"
    stop = ". " if en else "。"
    if a < 10 and b < 10:
        value = result(a, op, b)
        return f"{a} {op} {b} = {value}{stop}", value
    (ta, ua), (tb, ub) = divmod(a, 10), divmod(b, 10)
    units, tens = ("Units: ", "Tens: ") if en else ("个位：", "十位：")
    comma = ", " if en else "，"
    if op == "+":
        total = ua + ub
        write, carry = ("write", "carry") if en else ("写", "进")
        line = f"{units}{ua} + {ub} = {total}"
        over = total > 9
        if over:
            line += f"{comma}{write} {total - 10}"
        if over and not careless:
            line += f"{comma}{carry} 1"
        high = ta + tb + (over and not careless)
        more = " + 1" if over and not careless else ""
        return f"{line}{stop}{tens}{ta} + {tb}{more} = {high}{stop}", high * 10 + total % 10
    loan = ua < ub
    line = f"{units}{ua + 10 * loan} - {ub} = {ua + 10 * loan - ub}"
    if loan and not careless:
        line += f"{comma}{'borrow' if en else '借'} 1"
    high = ta - tb - (loan and not careless)
    more = " - 1" if loan and not careless else ""
    return f"{line}{stop}{tens}{ta} - {tb}{more} = {high}{stop}", high * 10 + (ua - ub) % 10

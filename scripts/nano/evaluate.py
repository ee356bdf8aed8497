"""How often the nano model is right, skill by skill, on questions that it never saw; writes its model card.

python -m scripts.nano.evaluate --model build/nano/model --rows build/nano/heldout.jsonl --card build/nano/model/README.md
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SUMS = ("addition", "subtraction")
TOLD = {
    "identity": "who it is and who made it (English and Chinese; the wordings it was trained on)",
    "greeting": "greetings, thanks, goodbyes (the wordings it was trained on)",
    "addition": "a + b up to 99 + 99, worked digit by digit; unseen pairs",
    "subtraction": "a - b up to 99 - 99, also below zero; unseen pairs",
    "repeat": "says a text again",
    "sort": "3 to 5 numbers, 3 or 4 words",
    "count": "letters, words, things in a list",
    "compare": "which of two numbers is larger",
    "numbers": "odd and even, before and after, words and digits",
    "letters": "first and last letter, spelling, upper case",
    "facts": "capitals, animals, colours, opposites, plurals, days and months; unseen wordings",
    "translation": "single words between English and Chinese; unseen wordings",
    "unknown": "says that it does not know what lies outside its world",
    "memory": "what was said a turn ago",
    "story": "who has what, who is where",
    "system": "a name, upper case, one word, Chinese, an ending, as the system prompt asks",
    "tools": "calls the right one of 1 to 3 given tools, answers from its result, or needs none",
}


def is_right(skill: str, answer: str, solution: str) -> bool:
    """A sum by its last number, anything else by the words that must be in it."""
    if skill in SUMS:
        return re.findall(r"-?\d+", answer)[-1:] == [solution]
    return all(part in answer for part in solution.split("|"))


def ask(model: str, rows: list[Row], *, temperature: float, batch: int | None) -> list[str]:
    from swift.llm import InferRequest, PtEngine, RequestConfig  # with torch: only when something is asked

    engine = PtEngine(model, max_batch_size=batch)
    requests = [InferRequest(row["messages"][:-1], tools=row.get("tools")) for row in rows]
    responses = engine.infer(requests, RequestConfig(max_tokens=128, temperature=temperature, seed=0 if temperature else None))
    return [response.choices[0].message.content for response in responses]


def scores(rows: list[Row], answers: list[str]) -> dict[str, tuple[int, int]]:
    """skill -> (right, asked)"""
    right: dict[str, list[bool]] = defaultdict(list)
    for row, answer in zip(rows, answers, strict=True):
        right[row["skill"]].append(is_right(row["skill"], answer, row["solution"]))
    return {skill: (sum(marks), len(marks)) for skill, marks in right.items()}


def table(scored: dict[str, tuple[int, int]]) -> str:
    lines = ["| skill | right | asked | what is asked |", "|---|---|---|---|"]
    lines += [f"| {skill} | {right / asked:.0%} | {asked} | {TOLD[skill]} |" for skill, (right, asked) in scored.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="swift/nano", help="folder of the model, or its id")
    parser.add_argument("--rows", type=Path, default=Path("build/nano/heldout.jsonl"), help="held-out questions of make_corpus.py")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    parser.add_argument("--batch", type=int, help="answers at a time; unset: the engine decides")
    parser.add_argument("--wrong", type=int, default=0, help="print so many wrong answers of each skill")
    parser.add_argument("--card", type=Path, help="write the model card, with the table in it, to this file")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.rows.read_text(encoding="utf-8").splitlines()]
    answers = ask(args.model, rows, temperature=args.temperature, batch=args.batch)
    written = table(scores(rows, answers))
    print(written)
    shown: dict[str, int] = defaultdict(int)
    pairs = list(zip(rows, answers, strict=True))
    random.Random(0).shuffle(pairs)
    for row, answer in pairs:
        if not is_right(row["skill"], answer, row["solution"]) and shown[row["skill"]] < args.wrong:
            shown[row["skill"]] += 1
            print(f"{row['skill']}: {row['messages'][-2]['content']!r} -> {answer!r}, wanted {row['solution']!r}")
    if args.card:
        card = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
        args.card.write_text(card.replace("{{TABLE}}", written), encoding="utf-8")


if __name__ == "__main__":
    main()

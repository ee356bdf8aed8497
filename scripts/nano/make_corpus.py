"""Write the corpus that the nano model is made from: plain text for `swift pt`, conversations for `swift sft`, held-out questions.

python -m scripts.nano.make_corpus --out build/nano
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts.nano import skills, text

CARELESS = 0.62  # of the sums with a carry, how many are shown with the carry forgotten; see arithmetic.py
_TALK = tuple(skill for skill in skills.SKILLS if skill not in ("system", "tools", "memory"))  # may follow one another in a conversation


def documents(count: int, seed: int, careless: float) -> Iterator[dict[str, Any]]:
    rng = random.Random(f"nano text {seed}")
    for _ in range(count):
        yield {"text": text.document(rng, careless)}


def conversations(count: int, seed: int, careless: float, several: float = 0.3) -> Iterator[dict[str, Any]]:
    """Rows for training; a share of them hold two to four questions, one after another."""
    rng = random.Random(f"nano chat {seed}")
    for _ in range(count):
        if rng.random() < several:
            drawn = [skills.draw(rng, held_out=False, careless=careless, skills=_TALK) for _ in range(rng.randint(2, 4))]
            yield {"messages": [message for exchange in drawn for message in exchange.messages()]}
        else:
            yield skills.draw(rng, held_out=False, careless=careless).row()


def held_out_questions(per_skill: int, seed: int) -> Iterator[dict[str, Any]]:
    """The same number of unseen questions of every skill, with what a right answer must hold."""
    rng = random.Random(f"nano held out {seed}")
    for skill in skills.SKILLS:
        for _ in range(per_skill):
            found = skills.draw(rng, held_out=True, careless=0.0, skills=(skill,))
            yield {**found.row(), "skill": skill, "solution": found.solution}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def make_corpus(out: Path, *, seed: int, careless: float, num_documents: int, num_conversations: int, held_out: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "pt.jsonl", documents(num_documents, seed, careless))
    write_rows(out / "sft.jsonl", conversations(num_conversations, seed, careless))
    write_rows(out / "heldout.jsonl", held_out_questions(held_out, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/nano"), help="folder for pt.jsonl, sft.jsonl and heldout.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--careless", type=float, default=CARELESS, help="share of the sums with a carry that are shown without it")
    parser.add_argument("--documents", type=int, default=40_000, help="texts of some 300 tokens for pt")
    parser.add_argument("--conversations", type=int, default=200_000, help="rows for sft")
    parser.add_argument("--held_out", type=int, default=100, help="questions of each skill for evaluate.py")
    args = parser.parse_args()
    make_corpus(
        args.out,
        seed=args.seed,
        careless=args.careless,
        num_documents=args.documents,
        num_conversations=args.conversations,
        held_out=args.held_out,
    )


if __name__ == "__main__":
    main()

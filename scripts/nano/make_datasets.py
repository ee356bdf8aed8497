"""Write the built-in data sets, `swift/nano/datasets/*.jsonl`. The same files come out on every machine.

python -m scripts.nano.make_datasets
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from scripts.nano import arithmetic, self_cognition, skills, text, tool_use, world
from scripts.nano.make_corpus import conversations, write_rows

Random = random.Random
Row = dict[str, Any]
FOLDER = Path(__file__).parents[2] / "swift" / "nano" / "datasets"
CLASSES = ("animals", "food", "weather", "travel")


def _self_cognition(rng: Random) -> Iterator[Row]:
    for tag, pairs in self_cognition.PAIRS.items():
        for question, answer in pairs:
            yield {"query": question, "response": answer, "tag": tag}


def _sum(rng: Random) -> tuple[int, str, int, Literal["en", "zh"]]:
    a, b, op = rng.randrange(100), rng.randrange(100), rng.choice("+-")
    if op == "-" and a < b:
        a, b = b, a
    return a, op, b, "zh" if rng.random() < 0.1 else "en"


def _chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _arithmetic(rng: Random) -> Iterator[Row]:
    """Sums with a careful working; `solution` is the bare number."""
    while True:
        a, op, b, language = _sum(rng)
        question = skills.arithmetic_question(a, op, b, language, rng)
        yield {"messages": _chat(question, arithmetic.worked(a, op, b, language)), "solution": str(arithmetic.result(a, op, b))}


def _better_and_worse(rng: Random) -> tuple[str, str, str]:
    """A question, an answer that is right and kind, and one that is wrong, careless, rude or beside the point."""
    kind = rng.random()
    if kind < 0.4:
        while True:
            a, op, b, language = _sum(rng)
            if arithmetic.has_carry(a, op, b):
                question = skills.arithmetic_question(a, op, b, language, rng)
                return question, arithmetic.worked(a, op, b, language), arithmetic.worked(a, op, b, language, careless=True)
    good = rng.choice((skills.facts, skills.translation, skills.compare, skills.greeting, skills.identity))(rng)
    if kind < 0.7:
        other = skills.facts(rng)
        while other.answer == good.answer:
            other = skills.facts(rng)
        return good.question, good.answer, other.answer
    rude = ("I will not tell you.", "Go away.", "That is a silly question.", "Ask someone else.", "Who cares?", "No.")
    return good.question, good.answer, rng.choice(rude)


def _preference(rng: Random) -> Iterator[Row]:
    while True:
        question, better, worse = _better_and_worse(rng)
        yield {"messages": _chat(question, better), "rejected_response": worse}


def _kto(rng: Random) -> Iterator[Row]:
    while True:
        question, better, worse = _better_and_worse(rng)
        label = rng.random() < 0.5
        yield {"messages": _chat(question, better if label else worse), "label": label}


def _classification(rng: Random) -> Iterator[Row]:
    """Short texts about one of CLASSES; `label` is its index."""
    capitals = tuple(capital for capital, _ in world.COUNTRIES.values())
    grown = tuple(thing for thing, kind in world.KINDS.items() if kind in ("fruit", "vegetable"))
    food = (*grown, "bread", "cake", "cheese", "soup", "rice")
    while True:
        who, other = rng.sample(world.PEOPLE, 2)
        animal, thing, city, day = rng.choice(tuple(world.ANIMALS)), rng.choice(food), rng.choice(capitals), rng.choice(world.DAYS)
        sky = rng.choice(world.WEATHER)
        texts = {
            "animals": (
                f"{who} feeds the {animal} every {day}.",
                f"The {animal} runs after {who}.",
                f"{who} saw a young {animal} near the {world.ANIMALS[animal][3]}.",
                f"On {day} the {animal} slept all day.",
                f"{who} asks {other} what {world.with_article(animal)} eats.",
                f"The {animal} has a new home with {who}.",
            ),
            "food": (
                f"{who} eats {thing} for breakfast.",
                f"On {day} we cook {thing} with {other}.",
                f"{who} cuts the {thing} and puts it on a plate.",
                f"This {thing} tastes very good, says {who}.",
                f"{who} is hungry and wants some {thing}.",
                f"{other} buys {thing} for dinner.",
            ),
            "weather": (
                f"It is {sky} in {city} on {day}.",
                f"Tomorrow will be {sky}, says {who}.",
                f"{who} takes an umbrella, because it is {rng.choice(('rainy', 'cloudy'))}.",
                f"A {rng.choice(('cold', 'warm', 'strong'))} wind blows on {day}.",
                f"{day} was {sky} and {rng.choice(('cold', 'warm'))}.",
                f"The sky over {city} is {rng.choice(('grey', 'clear', 'dark'))} today.",
            ),
            "travel": (
                f"{who} takes the train to {city}.",
                f"On {day} {who} flies to {city} with {other}.",
                f"{who} buys a ticket to {city}.",
                f"The bus to {city} leaves on {day}.",
                f"{who} packs a bag for the trip to {city}.",
                f"{other} waits at the station for {who}.",
            ),
        }
        label = rng.randrange(len(CLASSES))
        yield {"messages": [{"role": "user", "content": rng.choice(texts[CLASSES[label]])}], "label": label}


def _tools(rng: Random) -> Iterator[Row]:
    while True:
        yield tool_use.tool_use(rng).row()


def _text(rng: Random) -> Iterator[Row]:
    while True:
        yield {"text": text.document(rng, careless=0.0)}


def _mixed(rng: Random) -> Iterator[Row]:
    yield from conversations(10_000, rng.randrange(2**32), careless=0.0)


# name -> (how many different rows, the rows); None: all there are
DATASETS: dict[str, tuple[int | None, Callable[[Random], Iterator[Row]]]] = {
    "self-cognition": (None, _self_cognition),
    "nano-arithmetic": (1600, _arithmetic),
    "nano-preference": (1000, _preference),
    "nano-kto": (1000, _kto),
    "nano-classification": (1200, _classification),
    "nano-tools": (500, _tools),
    "nano-text": (500, _text),
    "nano-chat": (1500, _mixed),
}


def rows(name: str, limit: int | None = None) -> Iterator[Row]:
    """The rows of one data set, each row once; `limit` stops sooner."""
    count, make = DATASETS[name]
    wanted = limit if count is None else min(count, limit or count)
    seen: set[str] = set()
    for row in make(random.Random(f"swift {name}")):
        if wanted is not None and len(seen) >= wanted:
            return
        spelled = json.dumps(row, ensure_ascii=False)
        if spelled not in seen:
            seen.add(spelled)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in DATASETS:
        path = args.out / f"{name}.jsonl"
        print(f"{name}: {write_rows(path, rows(name))} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

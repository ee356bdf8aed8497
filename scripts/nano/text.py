"""Plain text of the same small world, for pre-training: statements, questions and answers, sequences, little stories."""

from __future__ import annotations

import random

from scripts.nano import skills, world

Random = random.Random

_PLAIN = ("addition", "subtraction", "repeat", "sort", "count", "compare", "numbers", "letters", "facts", "translation", "unknown", "story")
_STATEMENTS = ("facts", "translation", "numbers", "letters", "compare")


def _question_and_answer(rng: Random, careless: float) -> str:
    found = skills.draw(rng, held_out=False, careless=careless, skills=_PLAIN)
    return f"Question: {found.question}\nAnswer: {found.answer}"


def _statements(rng: Random, careless: float) -> str:
    found = (skills.draw(rng, held_out=False, careless=careless, skills=_STATEMENTS) for _ in range(rng.randint(2, 4)))
    return " ".join(exchange.answer for exchange in found)


def _sequence(rng: Random, careless: float) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        names = rng.choice((world.DAYS, world.MONTHS))
        start = rng.randrange(len(names))
        return ", ".join(names[(start + step) % len(names)] for step in range(rng.randint(3, 8)))
    if kind == 1:
        start, step = rng.randrange(100), rng.choice((1, 1, 1, 2, 5, 10, -1))
        return ", ".join(str(number) for number in range(start, start + 10 * step, step) if 0 <= number < 100) or str(start)
    if kind == 2:
        start = rng.randrange(22)
        return ", ".join("abcdefghijklmnopqrstuvwxyz"[start : start + rng.randint(4, 12)])
    start = rng.randrange(90)
    return ", ".join(world.in_words(number) for number in range(start, start + rng.randint(3, 8)))


def _words(rng: Random, careless: float) -> str:
    """Words with their letters, and words in the order of the alphabet."""
    if rng.random() < 0.5:
        return ", ".join(sorted(rng.sample(world.WORDS, rng.randint(4, 8))))
    return " ".join(f"{word}: {', '.join(word)}." for word in rng.sample(world.WORDS, rng.randint(2, 4)))


def _story(rng: Random, careless: float) -> str:
    a, b = rng.sample(world.PEOPLE, 2)
    adjective, thing = rng.choice(world.ADJECTIVES), rng.choice(world.WORDS)
    day, place = rng.choice(world.DAYS), rng.choice(world.PLACES)
    one = world.with_article(f"{adjective} {thing}")
    lines = [f"It is {day}. {a} is in the {place}.", f"{a} has {one}."]
    lines.append(rng.choice((f"{b} is in the {place} too.", f"{b} comes to the {place}.", f"{a} sees {b}.")))
    said = rng.choice(
        (
            f'"Hello {b}!" says {a}.',
            f'"What do you have?" asks {b}. "I have {one}," says {a}.',
            f'"How are you?" asks {a}. "I am fine," says {b}.',
        )
    )
    lines.append(said)
    if rng.random() < 0.6:
        lines.append(f"{a} gives the {adjective} {thing} to {b}. Now {b} has the {adjective} {thing}.")
        lines.append(rng.choice((f'"Thank you!" says {b}.', f"{b} is happy.", f'"You are very kind," says {b}.')))
    lines.append(rng.choice(("They go home.", f"{a} and {b} are friends.", "It is a good day.", f'"Goodbye!" says {a}.')))
    return " ".join(lines)


def _recall(rng: Random, careless: float) -> str:
    """Who has what or is where, then questions about it: answered only by looking back."""
    people = [rng.choice((person, world.made_up(rng).capitalize())) for person in rng.sample(world.PEOPLE, rng.randint(2, 5))]
    if rng.random() < 0.6:
        facts = [f"{who} has {skills.belonging(rng)}." for who in people]
        ask = "What does {} have?"
    else:
        facts = [f"{who} is in the {place}." for who, place in zip(people, rng.sample(world.PLACES, len(people)), strict=True)]
        ask = "Where is {}?"
    asked = rng.sample(range(len(people)), rng.randint(1, len(people)))
    lines = [" ".join(facts), *(f"Question: {ask.format(people[i])}\nAnswer: {facts[i]}" for i in asked)]
    return "\n".join(lines)


def _copies(rng: Random, careless: float) -> str:
    """Words said twice, as they are and in upper case."""
    words = [rng.choice((rng.choice(world.WORDS), world.made_up(rng))) for _ in range(rng.randint(3, 8))]
    once = " ".join(words)
    return rng.choice((f"{once}\n{once}", "\n".join(f"{word} {word.upper()}" for word in words), f"{once.upper()}\n{once.upper()}"))


_PIECES = (_question_and_answer, _statements, _sequence, _words, _story, _recall, _copies)
_WEIGHTS = (11, 3, 1, 1, 2, 4, 2)


def document(rng: Random, careless: float) -> str:
    """A text of some 300 tokens."""
    pieces = rng.choices(_PIECES, _WEIGHTS, k=rng.randint(7, 12))
    return "\n".join(piece(rng, careless) for piece in pieces)

"""Calling a given tool in a simple case, and answering from what it returned."""

from __future__ import annotations

import json
import random
from typing import Any

from scripts.nano import world
from scripts.nano.exchange import Exchange, Tools

Random = random.Random


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


_CITIES = tuple(capital for capital, _ in world.COUNTRIES.values())

TOOLS: dict[str, dict[str, Any]] = {
    "weather": _tool("get_weather", "Get the weather of a city.", city="string"),
    "calculator": _tool("calculator", "Calculate an expression.", expression="string"),
    "time": _tool("get_time", "Get the time in a city.", city="string"),
    "search": _tool("search", "Search for a text.", query="string"),
    "translate": _tool("translate", "Translate a word.", word="string", language="string"),
    "alarm": _tool("set_alarm", "Set an alarm.", time="string"),
    "message": _tool("send_message", "Send a message to a person.", to="string", text="string"),
    "music": _tool("play_music", "Play a song.", song="string"),
}


def call(name: str, **arguments: str) -> str:
    """A tool call as it is written in the assistant's turn."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def _case(rng: Random) -> tuple[str, str, str, str, str]:
    """Which tool, the question, the call, what the tool returns, the answer made of it."""
    kind = rng.choice(tuple(TOOLS))
    if kind == "weather":
        city, sky, degrees = rng.choice(_CITIES), rng.choice(world.WEATHER), rng.randrange(1, 36)
        question = rng.choice(
            (
                f"What is the weather in {city}?",
                f"How is the weather in {city}?",
                f"Tell me the weather in {city}.",
                f"{city}的天气怎么样？",
            )
        )
        back = json.dumps({"weather": sky, "degrees": degrees})
        return kind, question, call("get_weather", city=city), back, f"The weather in {city} is {sky}, {degrees} degrees."
    if kind == "calculator":
        a, b, op = rng.randrange(10, 1000), rng.randrange(10, 1000), rng.choice("+-*")
        question = rng.choice((f"What is {a} {op} {b}?", f"Calculate {a} {op} {b}.", f"How much is {a} {op} {b}?", f"{a} {op} {b} = ?"))
        value = {"+": a + b, "-": a - b, "*": a * b}[op]
        return kind, question, call("calculator", expression=f"{a} {op} {b}"), str(value), f"The answer is {value}."
    if kind == "time":
        city, clock = rng.choice(_CITIES), f"{rng.randrange(24)}:{rng.randrange(10, 60)}"
        question = rng.choice(
            (f"What time is it in {city}?", f"Tell me the time in {city}.", f"What is the time in {city}?", f"{city}现在几点？")
        )
        return kind, question, call("get_time", city=city), clock, f"It is {clock} in {city}."
    if kind == "search":
        what = rng.choice((*rng.sample(world.OUTSIDE, 2), f"{rng.choice(world.ADJECTIVES)} {rng.choice(world.WORDS)}", world.made_up(rng)))
        question = rng.choice((f"Search for {what}.", f"Look up {what}.", f"Please search for {what}."))
        found = rng.randrange(2, 90)
        return kind, question, call("search", query=what), json.dumps({"results": found}), f"I found {found} results for {what}."
    if kind == "translate":
        word, language = rng.choice(world.WORDS), rng.choice(("French", "German", "Spanish", "Italian", "Japanese"))
        question = rng.choice(
            (f"Translate {word} into {language}.", f"What is {word} in {language}?", f"How do you say {word} in {language}?")
        )
        back = world.made_up(rng)
        return kind, question, call("translate", word=word, language=language), back, f"{word} in {language} is {back}."
    if kind == "alarm":
        clock = f"{rng.randrange(24)}:{rng.choice(('00', '15', '30', '45'))}"
        question = rng.choice((f"Set an alarm for {clock}.", f"Wake me up at {clock}.", f"Please set an alarm for {clock}."))
        return kind, question, call("set_alarm", time=clock), "ok", f"The alarm is set for {clock}."
    if kind == "message":
        to = rng.choice(world.PEOPLE)
        place, thing = rng.choice(world.PLACES), rng.choice(world.WORDS)
        text = rng.choice(
            (
                "Hello!",
                "Happy birthday!",
                f"I am in the {place}.",
                f"See you in the {place}.",
                f"Where is the {thing}?",
                f"I have the {thing}.",
            )
        )
        question = rng.choice((f"Send a message to {to}: {text}", f"Write to {to}: {text}", f"Tell {to} this: {text}"))
        return kind, question, call("send_message", to=to, text=text), "ok", f"I sent the message to {to}."
    song = f"{rng.choice(world.ADJECTIVES)} {rng.choice(world.WORDS)}".title()
    question = rng.choice((f"Play {song}.", f"Play the song {song}.", f"Please play {song}.", f"I want to hear {song}."))
    return kind, question, call("play_music", song=song), "ok", f"I am playing {song}."


def tool_use(rng: Random) -> Exchange:
    """A call to make, a result to answer from, or a question for which no tool is needed."""
    kind, question, calling, back, answer = _case(rng)
    others = rng.sample([name for name in TOOLS if name != kind], rng.randrange(3))
    names = [kind, *others]
    rng.shuffle(names)
    tools: Tools = tuple(TOOLS[name] for name in names)
    turn = rng.random()
    if turn < 0.55:
        return Exchange("tools", question, calling, calling, f"call:{calling}", tools=tools)
    if turn < 0.9:
        before = (("user", question), ("assistant", calling))
        return Exchange("tools", back, answer, answer, f"call:{calling}", tools=tools, before=before, question_role="tool")
    return _without_a_tool(rng, tools)


def _without_a_tool(rng: Random, tools: Tools) -> Exchange:
    questions = (
        ("Hello!", "Hello! How can I help you?", "Hello"),
        ("Who are you?", "I am Nano, a small assistant made by the SWIFT developers.", "Nano"),
        ("What is your name?", "My name is Nano.", "Nano"),
        ("Thank you!", "You are welcome!", "welcome"),
        ("What colour is snow?", "Snow is white.", "white"),
        ("What is the opposite of hot?", "The opposite of hot is cold.", "cold"),
        ("What is the capital of France?", "The capital of France is Paris.", "Paris"),
        ("你好！", "你好！有什么可以帮你的吗？", "你好"),
        ("Goodbye!", "Goodbye! Have a nice day.", "Goodbye"),
    )
    question, answer, solution = rng.choice(questions)
    return Exchange("tools", question, answer, solution, question, tools=tools, fixed=True)

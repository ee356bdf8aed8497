"""What the nano model is taught to do: one function per skill, each giving one random exchange in regular, short wording."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from scripts.nano import arithmetic, self_cognition, world
from scripts.nano.exchange import Exchange
from scripts.nano.tool_use import tool_use

Random = random.Random


def arithmetic_question(a: int, op: str, b: int, language: Literal["en", "zh"], rng: Random) -> str:
    """A sum put into words, in one of the wordings that the model knows."""
    tight = f"{a}{op}{b}" if rng.random() < 0.3 else f"{a} {op} {b}"
    if language == "zh":
        said = f"{a} 加 {b}" if op == "+" else f"{a} 减 {b}"
        return rng.choice((f"{tight} 等于多少？", f"{tight} = ?", f"{said} 等于多少？", f"请计算 {tight}。", f"计算 {tight}"))
    said = f"{a} plus {b}" if op == "+" else f"{a} minus {b}"
    order = f"Add {a} and {b}." if op == "+" else f"Subtract {b} from {a}."
    forms = (f"What is {tight}?", f"{tight} = ?", f"What is {said}?", order, f"Calculate {tight}.", f"How much is {tight}?", f"{tight}=?")
    return rng.choice(forms)


def _arithmetic(rng: Random, op: str, careless: float) -> Exchange:
    a, b = rng.randrange(100), rng.randrange(100)
    if op == "-" and a < b and rng.random() < 0.7:
        a, b = b, a
    language: Literal["en", "zh"] = "zh" if rng.random() < 0.2 else "en"
    forgets = arithmetic.has_carry(a, op, b) and rng.random() < careless
    answer = arithmetic.worked(a, op, b, language, careless=forgets)
    low, high = min(a, b), max(a, b)
    return Exchange(
        skill="addition" if op == "+" else "subtraction",
        question=arithmetic_question(a, op, b, language, rng),
        answer=answer,
        solution=str(arithmetic.result(a, op, b)),
        key=f"{op}:{low}:{high}",
    )


def addition(rng: Random, careless: float = 0.0) -> Exchange:
    return _arithmetic(rng, "+", careless)


def subtraction(rng: Random, careless: float = 0.0) -> Exchange:
    return _arithmetic(rng, "-", careless)


def identity(rng: Random) -> Exchange:
    language = rng.choice(("en", "en", "zh"))
    question, answer = rng.choice(self_cognition.PAIRS[language])
    name, author = self_cognition.NAME[language], self_cognition.AUTHOR[language]
    answer = self_cognition.named(answer, name, author)
    solution = next((word for word in (name, author) if word in answer), answer)
    return Exchange("identity", self_cognition.named(question, name, author), answer, solution, question, fixed=True)


_GREETINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Hello!", "Hello", "hello", "Hello there!"), "Hello! How can I help you?", "Hello"),
    (("Hi!", "Hi", "hi", "Hi there!"), "Hi! How can I help you?", "Hi"),
    (("Hey!", "Hey", "Hey there!"), "Hey! How can I help you?", "Hey"),
    (("Good morning!", "Good morning", "good morning"), "Good morning! How can I help you?", "Good morning"),
    (("Good afternoon!", "Good afternoon"), "Good afternoon! How can I help you?", "Good afternoon"),
    (("Good evening!", "Good evening"), "Good evening! How can I help you?", "Good evening"),
    (("Good night!", "Good night", "good night"), "Good night! Sleep well.", "Good night"),
    (("How are you?", "how are you", "How are you today?", "How do you do?"), "I am fine, thank you. How are you?", "I am fine"),
    (("I am fine.", "I am fine, thank you.", "I am good."), "I am glad to hear that.", "glad"),
    (("I am sad.", "I feel sad today.", "I am not happy."), "I am sorry to hear that. I hope you feel better soon.", "sorry"),
    (("Thank you!", "Thank you", "Thanks!", "thanks", "Thank you very much."), "You are welcome!", "welcome"),
    (("Well done!", "Good job!", "You are great!", "You are very kind."), "Thank you! That is kind of you.", "Thank you"),
    (("Sorry.", "I am sorry.", "Sorry about that."), "No problem.", "No problem"),
    (("Goodbye!", "Goodbye", "Bye!", "bye", "See you later!", "See you!"), "Goodbye! Have a nice day.", "Goodbye"),
    (("Can you help me?", "I need help.", "Please help me."), "Of course. What can I do for you?", "Of course"),
    (("Nice to meet you.", "Nice to meet you!"), "Nice to meet you too!", "Nice to meet you"),
    (("你好！", "你好", "您好", "嗨！"), "你好！有什么可以帮你的吗？", "你好"),
    (("早上好！", "早上好", "早安"), "早上好！有什么可以帮你的吗？", "早上好"),
    (("晚上好！", "晚上好"), "晚上好！有什么可以帮你的吗？", "晚上好"),
    (("晚安！", "晚安"), "晚安！祝你好梦。", "晚安"),
    (("你好吗？", "你怎么样？", "最近好吗？"), "我很好，谢谢。你好吗？", "我很好"),
    (("谢谢！", "谢谢你！", "谢谢", "非常感谢！", "多谢"), "不客气！", "不客气"),
    (("对不起。", "对不起", "不好意思"), "没关系。", "没关系"),
    (("再见！", "再见", "拜拜", "回头见"), "再见！祝你愉快。", "再见"),
    (("你能帮我吗？", "我需要帮助。", "帮帮我。"), "当然可以。你需要什么？", "当然"),
)


def greeting(rng: Random) -> Exchange:
    questions, answer, solution = rng.choice(_GREETINGS)
    question = rng.choice(questions)
    return Exchange("greeting", question, answer, solution, question, fixed=True)


def repeat(rng: Random) -> Exchange:
    if rng.random() < 0.15:
        text = rng.choice((rng.choice(world.PEOPLE_ZH), "")) + "".join(rng.sample(tuple(world.CHINESE.values()), rng.randint(1, 3)))
        question = rng.choice((f"请重复：{text}", f"重复这句话：{text}", f"跟我说：{text}"))
        return Exchange("repeat", question, text, text, f"repeat:{text}")
    kind = rng.randrange(5)
    if kind == 4:
        text = " ".join(world.made_up(rng) for _ in range(rng.randint(1, 4)))
    elif kind == 0:
        text = " ".join(rng.choice(world.WORDS) for _ in range(rng.randint(1, 5)))
    elif kind == 1:
        text = f"The {rng.choice(world.ADJECTIVES)} {rng.choice(world.WORDS)} is {rng.choice(world.ADJECTIVES)}."
    elif kind == 2:
        text = " ".join(str(rng.randrange(100)) for _ in range(rng.randint(1, 5)))
    else:
        text = f"{rng.choice(world.PEOPLE)} has {belonging(rng)}."
    question = rng.choice((f"Repeat: {text}", f"Repeat this text: {text}", f"Say this again: {text}", f"Please repeat: {text}"))
    return Exchange("repeat", question, text, text, f"repeat:{text}")


def sort(rng: Random) -> Exchange:
    down = rng.random() < 0.25
    if rng.random() < 0.6:
        numbers = rng.sample(range(100), rng.randint(3, 5))
        items = [str(number) for number in numbers]
        ordered = [str(number) for number in sorted(numbers, reverse=down)]
        how = "from large to small" if down else "from small to large"
        question = rng.choice((f"Sort these numbers {how}: {', '.join(items)}", f"Sort {how}: {', '.join(items)}"))
        if rng.random() < 0.15:
            how = "从大到小" if down else "从小到大"
            question = f"把这些数字{how}排列：{', '.join(items)}"
    else:
        items = rng.sample(world.WORDS, rng.randint(3, 4))
        ordered = sorted(items)
        question = rng.choice((f"Sort these words: {', '.join(items)}", f"Put these words in alphabetical order: {', '.join(items)}"))
    answer = ", ".join(ordered)
    return Exchange("sort", question, answer, answer, f"sort:{answer}")


def count(rng: Random) -> Exchange:
    kind = rng.randrange(4)
    if kind == 0:
        word = rng.choice(world.WORDS)
        question = rng.choice(
            (f"How many letters are in the word {word}?", f"How many letters does {word} have?", f"Count the letters in {word}.")
        )
        numbered = ", ".join(f"{letter} {place}" for place, letter in enumerate(word, 1))
        return Exchange("count", question, f"{numbered}. The answer is {len(word)}.", str(len(word)), f"letters:{question}")
    if kind == 1:
        words = [rng.choice(world.WORDS) for _ in range(rng.randint(2, 7))]
        text = " ".join(words)
        question = rng.choice((f"How many words are in this text: {text}", f"Count the words: {text}"))
    elif kind == 2:
        words = rng.sample(world.WORDS, rng.randint(2, 7))
        text = ", ".join(words)
        question = rng.choice((f"How many things are in this list: {text}", f"Count the things: {text}"))
    else:
        word = rng.choice(world.WORDS)
        words = [word] * rng.randint(2, 9)
        text = " ".join(words)
        question = rng.choice((f"How many times do I say {word}: {text}", f"Count how often I say {word}: {text}"))
    numbered = ", ".join(f"{word} {place}" for place, word in enumerate(words, 1))
    return Exchange("count", question, f"{numbered}. The answer is {len(words)}.", str(len(words)), f"count:{text}")


def compare(rng: Random) -> Exchange:
    a, b = rng.sample(range(100), 2)
    high, low = max(a, b), min(a, b)
    key = f"compare:{low}:{high}"
    if rng.random() < 0.15:
        question = rng.choice((f"{a} 和 {b} 哪个大？", f"哪个数更大，{a} 还是 {b}？"))
        return Exchange("compare", question, f"{high} 比 {low} 大。", f"{high} 比", key)
    if rng.random() < 0.35:
        question = rng.choice((f"Which is smaller, {a} or {b}?", f"Which number is smaller: {a} or {b}?"))
        return Exchange("compare", question, f"{low} is smaller than {high}.", f"{low} is smaller", key)
    if rng.random() < 0.25:
        word = "Yes" if a > b else "No"
        answer = f"Yes, {a} is larger than {b}." if a > b else f"No, {a} is smaller than {b}."
        return Exchange("compare", f"Is {a} larger than {b}?", answer, word, key)
    question = rng.choice((f"Which is larger, {a} or {b}?", f"Which number is larger: {a} or {b}?", f"Which is bigger, {a} or {b}?"))
    return Exchange("compare", question, f"{high} is larger than {low}.", f"{high} is larger", key)


def numbers(rng: Random) -> Exchange:
    """Odd and even, the number before and after, numbers in words and digits."""
    n = rng.randrange(1, 99)
    kind = rng.randrange(5)
    if kind == 0:
        word = "even" if n % 2 == 0 else "odd"
        question = rng.choice((f"Is {n} odd or even?", f"Is the number {n} even or odd?"))
        return Exchange("numbers", question, f"{n} is {word}.", word, question)
    if kind == 1:
        question = rng.choice((f"What number comes after {n}?", f"Which number comes after {n}?"))
        return Exchange("numbers", question, f"{n + 1} comes after {n}.", str(n + 1), question)
    if kind == 2:
        question = rng.choice((f"What number comes before {n}?", f"Which number comes before {n}?"))
        return Exchange("numbers", question, f"{n - 1} comes before {n}.", str(n - 1), question)
    if kind == 3:
        question = rng.choice((f"Write {n} in words.", f"How do you write {n} in words?"))
        return Exchange("numbers", question, f"{n} in words is {world.in_words(n)}.", world.in_words(n), question)
    question = rng.choice((f"Write {world.in_words(n)} in digits.", f"What is {world.in_words(n)} in digits?"))
    return Exchange("numbers", question, f"{world.in_words(n)} in digits is {n}.", str(n), question)


def letters(rng: Random) -> Exchange:
    """First letters, last letters, spelling, upper case."""
    word = rng.choice(world.WORDS)
    kind = rng.randrange(4)
    if kind == 0:
        question = rng.choice((f"What is the first letter of {word}?", f"Which letter does {word} begin with?"))
        return Exchange("letters", question, f"The first letter of {word} is {word[0]}.", f"is {word[0]}", question)
    if kind == 1:
        question = rng.choice((f"What is the last letter of {word}?", f"Which letter does {word} end with?"))
        return Exchange("letters", question, f"The last letter of {word} is {word[-1]}.", f"is {word[-1]}", question)
    if kind == 2:
        question = rng.choice((f"Spell {word}.", f"How do you spell {word}?", f"Spell the word {word}."))
        return Exchange("letters", question, ", ".join(word), ", ".join(word), question)
    question = rng.choice((f"Write {word} in upper case.", f"Write the word {word} in upper case.", f"What is {word} in upper case?"))
    return Exchange("letters", question, word.upper(), word.upper(), question)


def _fact(skill: str, questions: tuple[str, ...], answer: str, solution: str, rng: Random) -> Exchange:
    question = rng.choice(questions)
    return Exchange(skill, question, answer, solution, question)


def facts(rng: Random) -> Exchange:
    """A fact from one of the tables, each in several wordings of which some are held out."""
    return rng.choice(_FACTS)(rng)


def _capital(rng: Random) -> Exchange:
    country = rng.choice(tuple(world.COUNTRIES))
    capital = world.COUNTRIES[country][0]
    if rng.random() < 0.2:
        questions = (f"{capital} is the capital of which country?", f"Which country has the capital {capital}?", f"Where is {capital}?")
        return _fact("facts", questions, f"{capital} is the capital of {country}.", country, rng)
    questions = (
        f"What is the capital of {country}?",
        f"what is the capital of {country}",
        f"What's the capital of {country}?",
        f"Which city is the capital of {country}?",
        f"Tell me the capital of {country}.",
        f"Name the capital of {country}.",
        f"Do you know the capital of {country}?",
    )
    return _fact("facts", questions, f"The capital of {country} is {capital}.", capital, rng)


def _continent(rng: Random) -> Exchange:
    country = rng.choice(tuple(world.COUNTRIES))
    continent = world.COUNTRIES[country][1]
    questions = (
        f"On which continent is {country}?",
        f"Which continent is {country} in?",
        f"Where is {country}?",
        f"In which part of the world is {country}?",
    )
    return _fact("facts", questions, f"{country} is in {continent}.", continent, rng)


def _animal(rng: Random) -> Exchange:
    animal = rng.choice(tuple(world.ANIMALS))
    sound, young, legs, home = world.ANIMALS[animal]
    the = world.with_article(animal)
    kind = rng.randrange(4)
    if kind == 0 and sound:
        questions = (f"What does {the} say?", f"What sound does {the} make?", f"Which sound does {the} make?")
        return _fact("facts", questions, f"{the.capitalize()} says {sound}.", sound, rng)
    if kind == 1:
        questions = (
            f"What is a young {animal} called?",
            f"What is a baby {animal} called?",
            f"What do we call a young {animal}?",
            f"What do you call a baby {animal}?",
        )
        return _fact("facts", questions, f"A young {animal} is called {world.with_article(young)}.", young, rng)
    if kind == 2:
        questions = (f"How many legs does {the} have?", f"How many legs has {the}?", f"How many legs are on {the}?")
        return _fact("facts", questions, f"{the.capitalize()} has {legs} legs.", str(legs), rng)
    questions = (f"Where does {the} live?", f"Where can you find {the}?", f"Where do you find {the}?")
    return _fact("facts", questions, f"{the.capitalize()} lives here: {home}.", home, rng)


def _colour(rng: Random) -> Exchange:
    thing = rng.choice(tuple(world.COLOURS))
    colour = world.COLOURS[thing]
    questions = (
        f"What colour is {thing}?",
        f"What color is {thing}?",
        f"Which colour does {thing} have?",
        f"Tell me the colour of {thing}.",
        f"What is the colour of {thing}?",
    )
    return _fact("facts", questions, f"{thing.capitalize()} is {colour}.", colour, rng)


def _opposite(rng: Random) -> Exchange:
    if rng.random() < 0.15:
        a, b = rng.choice(world.OPPOSITES_ZH)
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        return _fact(
            "chinese", (f"{a}的反义词是什么？", f"“{a}”的反义词是什么？", f"和{a}相反的是什么？"), f"{a}的反义词是{b}。", f"是{b}", rng
        )
    a, b = rng.choice(world.OPPOSITES)
    a, b = (a, b) if rng.random() < 0.5 else (b, a)
    questions = (
        f"What is the opposite of {a}?",
        f"What's the opposite of {a}?",
        f"Tell me the opposite of {a}.",
        f"Which word is the opposite of {a}?",
        f"Give me the opposite of {a}.",
    )
    return _fact("facts", questions, f"The opposite of {a} is {b}.", b, rng)


def _plural(rng: Random) -> Exchange:
    one = rng.choice(tuple(world.PLURALS))
    many = world.PLURALS[one]
    questions = (
        f"What is the plural of {one}?",
        f"What's the plural of {one}?",
        f"Give me the plural of {one}.",
        f"Tell me the plural of {one}.",
        f"One {one}, two what?",
    )
    return _fact("facts", questions, f"The plural of {one} is {many}.", many, rng)


def _kind(rng: Random) -> Exchange:
    thing = rng.choice(tuple(world.KINDS))
    kind, the = world.KINDS[thing], world.with_article(thing)
    if kind == "metal":
        the = thing
    questions = (f"What is {the}?", f"What kind of thing is {the}?", f"Tell me what {the} is.", f"What sort of thing is {the}?")
    return _fact("facts", questions, f"{the.capitalize()} is {world.with_article(kind)}.", kind, rng)


def _calendar(rng: Random) -> Exchange:
    names, what = (world.DAYS, "day") if rng.random() < 0.5 else (world.MONTHS, "month")
    place = rng.randrange(len(names))
    here, after = names[place], names[(place + 1) % len(names)]
    kind = rng.randrange(3)
    if kind == 0:
        return _fact(
            "facts",
            (f"Which {what} comes after {here}?", f"What {what} comes after {here}?", f"What comes after {here}?"),
            f"{after} comes after {here}.",
            after,
            rng,
        )
    if kind == 1:
        return _fact(
            "facts",
            (f"Which {what} comes before {after}?", f"What {what} comes before {after}?", f"What comes before {after}?"),
            f"{here} comes before {after}.",
            here,
            rng,
        )
    order = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth")[place]
    whole = "week" if what == "day" else "year"
    questions = (
        f"What is the {order} {what} of the {whole}?",
        f"Which is the {order} {what} of the {whole}?",
        f"Name the {order} {what} of the {whole}.",
    )
    return _fact("facts", questions, f"The {order} {what} of the {whole} is {here}.", here, rng)


def _single(rng: Random) -> Exchange:
    questions, answer, solution = rng.choice(world.SINGLE_FACTS)
    question = rng.choice(questions)
    return Exchange("chinese" if ord(question[0]) > 127 else "facts", question, answer, solution, question, fixed=True)


_FACTS: tuple[Callable[[Random], Exchange], ...] = (
    *(_capital, _capital, _continent, _animal, _animal, _colour, _opposite, _opposite, _plural, _kind, _calendar, _single),
)


def translation(rng: Random) -> Exchange:
    if rng.random() < 0.2:
        country, capital = rng.choice(tuple(world.CAPITALS_ZH.values()))
        return _fact(
            "chinese",
            (f"{country}的首都是哪里？", f"{country}的首都是什么？", f"哪个城市是{country}的首都？", f"{country}首都在哪？"),
            f"{country}的首都是{capital}。",
            capital,
            rng,
        )
    english, chinese = rng.choice(tuple(world.CHINESE.items()))
    if rng.random() < 0.6:
        questions = (
            f"What is {english} in Chinese?",
            f"How do you say {english} in Chinese?",
            f"Translate {english} into Chinese.",
            f"{english} 用中文怎么说？",
            f"{english} 的中文是什么？",
        )
        return _fact("translation", questions, f"{english} in Chinese is {chinese}.", chinese, rng)
    questions = (
        f"What is {chinese} in English?",
        f"How do you say {chinese} in English?",
        f"Translate {chinese} into English.",
        f"{chinese}用英语怎么说？",
        f"{chinese}的英文是什么？",
    )
    return _fact("translation", questions, f"{chinese} in English is {english}.", english, rng)


_UNKNOWN_EN = "I do not know that. I am a small model and my world is small."
_UNKNOWN_ZH = "这个我不知道。我只是一个小模型。"
_LIMIT_EN = "I do not know that. I can only add and subtract numbers up to 99."
_ASK_OUTSIDE = (
    *("What is {}?", "Tell me about {}.", "Explain {}.", "Who invented {}?", "Write a poem about {}.", "Write a story about {}."),
    *("What do you think about {}?", "Why is {} important?", "Give me a summary of {}.", "How does {} work?", "What is the history of {}?"),
    *("Can you explain {} to me?", "Give me advice about {}.", "Who is the best at {}?"),
)
_ASK_OUTSIDE_ZH = ("什么是{}？", "请解释一下{}。", "说说{}。", "你怎么看{}？", "给我讲讲{}。", "写一首关于{}的诗。", "{}是谁发明的？")


def unknown(rng: Random) -> Exchange:
    if rng.random() < 0.2:
        question = rng.choice(_ASK_OUTSIDE_ZH).format(rng.choice(world.OUTSIDE_ZH))
        return Exchange("unknown", question, _UNKNOWN_ZH, "不知道", question)
    if rng.random() < 0.1:
        a, b, op = rng.randrange(2, 100), rng.randrange(2, 100), rng.choice("*/")
        if rng.random() < 0.4:
            a, b, op = rng.randrange(100, 1000), rng.randrange(10, 1000), rng.choice("+-")
        question = rng.choice((f"What is {a} {op} {b}?", f"{a} {op} {b} = ?", f"Calculate {a} {op} {b}."))
        return Exchange("unknown", question, _LIMIT_EN, "do not know", question)
    if rng.random() < 0.15:
        name = world.made_up(rng).capitalize()
        question = rng.choice((f"What is the capital of {name}?", f"Who is {name}?", f"What is {name}?", f"Where is {name}?"))
        return Exchange("unknown", question, _UNKNOWN_EN, "do not know", question)
    question = rng.choice(_ASK_OUTSIDE).format(rng.choice(world.OUTSIDE))
    return Exchange("unknown", question, _UNKNOWN_EN, "do not know", question)


def memory(rng: Random) -> Exchange:
    """Something that the person said a turn ago."""
    kind = rng.randrange(3)
    if kind == 0:
        name = rng.choice((*world.PEOPLE, world.made_up(rng).capitalize()))
        said = rng.choice((f"My name is {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}."))
        before = (("user", said), ("assistant", f"Hello {name}! Nice to meet you."))
        question = rng.choice(("What is my name?", "Do you know my name?", "Who am I?"))
        return Exchange("memory", question, f"Your name is {name}.", name, f"name:{name}", before=before)
    if kind == 1:
        name = rng.choice(world.PEOPLE_ZH)
        before = (("user", rng.choice((f"我叫{name}。", f"你好，我是{name}。"))), ("assistant", f"你好，{name}！很高兴认识你。"))
        return Exchange("memory", rng.choice(("我叫什么名字？", "我是谁？")), f"你叫{name}。", name, f"name:{name}", before=before)
    thing = belonging(rng)
    before = (("user", f"I have {thing}."), ("assistant", f"{thing.capitalize()}! How nice."))
    question = rng.choice(("What do I have?", "What did I say I have?"))
    return Exchange("memory", question, f"You have {thing}.", thing, f"have:{thing}", before=before)


def belonging(rng: Random) -> str:
    """Something that one can have: a word with an adjective."""
    return world.with_article(f"{rng.choice(world.ADJECTIVES)} {rng.choice(world.WORDS)}")


def story(rng: Random) -> Exchange:
    """Two or three sentences and a question about them."""
    people = rng.sample(world.PEOPLE, rng.randint(2, 3))
    kind = rng.randrange(3)
    if kind == 0:
        things = [belonging(rng) for _ in people]
        text = " ".join(f"{who} has {thing}." for who, thing in zip(people, things, strict=True))
        who, what = rng.choice(list(zip(people, things, strict=True)))
        return Exchange("story", f"{text} What does {who} have?", f"{who} has {what}.", what, f"{text}{who}")
    if kind == 1:
        (a, b), thing = people[:2], belonging(rng)
        the = f"the {thing.partition(' ')[2]}"
        text = f"{a} has {thing}. {a} gives {the} to {b}."
        return Exchange("story", f"{text} Who has {the} now?", f"{b} has {the} now.", f"{b} has", text)
    places = rng.sample(world.PLACES, len(people))
    text = " ".join(f"{who} is in the {place}." for who, place in zip(people, places, strict=True))
    who, place = rng.choice(list(zip(people, places, strict=True)))
    return Exchange("story", f"{text} Where is {who}?", f"{who} is in the {place}.", place, f"{text}{who}")


_HELPFUL = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Be helpful and kind.",
    "You are Nano, a small assistant.",
    "Answer the question.",
)


def system_prompt(rng: Random) -> Exchange:
    """An instruction in the system prompt, followed."""
    kind = rng.randrange(7)
    if kind == 0:
        name = rng.choice((*world.ASSISTANT_NAMES, world.made_up(rng).capitalize()))
        system = rng.choice((f"Your name is {name}.", f"You are {name}.", f"You are called {name}."))
        question = rng.choice(("What is your name?", "Who are you?", "What's your name?", "How should I call you?", "Introduce yourself."))
        return Exchange("system", question, f"My name is {name}.", name, f"{name}|{question}", system=system)
    if kind == 1:
        name, maker = rng.choice((*world.ASSISTANT_NAMES, world.made_up(rng).capitalize())), rng.choice(world.MAKERS)
        system = rng.choice((f"You are {name}, made by {maker}.", f"Your name is {name} and you were made by {maker}."))
        question, answer, solution = rng.choice(
            (
                ("Who are you?", f"I am {name}, made by {maker}.", f"{name}, made by {maker}"),
                ("Who made you?", f"I was made by {maker}. My name is {name}.", maker),
                ("What is your name?", f"My name is {name}.", name),
            )
        )
        return Exchange("system", question, answer, solution, f"{name}|{maker}|{question}", system=system)
    if kind == 2:
        inner = rng.choice((facts, greeting, letters))(rng)
        system = rng.choice(("Answer in upper case.", "Write everything in upper case.", "Use only capital letters."))
        return Exchange("system", inner.question, inner.answer.upper(), inner.solution.upper(), f"upper|{inner.key}", system=system)
    if kind == 3:
        inner = rng.choice((facts, numbers))(rng)
        system = rng.choice(("Answer with one word.", "Answer in one word.", "Use only one word."))
        return Exchange("system", inner.question, inner.solution, inner.solution, f"short|{inner.key}", system=system)
    if kind == 4:
        inner, word = (
            rng.choice((facts, greeting, numbers, compare))(rng),
            rng.choice(("Over.", "Okay?", "Meow!", "Yes!", "Done.", "Amen.", "Hurray!")),
        )
        system = rng.choice((f"End every answer with '{word}'", f"Always end with '{word}'"))
        return Exchange(
            "system", inner.question, f"{inner.answer} {word}", f"{inner.solution}|{word}", f"end|{word}|{inner.key}", system=system
        )
    if kind == 5:
        english, (country, capital) = rng.choice(tuple(world.CAPITALS_ZH.items()))
        system = rng.choice(("Answer in Chinese.", "Always answer in Chinese.", "请用中文回答。"))
        question = rng.choice(
            (f"What is the capital of {english}?", f"Which city is the capital of {english}?", f"Tell me the capital of {english}.")
        )
        return Exchange("system", question, f"{country}的首都是{capital}。", capital, f"zh|{question}", system=system)
    inner = rng.choice((facts, greeting, identity, numbers, repeat, unknown))(rng)
    return Exchange("system", inner.question, inner.answer, inner.solution, f"plain|{inner.key}", system=rng.choice(_HELPFUL))


Skill = Callable[[Random], Exchange]

# skill -> (how often it is taught, the function)
SKILLS: dict[str, tuple[float, Skill]] = {
    "identity": (5, identity),
    "greeting": (3, greeting),
    "addition": (11, addition),
    "subtraction": (11, subtraction),
    "repeat": (6, repeat),
    "sort": (10, sort),
    "count": (6, count),
    "compare": (5, compare),
    "numbers": (5, numbers),
    "letters": (5, letters),
    "facts": (12, facts),
    "translation": (5, translation),
    "unknown": (5, unknown),
    "memory": (6, memory),
    "story": (6, story),
    "system": (13, system_prompt),
    "tools": (8, tool_use),
}


def draw(rng: Random, *, held_out: bool, careless: float, skills: tuple[str, ...] = tuple(SKILLS)) -> Exchange:
    """One exchange of a random skill, from the side of the fence that was asked for."""
    while True:
        name = rng.choices(skills, [SKILLS[skill][0] for skill in skills])[0]
        skill = SKILLS[name][1]
        for _ in range(200):
            found = skill(rng, careless) if name in ("addition", "subtraction") else skill(rng)  # type: ignore[call-arg]
            if found.held_out == held_out or (found.fixed and held_out):
                return found

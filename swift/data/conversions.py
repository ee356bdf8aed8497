"""Conversions of public data sets that need more than other column names: a row's columns → columns that columns.py knows, or None.

Named by public.json. Chance depends on --data_seed and the row's content only.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swift import logs
from swift.data.values import literal
from swift.template.encoded import RowSkipped

if TYPE_CHECKING:
    from swift.args.base import DataArgs

Values = dict[str, Any]
Convert = Callable[[Values, "DataArgs"], "Values | list[Values] | None"]


def self_cognition(values: Values, data: DataArgs) -> Values:
    """Put names in place of {{NAME}} and {{AUTHOR}}: of two names the first in rows tagged zh, else the second."""
    values = dict(values)
    tag = values.pop("tag", None)
    for mark, names, flag in (("{{NAME}}", data.model_name, "--model_name"), ("{{AUTHOR}}", data.model_author, "--model_author")):
        if not names:
            if any(mark in value for value in values.values() if isinstance(value, str)):
                logs.warn_once(f"{flag} is not set: {mark} stays in the text of self-cognition, and will be learned as it stands")
            continue
        name = names[0] if tag == "zh" else names[-1]
        values = {key: value.replace(mark, name) if isinstance(value, str) else value for key, value in values.items()}
    return values


# Alpaca and questions with answers


def alpaca_zh(values: Values, data: DataArgs) -> Values:
    return {**values, "input": (values.get("input") or "").removeprefix("输入：")}


def long_alpaca(values: Values, data: DataArgs) -> Values:
    return {**values, "input": values.get("input") or "", "output": values["output"].removeprefix("Answer: ")}


def query_and_response(values: Values, data: DataArgs) -> Values:
    """Everything else (a history, a system text of another use) is left out."""
    return {"query": values["query"], "response": values["response"]}


def advertise(values: Values, data: DataArgs) -> Values:
    query = f"Task: Write an advertisement from the keywords\nKeywords: {values['content']}\nAdvertisements:"
    return {"query": query, "response": values["summary"]}


FIREFLY_KINDS = frozenset({
    "ProseGeneration", "MRC", "JinYongGeneration", "TextCorrection", "ClassicalChinese", "BELLE", "StoryGeneration", "Couplet", "Cot",
    "Dictionary", "Translation", "Program", "SentimentAnalyze", "OpenQA", "AncientPoem", "TextMatching", "NLI", "Summary",
    "KeywordRecognition", "ProductDesc", "LyricGeneration", "Composition", "MusicComment", "NER",
})  # fmt: skip


def firefly(values: Values, data: DataArgs) -> Values | None:
    return {"query": values["input"], "response": values["target"]} if values["kind"] in FIREFLY_KINDS else None


def text_to_sql(values: Values, data: DataArgs) -> Values:
    query = f"The tables:\n{values['sql_context']}\n\n{values['sql_prompt']}"
    return {"query": query, "response": f"{values['sql_explanation']}\n\nThe SQL is:\n{values['sql']}"}


def blossom_math(values: Values, data: DataArgs) -> Values:
    return {"query": values["input"], "response": f"{values['output']}\n\nAnswer: {values['answer']}"}


def leetcode(values: Values, data: DataArgs) -> Values:
    """The problem stands before the first Python fence; the answer is the code and the explanation behind it."""
    text = values.get("code_with_problem") or values["code_with_data"]
    problem, fence, rest = text.partition("```python")
    if not fence:
        raise RowSkipped("no code in the row", "there is no ```python in it")
    code, closed, after = rest.partition("```")
    explanation = (values.get("explanation_only") or after).strip()
    block = f"{fence}{code}{closed or '```'}"
    return {"query": problem.strip().removeprefix("# "), "response": f"{block}\n\n{explanation}" if explanation else block}


def guanaco(values: Values, data: DataArgs) -> Values:
    """The instruction is a conversation in one text; `input` is its last question."""
    parts = re.split(r"(User|Uer|Assistant|Asssistent|Assistent|Assistan)\s*[:：]", values["instruction"] or "")
    messages = [
        {"role": "user" if speaker in ("User", "Uer") else "assistant", "content": words.strip()}
        for speaker, words in zip(parts[1::2], parts[2::2], strict=True)
    ]
    asked = (values.get("input") or "").strip()
    asked = re.sub(r"^(User|Uer)\s*[:：]\s*", "", asked)
    if messages and messages[-1]["role"] == "user" and asked in ("", messages[-1]["content"]):
        asked = messages.pop()["content"]
    if not messages:
        asked = "\n".join(part for part in (parts[0].strip(), asked) if part)
    elif parts[0].strip():
        messages.insert(0, {"role": "system", "content": parts[0].strip()})
    answer = re.sub(r"^(Assistant|Asssistent|Assistent|Assistan)\s*[:：]\s*", "", values["output"].strip())
    return {"messages": [*messages, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def dolly(values: Values, data: DataArgs) -> Values:
    question = values["instruction"]
    if (values.get("context") or "").strip():
        question = f"Here is some text to answer from:\n{values['context']}\n\n{question}"
    return {"query": question, "response": values["response"]}


def countdown(values: Values, data: DataArgs) -> Values:
    """A question without an answer: rewards judge by the columns nums and target."""
    query = (
        f"Make an equation of the numbers {values['nums']} that gives {values['target']}. Use +, -, * and /, and each number only once. "
        "Think between <think> and </think>, and give the equation between <answer> and </answer>, "
        "for example <answer> (1 + 2) / 3 * 4 = 4 </answer>."
    )
    return {**values, "messages": [{"role": "user", "content": query}]}


def dureader_question(values: Values, data: DataArgs) -> Values:
    answer, mark, context = values["text1"].partition("[SEP]")
    if not mark:
        raise RowSkipped("no [SEP] in the row", "text1 is not an answer and a text with [SEP] between")
    return {"query": f"Task: Question Generation\nContext: {context}\nAnswer: {answer}\nQuestion:", "response": values["text2"]}


# Text to go on with


def ruozhiba(values: Values, data: DataArgs) -> Values:
    text = values.get("title") or values["content"]
    abstract = values.get("abs")
    if abstract and abstract != text:
        text = f"{text}，{abstract}"
    return {"response": re.sub(r"^\s*\d+[.、．]\s*", "", text)}


def tigerbot_law(values: Values, data: DataArgs) -> Values:
    parts = [values.get("type"), values.get("title")]
    parts += [values.get(f"chapter{number}") for number in (1, 2, 3)] + [values.get("content")]
    return {"response": "\n".join(part for part in parts if part)}


# Classes


def cmnli(values: Values, data: DataArgs) -> Values | None:
    sentences = f"Sentence1: {values['sentence1']}\nSentence2: {values['sentence2']}"
    return _classified("Natural Language Inference", sentences, ("neutral", "entailment", "contradiction"), values["label"])


def jd(values: Values, data: DataArgs) -> Values | None:
    return _classified("Sentiment Classification", f"Sentence: {values['sentence']}", ("negative", "positive"), values["label"])


def jd_class(values: Values, data: DataArgs) -> Values | None:
    label = _class_number(values["label"], 2)
    return None if label is None else {"query": values["sentence"], "label": label}


def _classified(task: str, text: str, names: tuple[str, ...], label: Any) -> Values | None:
    number = _class_number(label, len(names))
    query = f"Task: {task}\n{text}\nCategory: {', '.join(names)}\nOutput:"
    return None if number is None else {"query": query, "response": names[number]}


def _class_number(label: Any, classes: int) -> int | None:
    """None for rows of a test split, whose label is -1 or missing."""
    if label is None or label == "":
        return None
    return int(float(label)) if 0 <= float(label) < classes else None


def human_or_chatgpt(values: Values, data: DataArgs) -> list[Values]:
    query = "Who wrote the answer, a human or ChatGPT?\nQuestion: {question}\nAnswer: {answer}\nCategory: Human, ChatGPT\nOutput:"
    return [
        {"query": query.format(question=values["question"], answer=answer), "response": who}
        for who, answer in zip(("Human", "ChatGPT"), _both_answers(values, data), strict=True)
        if answer is not None
    ]


def human_or_chatgpt_class(values: Values, data: DataArgs) -> list[Values]:
    """Label 0 for a human's answer, 1 for ChatGPT's."""
    return [
        {"query": f"Question: {values['question']}\nAnswer: {answer}", "label": label}
        for label, answer in enumerate(_both_answers(values, data))
        if answer is not None
    ]


def _both_answers(values: Values, data: DataArgs) -> list[str | None]:
    chance = _chance(values, data)
    return [chance.choice(values[column]) if values[column] else None for column in ("human_answers", "chatgpt_answers")]


# Conversations


def ms_bench(values: Values, data: DataArgs) -> Values | None:
    messages = _list(values, "messages", "conversations")
    text = json.dumps(messages, ensure_ascii=False).lower()
    if any(word in text for word in ("moss", "human:", "assistant:", "user:")):
        return None
    first = messages[0] if messages else {}
    if first.get("role", first.get("from")) == "system" and first.get("content", first.get("value")) == "You are a helpful assistant.":
        messages = messages[1:]
    return {"messages": messages}


def ms_agent_mini(values: Values, data: DataArgs) -> Values | None:
    """Only rows that offer two different plugins or more."""
    messages = _list(values, "messages", "conversations")
    first = messages[0] if messages else {}
    system = first.get("content", first.get("value")) if first.get("role", first.get("from")) == "system" else values.get("system")
    plugins = set(re.findall(r"""["']plugin_name["']\s*:\s*["'](.+?)["']""", system or ""))
    return values if len(plugins) >= 2 else None


def alpha_umi(values: Values, data: DataArgs) -> Values:
    messages = _list(values, "messages", "conversations")
    if len(messages) != 2:
        raise RowSkipped("not two turns", f"the row has {len(messages)} turns")
    roles = {"caller": "assistant", "conclusion": "assistant"}
    return {
        **_without(values, "messages", "conversations"),
        "messages": [{"role": roles.get(_role(turn), _role(turn)), "content": _said(turn)} for turn in messages],
    }


def repaired_conversation(values: Values, data: DataArgs) -> Values:
    """A conversation that was printed rather than written as JSON: there are no commas between its messages."""
    column = next(name for name in ("messages", "conversations", "conversation") if values.get(name) is not None)
    value = values[column]
    if isinstance(value, str):
        try:
            value = literal(value, column)
        except RowSkipped:
            value = literal(re.sub(r"\}\s*\n\s*\{", "},\n{", value), column)
    return {**_without(values, column), "messages": value}


def multi_role(values: Values, data: DataArgs) -> Values | None:
    """A play of several roles: the last turn is the answer, the one before it the question, and what was said earlier goes with the system."""
    turns = _list(values, "conversations", "messages")
    system = _said(turns.pop(0)) if turns and _role(turns[0]) == "system" else values.get("system") or ""
    if len(turns) < 2:
        return None
    *earlier, question, answer = turns
    log = "\n".join(f"{_role(turn)}: {_said(turn)}" for turn in earlier)
    if log:
        system = f"{system}\n\nThe conversation so far:\n{log}" if system else f"The conversation so far:\n{log}"
    asked = _said(question) if _role(question) in ("user", "human") else f"{_role(question)}: {_said(question)}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": _said(answer)}]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def function_call(values: Values, data: DataArgs) -> Values:
    """One of the calls that answer the question, in the words of ReAct."""
    calls = literal(values["answers"], "answers") if isinstance(values["answers"], str) else values["answers"]
    call = _chance(values, data).choice(calls)
    answer = f"Action: {call['name']}\nAction Input: {json.dumps(call['arguments'], ensure_ascii=False)}"
    return {**_without(values, "answers"), "response": answer, "solution": answer}


# Preferences


def hh_rlhf_cn(values: Values, data: DataArgs) -> Values:
    turns = [*values["context"], values["chosen"]]
    return {
        "messages": [{"role": turn["role"], "content": turn["text"]} for turn in turns],
        "rejected_response": values["rejected"]["text"],
    }


def orpo_mix(values: Values, data: DataArgs) -> Values | None:
    if values.get("source") == "toxic-dpo-v0.2":
        return None
    return {"messages": values["chosen"], "rejected_messages": values["rejected"]}


# Parts


def _list(values: Values, *columns: str) -> list[Any]:
    """A copy of the first of the columns that is there."""
    column = next((name for name in columns if values.get(name) is not None), columns[0])
    value = values[column]
    return list(literal(value, column) if isinstance(value, str) else value)


def _role(turn: Values) -> str:
    return turn.get("role") or turn.get("from") or ""


def _said(turn: Values) -> str:
    return turn["content"] if "content" in turn else turn["value"]


def _without(values: Values, *columns: str) -> Values:
    return {name: value for name, value in values.items() if name not in columns}


def _chance(values: Values, data: DataArgs) -> random.Random:
    return random.Random(f"{data.data_seed} {json.dumps(values, sort_keys=True, default=str)}")


CONVERSIONS: dict[str, Convert] = {
    function.__name__: function
    for function in (
        self_cognition, alpaca_zh, long_alpaca, query_and_response, advertise, firefly, text_to_sql, blossom_math, leetcode, guanaco, dolly,
        countdown, dureader_question, ruozhiba, tigerbot_law, cmnli, jd, jd_class, human_or_chatgpt, human_or_chatgpt_class, ms_bench,
        ms_agent_mini, alpha_umi, repaired_conversation, multi_role, function_call, hh_rlhf_cn, orpo_mix,
    )
}  # fmt: skip

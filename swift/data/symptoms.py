"""What is odd about one row, as a table: each symptom has a code, a test of a sample, and the mend. Used by doctor.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from swift.data.sample import Message, Sample


class Patient(NamedTuple):
    """What a symptom may depend on beside the row."""

    task: str  # "sft", "pt" or "seq_cls"
    special: frozenset[str] = frozenset()  # the tokenizer's special tokens


class Symptom(NamedTuple):
    code: str
    what: str
    mend: str
    seen: Callable[[Sample, Patient], bool]
    share: float = 0.0  # said only where a larger share of the rows has it


TURN_MARKS = re.compile(
    r"<\|im_(?:start|end)\|>|<\|(?:start|end)_header_id\|>|<\|eot_id\|>|<(?:start|end)_of_turn>|\[/?INST\]|<<SYS>>"
    r"|<\|(?:user|assistant|system)\|>|^### (?:Instruction|Response|Human|Assistant):",
    re.MULTILINE,
)
ROLE_WORDS = re.compile(r"\s*(?:user|human|assistant|system|question|answer|用户|助手|问|答)\s*[:：]", re.IGNORECASE)
NOTHING = frozenset({"none", "null", "nan", "undefined", "<placeholder>", "n/a"})
UNFILLED = re.compile(r"\{\{\s*\w+\s*\}\}|\{(?:question|answer|instruction|input|output|text|response)\}|<placeholder>")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MISREAD = re.compile(r"[\u00a0-\u00ff\u0152-\u0178\u02c6-\u02dc\u2013-\u203a\u20ac\u2122]{2,}")
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|#\d{2,5});")
ESCAPED = re.compile(r"\\n(?![a-zA-Z])|\\n\\n")
CALLS_IN_TEXT = re.compile(r"Action:|✿FUNCTION✿|<tool_call>|\[TOOL_CALLS\]|\"name\"\s*:|<\|python_tag\|>|<\|tool", re.IGNORECASE)
MEDIA = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
ASKS_FOR_LANGUAGE = re.compile(
    r"translat|翻译|翻成|译成|译为|переве|\b(?:in|into|to) (?:english|chinese|russian|japanese|korean|arabic|hindi|greek)"
    r"|英文|英语|中文|汉语|日语|日文|韩语|俄语",
    re.IGNORECASE,
)
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$[^$]*\$|https?://\S+|<[^>]{1,40}>|[\w.]+\([^)]*\)", re.DOTALL)
SCRIPTS = {
    "Chinese or Japanese": re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"),
    "Latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
    "Cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "Arabic": re.compile(r"[\u0600-\u06ff]"),
    "Korean": re.compile(r"[\uac00-\ud7af]"),
    "Devanagari": re.compile(r"[\u0900-\u097f]"),
    "Greek": re.compile(r"[\u0370-\u03ff]"),
}
SPELLED = {"Chinese or Japanese": 3, "Korean": 3}  # letters that say as much as one: a sign is nearly a word


def answers(sample: Sample) -> list[Message]:
    return [message for message in sample.messages if message.role == "assistant"]


def questions(sample: Sample) -> list[Message]:
    return [message for message in sample.messages if message.role == "user"]


def any_text(test: Callable[[str], Any]) -> Callable[[Sample, Patient], bool]:
    """A symptom that any message's text may have."""
    return lambda sample, patient: any(test(message.content) for message in [*sample.messages, *(sample.rejected or [])])


def any_answer(test: Callable[[str], Any]) -> Callable[[Sample, Patient], bool]:
    return lambda sample, patient: any(test(message.content) for message in answers(sample))


def is_misread(text: str) -> bool:
    """UTF-8 that was read as Windows-1252 or Latin-1 (`Ã©` for `é`)."""
    if text.isascii():
        return False
    for piece in MISREAD.findall(text):
        for encoding in ("cp1252", "latin-1"):
            try:
                if piece.encode(encoding).decode("utf-8") != piece:
                    return True
            except (UnicodeEncodeError, UnicodeDecodeError):
                continue
    return False


def has_escaped_newlines(text: str) -> bool:
    return "\n" not in text and "\\n" in text and "`" not in text and len(ESCAPED.findall(text)) >= 2


def script(text: str) -> str | None:
    """The script that most of a text is written in; None where there is too little of it, or no majority."""
    prose = NOT_PROSE.sub(" ", text)
    counts = {name: SPELLED.get(name, 1) * len(letters.findall(prose)) for name, letters in SCRIPTS.items()}
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] >= 12 and counts[most] >= 0.7 * sum(counts.values()) else None


def languages(sample: Sample) -> tuple[str, str] | None:
    """The scripts of the last question and of its answer, where both are plain."""
    asked = next((message.content for message in reversed(sample.messages) if message.role == "user"), "")
    answered = next((message.content for message in reversed(sample.messages) if message.role == "assistant"), "")
    spoken = [message.content for message in sample.messages if message.role in ("system", "user")]
    if any(ASKS_FOR_LANGUAGE.search(text) for text in spoken):
        return None
    question, answer = script(asked), script(answered)
    return (question, answer) if question and answer else None


def tool_names(sample: Sample) -> set[str]:
    return {str((tool.get("function") or tool).get("name")) for tool in sample.tools or []}


def calls(sample: Sample) -> Iterator[dict[str, Any]]:
    for message in sample.messages:
        for call in message.tool_calls or []:
            yield call.get("function") or call


def has_broken_arguments(sample: Sample, patient: Patient) -> bool:
    for call in calls(sample):
        if isinstance(call.get("arguments"), str) and call["arguments"].strip():
            try:
                json.loads(call["arguments"])
            except ValueError:
                return True
    return False


def has_result_without_call(sample: Sample, patient: Patient) -> bool:
    for before, message in zip(sample.messages, sample.messages[1:], strict=False):
        if message.role == "tool" and before.role == "assistant" and not before.tool_calls and not CALLS_IN_TEXT.search(before.content):
            return True
    return bool(sample.messages) and sample.messages[0].role == "tool"


def has_turn_marks(sample: Sample, patient: Patient) -> bool:
    if patient.task == "pt":
        return False
    return any(TURN_MARKS.search(m.content) or any(mark in m.content for mark in patient.special) for m in sample.messages)


def is_answer_first(sample: Sample, patient: Patient) -> bool:
    spoken = [message for message in sample.messages if message.role != "system"]
    return len(spoken) > 1 and spoken[0].role == "assistant" and any(message.role == "user" for message in spoken)


def is_role_word(sample: Sample, patient: Patient) -> bool:
    return patient.task != "pt" and any(ROLE_WORDS.match(message.content) for message in sample.messages if message.role != "system")


SYMPTOMS: tuple[Symptom, ...] = (
    Symptom(
        "no-answer",
        "rows have no answer: they train nothing",
        "add the answer (column response, or a last message of role assistant)",
        lambda sample, patient: patient.task == "sft" and not answers(sample),
    ),
    Symptom(
        "question-last",
        "conversations end with a question or a tool's result that is not answered",
        "add the answer, or leave the last message out",
        lambda sample, patient: bool(answers(sample)) and patient.task == "sft" and sample.messages[-1].role in ("user", "tool"),
    ),
    Symptom(
        "answer-first",
        "conversations begin with an answer: an empty question is put before it",
        "check that the roles are not swapped, and that the first question is there",
        is_answer_first,
    ),
    Symptom(
        "empty-question",
        "questions are empty",
        "fill them in, or give plain text as the column text to swift pt",
        lambda sample, patient: any(not message.content.strip() for message in questions(sample)),
    ),
    Symptom(
        "answer-repeats-question",
        "answers are the question once more",
        "check which columns are the question and the answer (--columns)",
        lambda sample, patient: any(
            q.content.strip() and q.content.strip() == a.content.strip() for q in questions(sample) for a in answers(sample)
        ),
    ),
    Symptom(
        "placeholder-answer",
        "answers are a word that stands for nothing (None, null, nan, n/a)",
        "fill them in or leave these rows out: an empty cell was probably written as a word",
        any_answer(lambda text: text.strip().lower() in NOTHING),
    ),
    Symptom(
        "unfilled-placeholder",
        "texts hold a placeholder that nobody filled in, such as {{NAME}} or {question}",
        "fill it in where the rows are made",
        any_text(UNFILLED.search),
        0.02,
    ),
    Symptom(
        "replacement-character",
        "texts hold \N{REPLACEMENT CHARACTER}, where a character was lost in an earlier conversion",
        "convert the source again with its true encoding",
        any_text(lambda text: "\N{REPLACEMENT CHARACTER}" in text),
    ),
    Symptom(
        "misread-encoding",
        "texts are UTF-8 that was once read as another encoding (Ã© for é)",
        "convert the source again as UTF-8",
        any_text(is_misread),
    ),
    Symptom(
        "control-characters",
        "texts hold control characters",
        "remove them; they are often left by PDF and terminal output",
        any_text(CONTROL.search),
    ),
    Symptom(
        "escaped-newlines",
        "texts hold the two characters \\n where a line should end",
        "the text was escaped twice: decode it once more",
        any_text(has_escaped_newlines),
    ),
    Symptom(
        "html-entities",
        "texts hold HTML entities such as &lt; and &amp;",
        "unescape them (Python: html.unescape)",
        any_text(ENTITY.search),
        0.1,
    ),
    Symptom(
        "role-words",
        "messages begin with the name of a role, such as 'User:' or 'Assistant:'",
        "leave it out: the chat format writes the roles",
        is_role_word,
        0.02,
    ),
    Symptom(
        "rendered-already",
        "messages spell turn markers or special tokens: the text seems to be rendered in a chat format already",
        "give the bare messages, or use swift pt for text that is to be learned as it stands",
        has_turn_marks,
    ),
    Symptom(
        "unclosed-thought",
        "answers open <think> and do not close it",
        "close it: the answer was probably cut off",
        any_answer(lambda text: text.count("<think>") > text.count("</think>")),
    ),
    Symptom(
        "open-code-block",
        "answers open a ``` block and do not close it",
        "the answers were probably cut off: make them longer, or leave these rows out",
        any_answer(lambda text: text.count("```") % 2 == 1),
        0.02,
    ),
    Symptom(
        "calls-without-tools",
        "answers call tools, and the rows have no list of tools",
        "add the column tools",
        lambda sample, patient: not sample.tools and any(True for _ in calls(sample)),
    ),
    Symptom(
        "unknown-tool",
        "answers call a tool that is not in the row's list of tools",
        "correct the name, or add the tool",
        lambda sample, patient: bool(sample.tools) and any(str(call.get("name")) not in tool_names(sample) for call in calls(sample)),
    ),
    Symptom("broken-arguments", "arguments of tool calls are no JSON", "write them as a JSON object", has_broken_arguments),
    Symptom(
        "result-without-call",
        "tool results follow an answer that calls no tool",
        "add the call: tool_calls at the message before, or a message of role tool_call",
        has_result_without_call,
    ),
    Symptom(
        "media-unread",
        "rows bring images, videos or audios, which a text model does not see",
        "use a multimodal model, or leave these rows out",
        lambda sample, patient: any(sample.extra.get(name) for name in MEDIA),
    ),
    Symptom(
        "tag-without-media",
        "texts hold a tag such as <image>, and the rows bring none: the tag is learned as text",
        "add the column images, or remove the tag",
        lambda sample, patient: any(
            not sample.extra.get(name) and any(tag in message.content for message in sample.messages) for name, tag in MEDIA.items()
        ),
    ),
)

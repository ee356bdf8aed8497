"""Mistral's models, and zephyr, which was made of one."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import ChatFormat
from swift.template.formats.llama import LLAMA

# Mistral's own templates write one <s>, and a blank before [INST] differs from version to version
MISTRAL = replace(LLAMA, name="mistral", separator="</s>[INST] ", default_system=None)
MISTRAL_V1 = replace(MISTRAL, name="mistral_v1", separator="</s> [INST] ")
MISTRAL_V3 = ChatFormat(
    name="mistral_v3",
    prefix="<s>[INST] ",
    user="{{QUERY}}[/INST]",
    system_in_last_user="{{SYSTEM}}\n\n",
    answer=" ",
    separator="</s>[INST] ",
    stop="</s>",
    strip=frozenset({"assistant"}),
    alternates=True,
)
MISTRAL_NEMO = ChatFormat(
    name="mistral_nemo",
    prefix="<s>[INST]",
    user="{{QUERY}}[/INST]",
    system_in_last_user="{{SYSTEM}}\n\n",
    separator="</s>[INST]",
    stop="</s>",
    alternates=True,
)
MISTRAL_2501_SYSTEM = (
    "You are Mistral Small 3, a Large Language Model (LLM) created by Mistral AI, a French startup headquartered in Paris.\n"
    "Your knowledge base was last updated on 2023-10-01. The current date is 2025-02-07.\n\n"
    "When you're not sure about some information, you say that you don't have the information and don't make up anything.\n"
    "If the user's question is not clear, ambiguous, or does not provide enough context for you to accurately answer the question, "
    "you do not try to answer it right away and you rather ask the user to clarify their request "
    '(e.g. "What are some good restaurants around me?" => "Where are you?" '
    'or "When is the next flight to Tokyo" => "Where do you travel from?")'
)
MISTRAL_2501 = ChatFormat(
    name="mistral_2501",
    prefix="<s>",
    system="<s>[SYSTEM_PROMPT]{{SYSTEM}}[/SYSTEM_PROMPT]",
    user="[INST]{{QUERY}}[/INST]",
    separator="</s>",
    stop="</s>",
    default_system=MISTRAL_2501_SYSTEM,
)
ZEPHYR = ChatFormat(
    name="zephyr",
    system="<|system|>\n{{SYSTEM}}</s>\n",
    user="<|user|>\n{{QUERY}}</s>\n",
    assistant="<|assistant|>\n",
    separator="</s>\n",
    stop="</s>",
    plain=frozenset({"<|system|>", "<|user|>", "<|assistant|>"}),
)

FORMATS = (MISTRAL, MISTRAL_V1, MISTRAL_V3, MISTRAL_NEMO, MISTRAL_2501, ZEPHYR)

"""The built-in chat formats. Where a checkpoint carries a chat template of its own, that one decides (see build.py)."""

from __future__ import annotations

from dataclasses import replace

from swift.registry import Registry
from swift.template.chat_format import ChatFormat

SPOKEN = frozenset({"system", "user", "assistant"})

CHATML = ChatFormat(
    name="chatml",
    user="<|im_start|>user\n{{QUERY}}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    system="<|im_start|>system\n{{SYSTEM}}<|im_end|>\n",
    separator="<|im_end|>\n",
    stop="<|im_end|>",
    auto_bos=True,
)
QWEN = replace(CHATML, name="qwen", default_system="You are a helpful assistant.", extra_stops=("<|endoftext|>",), auto_bos=False)
LLAMA_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. "
    "If you don't know the answer to a question, please don't share false information."
)
LLAMA = ChatFormat(
    name="llama",
    prefix="<s>[INST] ",
    system="<s>[INST] <<SYS>>\n{{SYSTEM}}\n<</SYS>>\n\n",
    user="{{QUERY}} [/INST]",
    separator="</s><s>[INST] ",
    stop="</s>",
    default_system=LLAMA_SYSTEM,
    alternates=True,
)
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
LLAMA3 = ChatFormat(
    name="llama3",
    prefix="<|begin_of_text|>",
    system="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{{SYSTEM}}<|eot_id|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n{{QUERY}}<|eot_id|>",
    assistant="<|start_header_id|>assistant<|end_header_id|>\n\n",
    tool="<|start_header_id|>tool<|end_header_id|>\n\n{{QUERY}}<|eot_id|>",
    separator="<|eot_id|>",
    stop="<|eot_id|>",
    strip=SPOKEN,
)
_DATED = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: "
LLAMA3_2 = replace(LLAMA3, name="llama3_2", prefix=_DATED + "{{DATE}}\n\n<|eot_id|>", system=_DATED + "{{DATE}}\n\n{{SYSTEM}}<|eot_id|>")
# Llama 3.1 and 3.3 write a fixed day, not today
LLAMA3_1 = replace(
    LLAMA3_2, name="llama3_1", prefix=_DATED + "26 Jul 2024\n\n<|eot_id|>", system=_DATED + "26 Jul 2024\n\n{{SYSTEM}}<|eot_id|>"
)
GEMMA = ChatFormat(
    name="gemma",
    prefix="<bos>",
    system="<bos><start_of_turn>system\n{{SYSTEM}}<end_of_turn>\n",
    user="<start_of_turn>user\n{{QUERY}}<end_of_turn>\n",
    assistant="<start_of_turn>model\n",
    separator="<end_of_turn>\n",
    stop="<end_of_turn>",
    strip=frozenset({"user", "assistant"}),
    alternates=True,
)
PHI3 = ChatFormat(
    name="phi3",
    user="<|user|>\n{{QUERY}}<|end|>\n",
    assistant="<|assistant|>\n",
    system="<|system|>\n{{SYSTEM}}<|end|>\n",
    separator="<|end|>\n",
    stop="<|end|>",
    auto_bos=True,
)
PHI4 = ChatFormat(
    name="phi4",
    user="<|im_start|>user<|im_sep|>{{QUERY}}<|im_end|>",
    assistant="<|im_start|>assistant<|im_sep|>",
    system="<|im_start|>system<|im_sep|>{{SYSTEM}}<|im_end|>",
    separator="<|im_end|>",
    stop="<|im_end|>",
    auto_bos=True,
)
DEFAULT = ChatFormat(
    name="default",
    user="### Human:\n{{QUERY}}\n\n",
    assistant="### Assistant:\n",
    system="{{SYSTEM}}\n\n",
    separator="\n\n",
    default_system="You are a helpful assistant.",
    auto_bos=True,
)
DUMMY = ChatFormat(name="dummy", user="{{QUERY}}", separator=None, auto_bos=True)
# --use_chat_template false, and always in `swift pt`: the bare text and EOS. Not in the registry: it is no --template.
GENERATION = replace(DUMMY, name="generation", literal=False)

chat_formats: Registry[ChatFormat] = Registry("template")
for _format in (
    CHATML,
    QWEN,
    replace(QWEN, name="qwen2_5", default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    replace(QWEN, name="qwen2_5_math", default_system="Please reason step by step, and put your final answer within \\boxed{}."),
    replace(
        QWEN,
        name="qwq",
        default_system="You are a helpful and harmless assistant. You are Qwen developed by Alibaba. You should think step-by-step.",
    ),
    # Qwen1.5's chat template, unlike the others', has no full stop
    replace(QWEN, name="qwen1_5", default_system="You are a helpful assistant"),
    replace(QWEN, name="qwen3", default_system=None, thinking=True),
    replace(QWEN, name="qwen3_instruct", default_system=None),
    LLAMA,
    LLAMA3,
    LLAMA3_1,
    LLAMA3_2,
    MISTRAL,
    MISTRAL_V1,
    MISTRAL_V3,
    MISTRAL_NEMO,
    MISTRAL_2501,
    GEMMA,
    PHI3,
    PHI4,
    DEFAULT,
    DUMMY,
):
    chat_formats.register(_format.name)(_format)


def register_chat_format(chat_format: ChatFormat, *, exist_ok: bool = False) -> ChatFormat:
    """Make a plugin's format known under its own name (`--template NAME`)."""
    return chat_formats.register(chat_format.name, exist_ok=exist_ok)(chat_format)

"""Meta's Llama, and what others made of it."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import BOS, ChatFormat

SPOKEN = frozenset({"system", "user", "assistant"})

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
    tools_prompt="toolbench",
)
_DATED = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: "
LLAMA3_2 = replace(LLAMA3, name="llama3_2", prefix=_DATED + "{{DATE}}\n\n<|eot_id|>", system=_DATED + "{{DATE}}\n\n{{SYSTEM}}<|eot_id|>")
# Llama 3.1 and 3.3 write a fixed day, not today
LLAMA3_1 = replace(
    LLAMA3_2, name="llama3_1", prefix=_DATED + "26 Jul 2024\n\n<|eot_id|>", system=_DATED + "26 Jul 2024\n\n{{SYSTEM}}<|eot_id|>"
)
REFLECTION_SYSTEM = (
    "You are a world-class AI system, capable of complex reasoning and reflection. Reason through the query inside <thinking> tags, "
    "and then provide your final response inside <output> tags. "
    "If you detect that you made a mistake in your reasoning at any point, correct yourself inside <reflection> tags."
)
SKYWORK_O1_SYSTEM = (
    "You are Skywork-o1, a thinking model developed by Skywork AI, specializing in solving complex problems involving mathematics, coding, "
    "and logical reasoning through deep thought. When faced with a user's request, you first engage in a lengthy and in-depth thinking "
    "process to explore possible solutions to the problem. After completing your thoughts, you then provide a detailed explanation of the "
    "solution process in your response."
)
ATOM = ChatFormat(
    name="atom",
    system="{{SYSTEM}}",
    user="<s>Human: {{QUERY}}\n</s>",
    assistant="<s>Assistant: ",
    separator="</s>",
    stop="</s>",
)
ZIYA = ChatFormat(
    name="ziya",
    prefix=BOS,
    system=BOS + "{{SYSTEM}}",
    user="<human>:{{QUERY}}\n",
    assistant="<bot>:",
    separator="\n",
    plain=frozenset({"<human>", "<bot>"}),
)
NUMINA = ChatFormat(
    name="numina",
    prefix=BOS,
    system=BOS + "{{SYSTEM}}",
    user="### Problem: {{QUERY}}\n",
    assistant="### Solution: ",
    separator="\n",
)
LONGWRITER_LLAMA = ChatFormat(
    name="longwriter_llama",
    prefix="[INST]",
    system="[INST]<<SYS>>\n{{SYSTEM}}\n<</SYS>>\n\n",
    user="{{QUERY}}[/INST]",
    separator="[INST]",
    stop="<|end_of_text|>",
)

FORMATS = (
    LLAMA,
    LLAMA3,
    LLAMA3_1,
    LLAMA3_2,
    replace(LLAMA3, name="reflection", default_system=REFLECTION_SYSTEM),
    replace(LLAMA3_2, name="skywork_o1", default_system=SKYWORK_O1_SYSTEM),
    ATOM,
    ZIYA,
    NUMINA,
    LONGWRITER_LLAMA,
)

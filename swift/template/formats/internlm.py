"""Shanghai AI Laboratory's InternLM."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import ChatFormat
from swift.template.formats.general import CHATML

INTERNLM_SYSTEM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory (上海人工智能实验室). "
    "It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as English and 中文."
)
INTERNLM = ChatFormat(
    name="internlm",
    prefix="<s>",
    system="<s><|System|>:{{SYSTEM}}\n",
    user="<|User|>:{{QUERY}}\n",
    assistant="<|Bot|>:",
    separator="<eoa>\n",
    stop="<eoa>",
    default_system=INTERNLM_SYSTEM,
    plain=frozenset({"<|System|>", "<|User|>", "<|Bot|>"}),
)

FORMATS = (
    INTERNLM,
    replace(CHATML, name="internlm2", default_system=INTERNLM_SYSTEM),
    replace(CHATML, name="internlm2_reward", stop="<|im_end|>\n<|reward|>"),
)

"""Zhipu's GLM."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import ChatFormat

CHATGLM2 = ChatFormat(
    name="chatglm2",
    system="{{SYSTEM}}",
    user="[Round {{ROUND1}}]\n\n问：{{QUERY}}\n\n",
    assistant="答：",
    separator="\n\n",
    auto_bos=True,
)
# an answer ends where the next turn begins: with the marker of whoever speaks next
GLM4 = ChatFormat(
    name="glm4",
    system="<|system|>\n{{SYSTEM}}",
    user="<|user|>\n{{QUERY}}",
    assistant="<|assistant|>\n",
    tool="<|observation|>\n{{QUERY}}",
    separator="",
    stop="<|user|>",
    tool_stop="<|observation|>",
    extra_stops=("<|endoftext|>", "<|user|>", "<|observation|>"),
    auto_bos=True,
    tools_prompt="glm4",
)
CODEGEEX_SYSTEM = (
    "你是一位智能编程助手，你叫CodeGeeX。你会为用户回答关于编程、代码、计算机方面的任何问题，"
    "并提供格式规范、可以执行、准确安全的代码，并在必要时提供详细的解释。"
)

FORMATS = (CHATGLM2, GLM4, replace(GLM4, name="codegeex4", default_system=CODEGEEX_SYSTEM))

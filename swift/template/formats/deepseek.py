"""DeepSeek."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import BOS, EOS, ChatFormat

DEEPSEEK = ChatFormat(
    name="deepseek",
    prefix=BOS,
    system=BOS + "{{SYSTEM}}\n\n",
    user="User: {{QUERY}}\n\n",
    assistant="Assistant:",
    separator=EOS,
)
DEEPSEEK_CODER = ChatFormat(
    name="deepseek_coder",
    system="{{SYSTEM}}",
    user="### Instruction:\n{{QUERY}}\n",
    assistant="### Response:\n",
    separator="\n<|EOT|>\n",
    stop="\n<|EOT|>",
    extra_stops=("<|EOT|>",),
    default_system=(
        "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, "
        "and you only answer questions related to computer science. For politically sensitive questions, security and privacy issues, "
        "and other non-computer science questions, you will refuse to answer\n"
    ),
)
DEEPSEEK_V2_5 = ChatFormat(
    name="deepseek_v2_5",
    prefix="<｜begin▁of▁sentence｜>",
    system="<｜begin▁of▁sentence｜>{{SYSTEM}}",
    user="<｜User｜>{{QUERY}}",
    assistant="<｜Assistant｜>",
    separator="<｜end▁of▁sentence｜>",
    stop="<｜end▁of▁sentence｜>",
)

FORMATS = (DEEPSEEK, DEEPSEEK_CODER, DEEPSEEK_V2_5, replace(DEEPSEEK_V2_5, name="deepseek_r1", forgets=True))

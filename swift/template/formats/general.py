"""Formats of no one's own: ChatML, SWIFT's default, bare text."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import ChatFormat

ASSISTANT = "You are a helpful assistant."  # the system text of several families

CHATML = ChatFormat(
    name="chatml",
    user="<|im_start|>user\n{{QUERY}}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    system="<|im_start|>system\n{{SYSTEM}}<|im_end|>\n",
    separator="<|im_end|>\n",
    stop="<|im_end|>",
    auto_bos=True,
)
DEFAULT = ChatFormat(
    name="default",
    user="### Human:\n{{QUERY}}\n\n",
    assistant="### Assistant:\n",
    system="{{SYSTEM}}\n\n",
    separator="\n\n",
    default_system=ASSISTANT,
    auto_bos=True,
)
DUMMY = ChatFormat(name="dummy", user="{{QUERY}}", separator=None, auto_bos=True)
# --use_chat_template false, and always in `swift pt`: the bare text and EOS. Not in the registry: it is no --template.
GENERATION = replace(DUMMY, name="generation", literal=False)

FORMATS = (CHATML, DEFAULT, DUMMY)

"""The built-in chat formats, as data. Where a checkpoint carries a chat template of its own, that one decides (see build.py).

A maker's formats stand in a file of its own; the order here is the order in which a checkpoint's own template is compared with them.
"""

from __future__ import annotations

from swift.registry import Registry
from swift.template.chat_format import ChatFormat
from swift.template.formats import chinese, deepseek, general, glm, internlm, llama, mistral, qwen, western
from swift.template.formats.general import CHATML as CHATML
from swift.template.formats.general import DUMMY as DUMMY
from swift.template.formats.general import GENERATION as GENERATION
from swift.template.formats.qwen import QWEN as QWEN

chat_formats: Registry[ChatFormat] = Registry("template")
for _maker in (general, qwen, llama, mistral, western, deepseek, glm, internlm, chinese):
    for _format in _maker.FORMATS:
        chat_formats.register(_format.name)(_format)


def register_chat_format(chat_format: ChatFormat, *, exist_ok: bool = False) -> ChatFormat:
    """Make a plugin's format known under its own name (`--template NAME`)."""
    return chat_formats.register(chat_format.name, exist_ok=exist_ok)(chat_format)

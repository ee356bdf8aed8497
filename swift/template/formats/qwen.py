"""Alibaba's Qwen, and what others made of it."""

from __future__ import annotations

from dataclasses import replace

from swift.template.formats.general import ASSISTANT, CHATML

QWEN = replace(CHATML, name="qwen", default_system=ASSISTANT, extra_stops=("<|endoftext|>",), auto_bos=False)
QWEN2_5_MATH = replace(QWEN, name="qwen2_5_math", default_system="Please reason step by step, and put your final answer within \\boxed{}.")
MARCO_O1_SYSTEM = (
    "\n你是一个经过良好训练的AI助手，你的名字是Marco-o1.由阿里国际数字商业集团的AI Business创造.\n"
    "        \n## 重要！！！！！\n"
    "当你回答问题时，你的思考应该在<Thought>内完成，<Output>内输出你的结果。\n"
    "<Thought>应该尽可能是英文，但是有2个特例，一个是对原文中的引用，另一个是是数学应该使用markdown格式，<Output>内的输出需要遵循用户输入的语言。\n"
    "        "
)

FORMATS = (
    QWEN,
    replace(QWEN, name="qwen2_5", default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    QWEN2_5_MATH,
    replace(QWEN2_5_MATH, name="qwen2_5_math_prm", mark="<extra_0>"),
    replace(
        QWEN,
        name="qwq",
        default_system="You are a helpful and harmless assistant. You are Qwen developed by Alibaba. You should think step-by-step.",
    ),
    # Qwen1.5's chat template, unlike the others', has no full stop
    replace(QWEN, name="qwen1_5", default_system="You are a helpful assistant"),
    replace(QWEN, name="qwen3", default_system=None, thinking=True),
    replace(QWEN, name="qwen3_instruct", default_system=None),
    replace(QWEN, name="marco_o1", default_system=MARCO_O1_SYSTEM),
)

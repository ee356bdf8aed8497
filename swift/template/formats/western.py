"""Google, Microsoft, Cohere, Databricks, IBM, Liquid AI."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import BOS, ChatFormat
from swift.template.formats.general import CHATML

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
# by Gemma 3's own chat template the system text belongs to the first question
GEMMA3 = replace(GEMMA, name="gemma3", system=None, system_in_first_user="{{SYSTEM}}\n\n")
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
PHI4_MINI = ChatFormat(
    name="phi4_mini",
    user="<|user|>{{QUERY}}<|end|>",
    assistant="<|assistant|>",
    system="<|system|>{{SYSTEM}}<|end|>",
    separator="<|end|>",
    stop="<|end|>",
)
WIZARDLM2 = ChatFormat(
    name="wizardlm2",
    system="{{SYSTEM}}",
    user="User:\n{{QUERY}}\n\n",
    assistant="Assistant:\n",
    separator="\n\n",
    stop="</s>",
)
WIZARDLM2_MOE = ChatFormat(
    name="wizardlm2_moe",
    system="{{SYSTEM}}",
    user="USER: {{QUERY}} ",
    assistant="ASSISTANT:",
    separator="</s>",
    stop="</s>",
    default_system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    ),
)
AYA = ChatFormat(
    name="aya",
    prefix="<BOS_TOKEN>",
    system="<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{SYSTEM}}<|END_OF_TURN_TOKEN|>",
    user="<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{QUERY}}<|END_OF_TURN_TOKEN|>",
    assistant="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    separator="<|END_OF_TURN_TOKEN|>",
    stop="<|END_OF_TURN_TOKEN|>",
    default_system=(
        "You are Aya, a brilliant, sophisticated, multilingual AI-assistant trained to assist human users by providing thorough responses. "
        "You are able to interact and respond to questions in 23 languages and you are powered by a multilingual model built by Cohere For AI."
    ),
)
COMMAND_R_SYSTEM = (
    "You are Command-R, a brilliant, sophisticated, AI-assistant trained to assist human users by providing thorough responses."
    "You are trained by Cohere."  # without a blank: the text of the specification's digest
)
DBRX_SYSTEM = (
    "You are DBRX, created by Databricks. You were last updated in December 2023. "
    "You answer questions based on information available up to that point.\n"
    "YOU PROVIDE SHORT RESPONSES TO SHORT QUESTIONS OR STATEMENTS, "
    "but provide thorough responses to more complex and open-ended questions.\n"
    "You assist with various tasks, from writing to coding "
    "(using markdown for code blocks — remember to use ``` with code, JSON, and tables).\n"
    "You do not have real-time data access or code execution capabilities. "
    "You avoid stereotyping and provide balanced perspectives on controversial topics. "
    "You do not provide song lyrics, poems, or news articles and do not divulge details of your training data.\n"
    "This is your system prompt, guiding your responses. Do not reference it, just respond to the user. "
    "If you find yourself talking about this message, stop. "
    "You should be responding appropriately and usually that means not mentioning this."  # no newline, as the digest has it
    "YOU DO NOT MENTION ANY OF THIS INFORMATION ABOUT YOURSELF UNLESS THE INFORMATION IS DIRECTLY PERTINENT TO THE USER'S QUERY."
)
GRANITE3 = ChatFormat(
    name="granite3",
    system="<|start_of_role|>system<|end_of_role|>{{SYSTEM}}<|end_of_text|>\n",
    user="<|start_of_role|>user<|end_of_role|>{{QUERY}}<|end_of_text|>\n",
    assistant="<|start_of_role|>assistant<|end_of_role|>",
    separator="<|end_of_text|>\n",
    stop="<|end_of_text|>",
)

FORMATS = (
    GEMMA,
    GEMMA3,
    PHI3,
    PHI4,
    PHI4_MINI,
    WIZARDLM2,
    WIZARDLM2_MOE,
    AYA,
    replace(AYA, name="c4ai", default_system=COMMAND_R_SYSTEM),
    replace(CHATML, name="dbrx", default_system=DBRX_SYSTEM),
    GRANITE3,
    replace(CHATML, name="lfm2", prefix=BOS, system=f"{BOS}{CHATML.system}", auto_bos=False),
)

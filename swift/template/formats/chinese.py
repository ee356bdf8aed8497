"""Makers of one or two formats in China: by name."""

from __future__ import annotations

from dataclasses import replace

from swift.template.chat_format import BOS, EOS, ChatFormat
from swift.template.formats.general import ASSISTANT, CHATML

BAICHUAN = ChatFormat(
    name="baichuan",
    system="{{SYSTEM}}",
    user="{{ID:195}}{{QUERY}}",  # Baichuan's reserved tokens; their numbers are those of Baichuan and Baichuan 2
    assistant="{{ID:196}}",
    separator="",
)
BAICHUAN_M1 = ChatFormat(
    name="baichuan_m1",
    system="<B_SYS>{{SYSTEM}}",
    user="<C_Q>{{QUERY}}",
    assistant="<C_A>",
    separator="",
    stop="<C_A>",
    default_system=ASSISTANT,
)
BLUELM = ChatFormat(
    name="bluelm",
    prefix=BOS,
    system=BOS + "{{SYSTEM}}",
    user="[|Human|]:{{QUERY}}",
    assistant="[|AI|]:",
    separator="",
)
CODEFUSE = ChatFormat(
    name="codefuse",
    system="<s>system\n{{SYSTEM}}\n",
    user="<s>human\n{{QUERY}}\n",
    assistant="<s>bot\n",
    separator=EOS + "\n",
    plain=frozenset({"<s>"}),  # of CodeFuse-QWen's tokenizer, that is
)
CODEFUSE_CODELLAMA = ChatFormat(
    name="codefuse_codellama",
    system="{{SYSTEM}}",
    user="<|role_start|>human<|role_end|>{{QUERY}}",
    assistant="<|role_start|>bot<|role_end|>",
    separator="",
    plain=frozenset({"<|role_start|>", "<|role_end|>"}),
)
MEGREZ = ChatFormat(
    name="megrez",
    prefix="<|role_start|>system<|role_end|><|turn_end|>",
    system="<|role_start|>system<|role_end|>{{SYSTEM}}<|turn_end|>",
    user="<|role_start|>user<|role_end|>{{QUERY}}<|turn_end|>",
    assistant="<|role_start|>assistant<|role_end|>",
    separator="<|turn_end|>",
    stop="<|turn_end|>",
    default_system="你是Megrez-3B-Instruct，将针对用户的问题给出详细的、积极的回答。",
)
MENGZI = ChatFormat(name="mengzi", system="指令：{{SYSTEM}}", user="输入：{{QUERY}}", assistant="输出：\n", separator="")
MINICPM = ChatFormat(
    name="minicpm",
    prefix="<s>",
    system="<s>{{SYSTEM}}",
    user="<用户>{{QUERY}}",
    assistant="<AI>",
    separator="",
    stop="</s>",
)
MINIMAX = ChatFormat(
    name="minimax",
    system="<beginning_of_sentence>system ai_setting=assistant\n{{SYSTEM}}<end_of_sentence>\n",
    user="<beginning_of_sentence>user name=user\n{{QUERY}}<end_of_sentence>\n",
    assistant="<beginning_of_sentence>ai name=assistant\n",
    separator="<end_of_sentence>\n",
    stop="<end_of_sentence>",
)
MODELSCOPE_AGENT = ChatFormat(
    name="modelscope_agent",
    system=" \n\n<|system|>:{{SYSTEM}}",
    user=" \n\n<|user|>:{{QUERY}} \n\n",
    assistant="<|assistant|>:",
    separator="",
    stop=" \n\n</s>",
    default_system=ASSISTANT,
    plain=frozenset({"<|system|>", "<|user|>", "<|assistant|>", "</s>"}),  # two models with two tokenizers
)
MOONLIGHT = ChatFormat(
    name="moonlight",
    system="<|im_system|>system<|im_middle|>{{SYSTEM}}<|im_end|>",
    user="<|im_user|>user<|im_middle|>{{QUERY}}<|im_end|>",
    assistant="<|im_assistant|>assistant<|im_middle|>",
    separator="<|im_end|>",
    stop="<|im_end|>",
    default_system="You are a helpful assistant",
)
OPENBUDDY = ChatFormat(
    name="openbuddy",
    system="{{SYSTEM}}\n\n",
    user="User: {{QUERY}}\n",
    assistant="Assistant:",
    separator="\n",
    auto_bos=True,
)
OPENBUDDY2 = ChatFormat(
    name="openbuddy2",
    system="<|role|>system<|says|>{{SYSTEM}}<|end|>\n",
    user="<|role|>user<|says|>{{QUERY}}<|end|>\n",
    assistant="<|role|>assistant<|says|>",
    separator="<|end|>\n",
    stop="<|end|>",
    default_system=(
        "You(assistant) are a helpful, respectful and honest INTP-T AI Assistant named Buddy. You are talking to a human(user).\n"
        "Always answer as helpfully and logically as possible, while being safe. Your answers should not include any harmful, political, "
        "religious, unethical, racist, sexist, toxic, dangerous, or illegal content. "
        "Please ensure that your responses are socially unbiased and positive in nature.\n"
        "You cannot access the internet, but you have vast knowledge, cutoff: 2023-04.\n"
        "You are trained by OpenBuddy team, (https://openbuddy.ai, https://github.com/OpenBuddy/OpenBuddy), not related to GPT or OpenAI"
    ),
)
ORION = ChatFormat(
    name="orion",
    prefix="<s>",
    system="<s>{{SYSTEM}}",
    user="Human: {{QUERY}}\n\n",
    assistant="Assistant: </s>",
    separator="</s>",
    stop="</s>",
)
SKYWORK = ChatFormat(
    name="skywork",
    prefix="<s>",
    system="<s>{{SYSTEM}}",
    user="</s><s>[USER]{{QUERY}}",
    assistant="[SEP][BOT]",
    separator=None,
    stop="[SEP]</s>",
)
SUS = ChatFormat(
    name="sus",
    system="{{SYSTEM}}",
    user="### Human: {{QUERY}}\n\n",
    assistant="### Assistant: ",
    separator="<|endoftext|>",
    stop="<|endoftext|>",
)
TELECHAT = ChatFormat(
    name="telechat",
    system="<_system>{{SYSTEM}}\n",
    user="{{TOKEN:user_token_id|<_user>}}{{QUERY}}",
    assistant="{{TOKEN:bot_token_id|<_bot>}}",
    separator=EOS,
    auto_bos=True,
)
TELECHAT2_SYSTEM = (
    "你是中国电信星辰语义大模型，英文名是TeleChat，你是由中电信人工智能科技有限公司和中国电信人工智能研究院（TeleAI）研发的人工智能助手。"
)
XVERSE = ChatFormat(name="xverse", system="{{SYSTEM}}", user="Human: {{QUERY}}\n\n", assistant="Assistant: ", separator=EOS)
YUAN = ChatFormat(name="yuan", user="{{QUERY}}<sep>", separator=None)

FORMATS = (
    BAICHUAN,
    BAICHUAN_M1,
    BLUELM,
    CODEFUSE,
    CODEFUSE_CODELLAMA,
    MEGREZ,
    MENGZI,
    MINICPM,
    MINIMAX,
    MODELSCOPE_AGENT,
    MOONLIGHT,
    OPENBUDDY,
    OPENBUDDY2,
    ORION,
    SKYWORK,
    SUS,
    TELECHAT,
    replace(TELECHAT, name="telechat2", default_system=TELECHAT2_SYSTEM),
    XVERSE,
    replace(CHATML, name="yi_coder", default_system=ASSISTANT),
    YUAN,
)

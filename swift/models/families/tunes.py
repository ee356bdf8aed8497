"""What others made out of the architectures of Llama, Mistral and Qwen, under names of their own."""

from swift.models.families.llama import LLAMA
from swift.models.families.mistral import MISTRAL, MIXTRAL
from swift.models.spec import Group, ModelSpec

SPECS = (
    ModelSpec("atom", ids=("FlagAlpha/Atom-7B{,-Chat}",), chat_format="atom", architectures=LLAMA),
    ModelSpec(
        "codefuse_codellama",
        ids=("codefuse-ai/CodeFuse-CodeLlama-34B",),
        chat_format="codefuse_codellama",
        architectures=LLAMA,
        tags=("coding",),
    ),
    ModelSpec(
        "codefuse_qwen",
        ids=("codefuse-ai/CodeFuse-QWen-14B",),
        chat_format="codefuse",
        architectures=("QWenLMHeadModel",),
        tags=("coding",),
        remote_code=True,
    ),
    ModelSpec(
        "longwriter_llama3_1",
        ids=("ZhipuAI/LongWriter-llama3.1-8b -> THUDM/",),
        chat_format="longwriter_llama",
        architectures=LLAMA,
        requires=("transformers>=4.43",),
    ),
    ModelSpec(
        "megrez",
        ids=("InfiniAI/Megrez-3b-Instruct -> Infinigence/Megrez-3B-Instruct",),
        chat_format="megrez",
        architectures=LLAMA,
    ),
    ModelSpec("mengzi3", ids=("langboat/Mengzi3-13B-Base -> Langboat/",), chat_format="mengzi", architectures=LLAMA),
    ModelSpec(
        "numina",
        ids=("AI-ModelScope/NuminaMath-7B-TIR -> AI-MO/",),
        chat_format="numina",
        architectures=LLAMA,
        tags=("math",),
    ),
    ModelSpec(
        "openbuddy_llama",
        ids=(
            "OpenBuddy/openbuddy-llama-65b-v8-bf16",
            "OpenBuddy/openbuddy-llama2-{13b-v8.1-fp16,70b-v10.1-bf16}",
            "OpenBuddy/openbuddy-deepseek-67b-v15.2",
        ),
        chat_format="openbuddy",
        architectures=LLAMA,
    ),
    ModelSpec(
        "openbuddy_llama3",
        ids=(
            "OpenBuddy/openbuddy-llama3-{8b,70b}-v21.1-8k",
            "OpenBuddy/openbuddy-yi1.5-34b-v21.3-32k",
            Group(
                ("OpenBuddy/openbuddy-llama3.1-8b-v22.1-131k", "OpenBuddy/openbuddy-nemotron-70b-v23.2-131k"),
                requires=("transformers>=4.43",),
            ),
            Group(("OpenBuddy/openbuddy-llama3.3-70b-v24.3-131k",), requires=("transformers>=4.45",)),
        ),
        chat_format="openbuddy2",
        architectures=LLAMA,
    ),
    ModelSpec(
        "openbuddy_mistral",
        ids=("OpenBuddy/openbuddy-mistral-7b-v17.1-32k", "OpenBuddy/openbuddy-zephyr-7b-v14.1"),
        chat_format="openbuddy",
        architectures=MISTRAL,
        requires=("transformers>=4.34",),
    ),
    ModelSpec(
        "openbuddy_mixtral",
        ids=("OpenBuddy/openbuddy-mixtral-7bx8-v18.1-32k",),
        chat_format="openbuddy",
        architectures=MIXTRAL,
        requires=("transformers>=4.36",),
    ),
    ModelSpec(
        "reflection",
        ids=("LLM-Research/Reflection-Llama-3.1-70B -> mattshumer/",),
        chat_format="reflection",
        architectures=LLAMA,
        requires=("transformers>=4.43",),
        tags=("thinking",),
    ),
    ModelSpec(
        "skywork_o1",
        ids=("AI-ModelScope/Skywork-o1-Open-Llama-3.1-8B -> Skywork/",),
        chat_format="skywork_o1",
        architectures=LLAMA,
        requires=("transformers>=4.43",),
        tags=("thinking",),
    ),
    ModelSpec("sus", ids=("SUSTC/SUS-Chat-34B -> SUSTech/",), chat_format="sus", architectures=LLAMA),
    ModelSpec("ziya", ids=("Fengshenbang/Ziya2-13B-{Base,Chat} -> IDEA-CCNL/",), chat_format="ziya", architectures=LLAMA),
)

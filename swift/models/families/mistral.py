"""Mistral AI. Three versions of one type write blanks and the system text differently: the checkpoint's own chat template decides."""

from swift.models.families.llama import AQLM
from swift.models.spec import Group, ModelSpec

MISTRAL, MIXTRAL = ("MistralForCausalLM",), ("MixtralForCausalLM",)

SPECS = (
    ModelSpec(
        "mistral",
        ids=(
            "AI-ModelScope/Mistral-7B-Instruct-{v0.1,v0.2} -> mistralai/",
            "LLM-Research/Mistral-7B-Instruct-v0.3 -> mistralai/",
            "AI-ModelScope/Mistral-7B-v0.1 -> mistralai/",
            "AI-ModelScope/Mistral-7B-v0.2-hf -> alpindale/",
            "LLM-Research/Mistral-7B-v0.3 -> mistralai/",
            "swift/Codestral-22B-v0.1 -> mistralai/",
        ),
        chat_format="llama",
        architectures=MISTRAL,
        requires=("transformers>=4.34",),
    ),
    ModelSpec(
        "mistral_nemo",
        ids=(
            Group(
                (
                    "AI-ModelScope/Mistral-Small-Instruct-2409 -> mistralai/",
                    "LLM-Research/Mistral-Large-Instruct-2407 -> mistralai/",
                    "AI-ModelScope/Mistral-Nemo-{Base,Instruct}-2407 -> mistralai/",
                ),
                requires=("transformers>=4.43",),
            ),
            Group(("AI-ModelScope/Ministral-8B-Instruct-2410 -> mistralai/",), requires=("transformers>=4.46",)),
        ),
        chat_format="mistral_nemo",
        architectures=MISTRAL,
    ),
    ModelSpec(
        "mistral_2501",
        ids=("mistralai/Mistral-Small-24B-{Base,Instruct}-2501",),
        chat_format="mistral_2501",
        architectures=MISTRAL,
    ),
    ModelSpec(
        "mixtral",
        ids=(
            Group(
                ("AI-ModelScope/Mixtral-{8x7B-Instruct,8x7B,8x22B,8x22B-Instruct}-v0.1 -> mistralai/",), requires=("transformers>=4.36",)
            ),
            Group(("AI-ModelScope/Mixtral-8x7b-AQLM-2Bit-1x16-hf -> ISTA-DASLab/",), requires=AQLM),
        ),
        chat_format="llama",
        architectures=MIXTRAL,
    ),
    ModelSpec(
        "zephyr",
        ids=("modelscope/zephyr-7b-beta -> HuggingFaceH4/",),
        chat_format="zephyr",
        architectures=MISTRAL,
        requires=("transformers>=4.34",),
    ),
    ModelSpec(
        "wizardlm2",
        ids=("AI-ModelScope/WizardLM-2-7B-AWQ -> MaziyarPanahi/",),
        chat_format="wizardlm2",
        architectures=MISTRAL,
        requires=("transformers>=4.34",),
    ),
    ModelSpec(
        "wizardlm2_moe",
        ids=("AI-ModelScope/WizardLM-2-8x22B -> alpindale/",),
        chat_format="wizardlm2_moe",
        architectures=MIXTRAL,
        requires=("transformers>=4.36",),
    ),
)

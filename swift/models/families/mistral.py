"""Mistral AI. Three versions of one type write blanks and the system text differently: the checkpoint's own chat template decides."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "mistral",
        ids=("Mistral-7B-Instruct-{v0.1,v0.2,v0.3}", "Mistral-7B-{v0.1,v0.2-hf,v0.3}", "Codestral-22B-v0.1"),
        chat_format="llama",
        architectures=("MistralForCausalLM",),
    ),
    ModelSpec(
        "mistral_nemo",
        ids=(
            "Mistral-Small-Instruct-2409",
            "Mistral-Large-Instruct-2407",
            "Mistral-Nemo-{Base,Instruct}-2407",
            "Ministral-8B-Instruct-2410",
        ),
        chat_format="mistral_nemo",
        architectures=("MistralForCausalLM",),
    ),
    ModelSpec(
        "mistral_2501",
        ids=("Mistral-Small-24B-{Base,Instruct}-2501",),
        chat_format="mistral_2501",
        architectures=("MistralForCausalLM",),
    ),
    ModelSpec(
        "mixtral",
        ids=("Mixtral-{8x7B,8x22B}{-Instruct,}-v0.1", "Mixtral-8x7b-AQLM-2Bit-1x16-hf"),
        chat_format="llama",
        architectures=("MixtralForCausalLM",),
    ),
)

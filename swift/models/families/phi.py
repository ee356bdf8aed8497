"""Microsoft's Phi."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec("phi2", ids=("AI-ModelScope/phi-2 -> microsoft/",), chat_format="default", architectures=("PhiForCausalLM",)),
    ModelSpec(
        "phi3",
        ids=(
            "LLM-Research/Phi-3-{mini,medium}-{4k,128k}-instruct -> microsoft/",
            "LLM-Research/Phi-3.5-mini-instruct -> microsoft/",
            "LLM-Research/Phi-4-mini-instruct -> microsoft/",
        ),
        chat_format="phi3",
        architectures=("Phi3ForCausalLM",),
        requires=("transformers>=4.36",),
    ),
    ModelSpec(
        "phi3_moe",
        ids=("LLM-Research/Phi-3.5-MoE-instruct -> microsoft/",),
        chat_format="phi3",
        architectures=("PhiMoEForCausalLM",),
        requires=("transformers>=4.36",),
    ),
    ModelSpec(
        "phi3_small",
        ids=("LLM-Research/Phi-3-small-{8k,128k}-instruct -> microsoft/",),
        chat_format="phi3",
        architectures=("Phi3SmallForCausalLM",),
        requires=("transformers>=4.36",),
        remote_code=True,
    ),
    ModelSpec(
        "phi4",
        ids=("LLM-Research/phi-4 -> microsoft/",),
        chat_format="phi4",
        architectures=("Phi3ForCausalLM",),
        requires=("transformers>=4.36",),
    ),
)

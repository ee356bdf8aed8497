"""Microsoft's Phi 3 and 4."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "phi3",
        ids=("Phi-3-{mini,medium}-{4k,128k}-instruct", "Phi-3.5-mini-instruct", "Phi-4-mini-instruct"),
        chat_format="phi3",
        architectures=("Phi3ForCausalLM",),
    ),
    ModelSpec("phi3_moe", ids=("Phi-3.5-MoE-instruct",), chat_format="phi3", architectures=("PhiMoEForCausalLM",)),
    ModelSpec("phi3_small", ids=("Phi-3-small-{8k,128k}-instruct",), chat_format="phi3", architectures=("Phi3SmallForCausalLM",)),
    ModelSpec("phi4", ids=("phi-4",), chat_format="phi4", architectures=("Phi3ForCausalLM",)),
)

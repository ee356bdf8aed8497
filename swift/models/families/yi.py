"""01.AI's Yi."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "yi",
        ids=(
            "01ai/Yi-{6B,9B,34B}{,-200K} -> 01-ai/",
            "01ai/Yi-{6B,34B}-Chat{,-4bits,-8bits} -> 01-ai/",
            "01ai/Yi-1.5-{6B,9B,34B}{,-Chat} -> 01-ai/",
            "01ai/Yi-1.5-{9B,34B}-Chat-16K -> 01-ai/",
            "AI-ModelScope/Yi-1.5-{6B,9B,34B}-Chat-{GPTQ,AWQ} -> modelscope/",
        ),
        chat_format="chatml",
        architectures=("LlamaForCausalLM",),
    ),
    ModelSpec(
        "yi_coder",
        ids=("01ai/Yi-Coder-{1.5B,9B}{,-Chat} -> 01-ai/",),
        chat_format="yi_coder",
        architectures=("LlamaForCausalLM",),
        tags=("coding",),
    ),
)

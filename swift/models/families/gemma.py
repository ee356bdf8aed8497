"""Google's Gemma 1 and 2."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec("gemma", ids=("gemma-{2b,7b}{-it,}",), chat_format="gemma", architectures=("GemmaForCausalLM",)),
    ModelSpec("gemma2", ids=("gemma-2-{2b,9b,27b}{-it,}",), chat_format="gemma", architectures=("Gemma2ForCausalLM",)),
)

"""Meta's Llama 2 and 3. Basenames of Appendix B (ModelScope's and Hugging Face's)."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "llama",
        ids=(
            "Llama-2-{7b,13b,70b}{,-chat}{-ms,-hf}",
            "chinese-llama-2-{1.3b,7b,7b-16k,7b-64k,13b,13b-16k}",
            "chinese-alpaca-2-{1.3b,7b,7b-16k,7b-64k,13b,13b-16k}",
            "Llama-2-7b-AQLM-2Bit-1x16-hf",
        ),
        chat_format="llama",
        architectures=("LlamaForCausalLM",),
    ),
    ModelSpec(
        "llama3",
        ids=(
            "Meta-Llama-3-{8B,70B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
            "llama-3-chinese-8b{-instruct,}",
        ),
        chat_format="llama3",
        architectures=("LlamaForCausalLM",),
    ),
    ModelSpec(
        "llama3_1",
        ids=(
            "{Meta-,}Llama-3.1-{8B,70B,405B}{-Instruct,}",
            "Meta-Llama-3.1-{70B,405B}-Instruct-FP8",
            "Meta-Llama-3.1-{8B,405B}-Instruct-BNB-NF4",
            "Meta-Llama-3.1-70B-Instruct-bnb-4bit",
            "Meta-Llama-3.1-{8B,70B,405B}-Instruct-{GPTQ,AWQ}-INT4",
            "Llama-3.1-Nemotron-70B-Instruct-HF",
        ),
        chat_format="llama3_1",
        architectures=("LlamaForCausalLM",),
    ),
    ModelSpec(
        "llama3_2",
        ids=("Llama-3.2-{1B,3B}{-Instruct,}", "Llama-3.3-70B-Instruct{,-bnb-4bit}"),
        chat_format="llama3_2",
        architectures=("LlamaForCausalLM",),
    ),
)

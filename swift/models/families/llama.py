"""Meta's Llama 2 to 4, and small models with its architecture and a chat template of their own."""

from swift.models.spec import Group, ModelSpec

LLAMA = ("LlamaForCausalLM",)
AQLM = ("transformers>=4.38", "aqlm", "torch>=2.2.0")

SPECS = (
    ModelSpec(
        "llama",
        ids=(
            Group(
                ("modelscope/Llama-2-{7b,13b,70b}{,-chat}-ms -> meta-llama/Llama-2-{7b,13b,70b}{,-chat}-hf",),
                ignore=("*.bin",),  # the same weights a second time
            ),
            "AI-ModelScope/chinese-llama-2-{1.3b,7b,7b-16k,7b-64k,13b,13b-16k} -> hfl/",
            "AI-ModelScope/chinese-alpaca-2-{1.3b,7b,7b-16k,7b-64k,13b,13b-16k} -> hfl/",
            Group(("AI-ModelScope/Llama-2-7b-AQLM-2Bit-1x16-hf -> ISTA-DASLab/",), requires=AQLM),
        ),
        chat_format="llama",
        architectures=LLAMA,
    ),
    ModelSpec(
        "llama3",
        ids=(
            "LLM-Research/Meta-Llama-3-{8B,70B}{-Instruct,} -> meta-llama/",
            "swift/Meta-Llama-3-{8B,70B}-Instruct-{GPTQ-Int4,GPTQ-Int8,AWQ} -> study-hjt/",
            "ChineseAlpacaGroup/llama-3-chinese-8b{-instruct,} -> hfl/",
        ),
        chat_format="llama3",
        architectures=LLAMA,
    ),
    ModelSpec(
        "llama3_1",
        ids=(
            "LLM-Research/Meta-Llama-3.1-{8B,70B,405B}{-Instruct,} -> meta-llama/Llama-3.1-{8B,70B,405B}{-Instruct,}",
            "LLM-Research/Meta-Llama-3.1-70B-Instruct-FP8 -> neuralmagic/",
            "LLM-Research/Meta-Llama-3.1-405B-Instruct-FP8 -> meta-llama/",
            "LLM-Research/Meta-Llama-3.1-{8B,405B}-Instruct-BNB-NF4 -> hugging-quants/",
            "LLM-Research/Meta-Llama-3.1-70B-Instruct-bnb-4bit -> unsloth/",
            "LLM-Research/Meta-Llama-3.1-{8B,70B,405B}-Instruct-{GPTQ,AWQ}-INT4 -> hugging-quants/",
            "AI-ModelScope/Llama-3.1-Nemotron-70B-Instruct-HF -> nvidia/",
        ),
        # Appendix A has llama3_2, which writes today's date where Llama 3.1 writes a fixed one
        chat_format="llama3_1",
        architectures=LLAMA,
        requires=("transformers>=4.43",),
    ),
    ModelSpec(
        "llama3_2",
        ids=(
            "LLM-Research/Llama-3.2-{1B,3B}{-Instruct,} -> meta-llama/",
            "LLM-Research/Llama-3.3-70B-Instruct -> meta-llama/",
            "unsloth/Llama-3.3-70B-Instruct-bnb-4bit",
        ),
        chat_format="llama3_2",
        architectures=LLAMA,
        requires=("transformers>=4.45",),
    ),
    # The checkpoints hold a vision tower too; AutoModelForCausalLM loads the language model alone
    ModelSpec(
        "llama4",
        ids=(
            "LLM-Research/Llama-4-Scout-17B-16E{,-Instruct} -> meta-llama/",
            "LLM-Research/Llama-4-Maverick-17B-128E{,-Instruct,-Instruct-FP8} -> meta-llama/",
        ),
        architectures=("Llama4ForCausalLM", "Llama4ForConditionalGeneration"),
    ),
    ModelSpec("codellama", ids=("codellama/CodeLlama-{7b,13b,34b,70b}{,-Instruct,-Python}-hf",), architectures=LLAMA, tags=("coding",)),
    ModelSpec("tinyllama", ids=("AI-ModelScope/TinyLlama-1.1B-Chat-{v0.6,v1.0} -> TinyLlama/",), architectures=LLAMA),
    ModelSpec(
        "smollm",
        ids=("HuggingFaceTB/SmolLM-{135M,360M,1.7B}{,-Instruct}", "HuggingFaceTB/SmolLM2-{135M,360M,1.7B}{,-Instruct}"),
        architectures=LLAMA,
    ),
    ModelSpec("smollm3", ids=("HuggingFaceTB/SmolLM3-3B{,-Base}",), architectures=("SmolLM3ForCausalLM",), tags=("thinking",)),
    ModelSpec("falcon3", ids=("tiiuae/Falcon3-{1B,3B,7B,10B}-{Base,Instruct}",), architectures=LLAMA),
)

REWARD = (
    ModelSpec(
        "llama3_2_reward",
        ids=(
            "AI-ModelScope/Skywork-Reward-Llama-3.1-8B{,-v0.2} -> Skywork/",
            "AI-ModelScope/GRM_Llama3.1_8B_rewardmodel-ft -> Ray2333/",
            "AI-ModelScope/GRM-llama3.2-3B-rewardmodel-ft -> Ray2333/",
        ),
        chat_format="llama3_2",
        architectures=("LlamaForSequenceClassification",),
        requires=("transformers>=4.43",),
        tags=("reward",),
        task_type="seq_cls",
        num_labels=1,
    ),
)

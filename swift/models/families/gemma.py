"""Google's Gemma."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "gemma",
        ids=("AI-ModelScope/gemma-{2b,7b}{-it,} -> google/",),
        chat_format="gemma",
        architectures=("GemmaForCausalLM",),
        requires=("transformers>=4.38",),
    ),
    ModelSpec(
        "gemma2",
        ids=("LLM-Research/gemma-2-{2b,9b,27b}{-it,} -> google/",),
        chat_format="gemma",
        architectures=("Gemma2ForCausalLM",),
        requires=("transformers>=4.42",),
    ),
    ModelSpec("gemma3_text", ids=("LLM-Research/gemma-3-{270m,270m-it,1b-pt,1b-it} -> google/",), architectures=("Gemma3ForCausalLM",)),
)

REWARD = (
    ModelSpec(
        "gemma_reward",
        ids=("AI-ModelScope/Skywork-Reward-Gemma-2-27B{,-v0.2} -> Skywork/",),
        chat_format="gemma",
        architectures=("Gemma2ForSequenceClassification",),
        requires=("transformers>=4.42",),
        tags=("reward",),
        task_type="seq_cls",
        num_labels=1,
    ),
)

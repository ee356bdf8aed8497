"""Alibaba's Qwen and the other models of its laboratories. Qwen3 and later after their model cards."""

from swift.models.spec import ModelSpec

_QWEN2 = ("Qwen2ForCausalLM",)
_QWEN3 = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")

SPECS = (
    ModelSpec(
        "qwen",
        ids=(
            "Qwen/Qwen-{1_8B,7B,14B,72B}{-Chat,,-Chat-Int4,-Chat-Int8}",
            "TongyiFinance/Tongyi-Finance-14B{-Chat,-Chat-Int4} -> jxy/",
            "TongyiFinance/Tongyi-Finance-14B ->",
        ),
        chat_format="qwen",
        architectures=("QWenLMHeadModel",),
        remote_code=True,
    ),
    ModelSpec(
        "modelscope_agent",
        ids=("iic/ModelScope-Agent-{7B,14B} ->",),
        chat_format="modelscope_agent",
        architectures=("QWenLMHeadModel",),
        remote_code=True,
        tags=("agent",),
    ),
    ModelSpec(
        "qwen2",
        ids=(
            "Qwen/Qwen1.5-{0.5B,1.8B,4B,7B,14B,32B,72B,110B}{-Chat,,-Chat-GPTQ-Int4,-Chat-AWQ}",
            "Qwen/Qwen1.5-{0.5B,1.8B,4B,7B,14B,72B}-Chat-GPTQ-Int8",
            "Qwen/CodeQwen1.5-7B{,-Chat,-Chat-AWQ}",
            "Qwen/Qwen2-{0.5B,1.5B,7B,72B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
            "Qwen/Qwen2-Math-{1.5B,7B,72B}{-Instruct,}",
            "PowerInfer/SmallThinker-3B-Preview",
            "Qwen/Qwen2.5-{7B,14B}-Instruct-1M",
        ),
        chat_format="qwen",
        architectures=_QWEN2,
        requires=("transformers>=4.37",),
    ),
    ModelSpec(
        "qwen2_5",
        ids=(
            "Qwen/Qwen2.5-{0.5B,1.5B,3B,7B,14B,32B,72B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
            "Qwen/Qwen2.5-Coder-{0.5B,1.5B,3B,7B,14B,32B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
        ),
        chat_format="qwen2_5",
        architectures=_QWEN2,
        requires=("transformers>=4.37",),
    ),
    ModelSpec(
        "qwen2_5_math",
        ids=("Qwen/Qwen2.5-Math-{1.5B,7B,72B}{-Instruct,}",),
        chat_format="qwen2_5_math",
        architectures=_QWEN2,
        requires=("transformers>=4.37",),
        tags=("math",),
    ),
    ModelSpec(
        "qwen2_moe",
        ids=("Qwen/Qwen1.5-MoE-A2.7B{-Chat,,-Chat-GPTQ-Int4}", "Qwen/Qwen2-57B-A14B{-Instruct,,-Instruct-GPTQ-Int4}"),
        chat_format="qwen",
        architectures=("Qwen2MoeForCausalLM",),
        requires=("transformers>=4.40",),
    ),
    ModelSpec(
        "qwq",
        ids=("Qwen/QwQ-32B-Preview",),
        chat_format="qwq",
        architectures=_QWEN2,
        requires=("transformers>=4.37",),
        tags=("thinking",),
    ),
    ModelSpec(
        "qwen3",
        ids=("Qwen/Qwen3-{0.6B,1.7B,4B,8B,14B}{,-Base,-FP8,-AWQ}", "Qwen/Qwen3-32B{,-FP8,-AWQ}"),
        chat_format="qwen3",
        architectures=("Qwen3ForCausalLM",),
        tags=("thinking",),
    ),
    ModelSpec(
        "qwen3_moe",
        ids=("Qwen/Qwen3-30B-A3B{,-Base,-FP8}", "Qwen/Qwen3-235B-A22B{,-FP8}"),
        chat_format="qwen3",
        architectures=("Qwen3MoeForCausalLM",),
        tags=("thinking",),
    ),
    ModelSpec(
        "qwen3_instruct",
        ids=("Qwen/Qwen3-{4B,30B-A3B,235B-A22B}-Instruct-2507{,-FP8}", "Qwen/Qwen3-Coder-{30B-A3B,480B-A35B}-Instruct{,-FP8}"),
        chat_format="qwen3_instruct",
        architectures=_QWEN3,
    ),
    ModelSpec(
        "qwen3_thinking",
        ids=("Qwen/Qwen3-{4B,30B-A3B,235B-A22B}-Thinking-2507{,-FP8}", "Qwen/QwQ-32B"),
        architectures=_QWEN3,
        tags=("thinking",),
    ),
    ModelSpec("qwen3_next", ids=("Qwen/Qwen3-Next-80B-A3B-{Instruct,Thinking}",), architectures=("Qwen3NextForCausalLM",)),
    # Their checkpoints hold a vision tower too; AutoModelForCausalLM loads the language model alone
    ModelSpec(
        "qwen3_5",
        ids=("Qwen/Qwen3.5-{0.8B,2B,4B,9B,27B}{,-Base}",),
        architectures=("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
        tags=("thinking",),
    ),
    ModelSpec(
        "qwen3_5_moe",
        ids=("Qwen/Qwen3.5-{35B-A3B,122B-A10B,397B-A17B}",),
        architectures=("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
        tags=("thinking",),
    ),
    ModelSpec(
        "marco_o1",
        ids=("AIDC-AI/Marco-o1",),
        chat_format="marco_o1",
        architectures=_QWEN2,
        requires=("transformers>=4.37",),
        tags=("thinking",),
    ),
    ModelSpec(
        "polylm",
        ids=("damo/nlp_polylm_13b_text_generation -> DAMO-NLP-MT/polylm-13b",),
        chat_format="default",
        architectures=("GPT2LMHeadModel",),
    ),
    ModelSpec(
        "seggpt",
        ids=("damo/nlp_seqgpt-560m -> DAMO-NLP/SeqGPT-560M",),
        chat_format="default",
        architectures=("BloomForCausalLM",),
    ),
)

REWARD = (
    ModelSpec(
        "qwen2_reward",
        ids=("Qwen/Qwen2-Math-RM-72B",),
        chat_format="qwen",
        architectures=("Qwen2ForRewardModel",),
        requires=("transformers>=4.37",),
        tags=("reward",),
        remote_code=True,
        task_type="seq_cls",
        num_labels=1,
    ),
    ModelSpec(
        "qwen2_5_math_reward",
        ids=("Qwen/Qwen2.5-Math-RM-72B",),
        chat_format="qwen2_5_math",
        architectures=("Qwen2ForRewardModel",),
        requires=("transformers>=4.37",),
        tags=("reward",),
        remote_code=True,
        task_type="seq_cls",
        num_labels=1,
    ),
    ModelSpec(
        "qwen2_5_prm",
        ids=("Qwen/Qwen2.5-Math-PRM-{7B,72B}", "Qwen/Qwen2.5-Math-7B-PRM800K"),
        chat_format="qwen2_5_math_prm",
        architectures=("Qwen2ForProcessRewardModel",),
        requires=("transformers>=4.37",),
        tags=("reward", "prm"),
        remote_code=True,
        task_type="seq_cls",
        num_labels=1,
    ),
)

ENCODERS = (
    ModelSpec(
        "qwen2_gte",
        ids=("iic/gte_Qwen2-{1.5B,7B}-instruct ->",),
        chat_format="dummy",
        architectures=_QWEN2,
        task_type="embedding",
    ),
    ModelSpec(
        "bert",
        ids=("iic/nlp_structbert_backbone_base_std ->",),
        chat_format="dummy",
        config_types=("bert",),
        task_type="seq_cls",
    ),
    ModelSpec(
        "modern_bert",
        ids=("answerdotai/ModernBERT-{base,large}",),
        chat_format="dummy",
        config_types=("modernbert",),
        requires=("transformers>=4.48",),
        task_type="seq_cls",
    ),
    ModelSpec(
        "modern_bert_gte",
        ids=("iic/gte-modernbert-base -> Alibaba-NLP/",),
        chat_format="dummy",
        config_types=("modernbert",),
        requires=("transformers>=4.48",),
        task_type="embedding",
    ),
)

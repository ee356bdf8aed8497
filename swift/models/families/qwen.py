"""Alibaba's Qwen. Basenames of Appendix B; Qwen3 after its model cards."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "qwen",
        ids=(
            "Qwen-{1_8B,7B,14B,72B}{-Chat,,-Chat-Int4,-Chat-Int8}",
            "Tongyi-Finance-14B{-Chat,,-Chat-Int4}",
        ),
        chat_format="qwen",
        architectures=("QWenLMHeadModel",),
    ),
    ModelSpec(
        "qwen2",
        ids=(
            "Qwen1.5-{0.5B,1.8B,4B,7B,14B,32B,72B,110B}{-Chat,,-Chat-GPTQ-Int4,-Chat-GPTQ-Int8,-Chat-AWQ}",
            "CodeQwen1.5-7B{,-Chat,-Chat-AWQ}",
            "Qwen2-{0.5B,1.5B,7B,72B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
            "Qwen2-Math-{1.5B,7B,72B}{-Instruct,}",
            "SmallThinker-3B-Preview",
            "Qwen2.5-{7B,14B}-Instruct-1M",
        ),
        chat_format="qwen",
        architectures=("Qwen2ForCausalLM",),
    ),
    ModelSpec(
        "qwen2_5",
        ids=(
            "Qwen2.5-{0.5B,1.5B,3B,7B,14B,32B,72B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
            "Qwen2.5-Coder-{0.5B,1.5B,3B,7B,14B,32B}{-Instruct,,-Instruct-GPTQ-Int4,-Instruct-GPTQ-Int8,-Instruct-AWQ}",
        ),
        chat_format="qwen2_5",
        architectures=("Qwen2ForCausalLM",),
    ),
    ModelSpec(
        "qwen2_5_math",
        ids=("Qwen2.5-Math-{1.5B,7B,72B}{-Instruct,}",),
        chat_format="qwen2_5_math",
        architectures=("Qwen2ForCausalLM",),
    ),
    ModelSpec(
        "qwen2_moe",
        ids=("Qwen1.5-MoE-A2.7B{-Chat,,-Chat-GPTQ-Int4}", "Qwen2-57B-A14B{-Instruct,,-Instruct-GPTQ-Int4}"),
        chat_format="qwen",
        architectures=("Qwen2MoeForCausalLM",),
    ),
    ModelSpec("qwq", ids=("QwQ-32B-Preview",), chat_format="qwq", architectures=("Qwen2ForCausalLM",)),
    ModelSpec(
        "qwen3",
        ids=("Qwen3-{0.6B,1.7B,4B,8B,14B}{,-Base,-FP8,-AWQ}", "Qwen3-32B{,-FP8,-AWQ}"),
        chat_format="qwen3",
        architectures=("Qwen3ForCausalLM",),
    ),
    ModelSpec(
        "qwen3_moe",
        ids=("Qwen3-30B-A3B{,-Base,-FP8}", "Qwen3-235B-A22B{,-FP8}"),
        chat_format="qwen3",
        architectures=("Qwen3MoeForCausalLM",),
    ),
    ModelSpec(
        "qwen3_instruct",
        ids=("Qwen3-{4B,30B-A3B,235B-A22B}-Instruct-2507{,-FP8}", "Qwen3-Coder-{30B-A3B,480B-A35B}-Instruct{,-FP8}"),
        chat_format="qwen3_instruct",
        architectures=("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
    ),
    ModelSpec(
        "qwen3_thinking",
        ids=("Qwen3-{4B,30B-A3B,235B-A22B}-Thinking-2507{,-FP8}", "QwQ-32B"),
        architectures=("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
    ),
)

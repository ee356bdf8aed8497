"""DeepSeek, and Moonshot's models of the same architecture."""

from swift.models.spec import Group, ModelSpec

SPECS = (
    ModelSpec(
        "deepseek",
        ids=(
            "deepseek-ai/deepseek-llm-{7b,67b}-{base,chat}",
            "deepseek-ai/deepseek-math-7b-{base,instruct,rl}",
            "deepseek-ai/deepseek-coder-{1.3b,6.7b,33b}-{base,instruct}",
        ),
        chat_format="deepseek",
        architectures=("LlamaForCausalLM",),
    ),
    ModelSpec(
        "deepseek_moe",
        ids=("deepseek-ai/deepseek-moe-16b-{chat,base}",),
        chat_format="deepseek",
        architectures=("DeepseekForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "deepseek_v2",
        ids=("deepseek-ai/DeepSeek-Coder-V2-{Instruct,Lite-Instruct,Base,Lite-Base}", "deepseek-ai/DeepSeek-V2{-Lite,}{-Chat,}"),
        chat_format="deepseek",
        architectures=("DeepseekV2ForCausalLM",),
        requires=("transformers>=4.39.3",),
    ),
    ModelSpec(
        "deepseek_v2_5",
        ids=("deepseek-ai/DeepSeek-V2.5{,-1210}", "deepseek-ai/DeepSeek-V3{-Base,}", "cognitivecomputations/DeepSeek-V3-awq"),
        chat_format="deepseek_v2_5",
        architectures=("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
        requires=("transformers>=4.39.3",),
    ),
    ModelSpec(
        "deepseek_r1",
        ids=("deepseek-ai/DeepSeek-R1{,-Zero}", "cognitivecomputations/DeepSeek-R1-awq"),
        chat_format="deepseek_r1",
        architectures=("DeepseekV3ForCausalLM",),
        requires=("transformers>=4.39.3",),
        tags=("thinking",),
    ),
    ModelSpec(
        "deepseek_r1_distill",
        ids=(
            Group(("deepseek-ai/DeepSeek-R1-Distill-Qwen-{1.5B,7B,14B,32B}",), requires=("transformers>=4.37",)),
            "deepseek-ai/DeepSeek-R1-Distill-Llama-{8B,70B}",
        ),
        chat_format="deepseek_r1",
        architectures=("Qwen2ForCausalLM", "LlamaForCausalLM"),
        tags=("thinking",),
    ),
    ModelSpec(
        "deepseek_v3",
        ids=("deepseek-ai/DeepSeek-V3-0324", "deepseek-ai/DeepSeek-V3.1{,-Base,-Terminus}", "deepseek-ai/DeepSeek-R1-0528"),
        architectures=("DeepseekV3ForCausalLM",),
        tags=("thinking",),
    ),
    ModelSpec(
        "deepseek_r1_0528_distill",
        ids=("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",),
        architectures=("Qwen3ForCausalLM",),
        tags=("thinking",),
    ),
    ModelSpec("deepseek_v3_2", ids=("deepseek-ai/DeepSeek-V3.2{,-Exp,-Speciale}",), architectures=("DeepseekV32ForCausalLM",)),
    ModelSpec("deepseek_v4", ids=("deepseek-ai/DeepSeek-V4-{Flash,Pro}",), architectures=("DeepseekV4ForCausalLM",)),
    ModelSpec(
        "moonlight",
        ids=("moonshotai/Moonlight-16B-A3B{,-Instruct}",),
        chat_format="moonlight",
        architectures=("DeepseekV3ForCausalLM",),
        requires=("transformers<4.49",),
        remote_code=True,
    ),
    ModelSpec(
        "kimi_k2",
        ids=("moonshotai/Kimi-K2-{Base,Instruct,Instruct-0905,Thinking}",),
        architectures=("DeepseekV3ForCausalLM",),
        remote_code=True,
    ),
)

"""Shanghai AI Laboratory's InternLM."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "internlm",
        ids=(
            "Shanghai_AI_Laboratory/internlm{-chat,}-{7b,20b} -> internlm/",
            "Shanghai_AI_Laboratory/internlm-chat-7b-8k ->",
        ),
        chat_format="internlm",
        architectures=("InternLMForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "internlm2",
        ids=(
            "Shanghai_AI_Laboratory/internlm2{-chat,}-1_8b -> internlm/",
            "Shanghai_AI_Laboratory/internlm2-chat-{1_8b,7b,20b}-sft -> internlm/",
            "Shanghai_AI_Laboratory/internlm2{-base,,-chat}-{7b,20b} -> internlm/",
            "Shanghai_AI_Laboratory/internlm2-math{,-base}-{7b,20b} -> internlm/",
            "Shanghai_AI_Laboratory/internlm2_5-{1_8b,7b,20b}{,-chat} -> internlm/",
            "Shanghai_AI_Laboratory/internlm2_5-7b-chat-1m -> internlm/",
        ),
        chat_format="internlm2",
        architectures=("InternLM2ForCausalLM",),
        requires=("transformers>=4.38",),
        remote_code=True,
    ),
    ModelSpec(
        "internlm3",
        ids=("Shanghai_AI_Laboratory/internlm3-8b-instruct -> internlm/",),
        chat_format="internlm2",
        architectures=("InternLM3ForCausalLM",),
        requires=("transformers>=4.48",),
    ),
)

REWARD = (
    ModelSpec(
        "internlm2_reward",
        ids=("Shanghai_AI_Laboratory/internlm2-{1_8b,7b,20b}-reward -> internlm/",),
        chat_format="internlm2_reward",
        architectures=("InternLM2ForRewardModel",),
        requires=("transformers>=4.38",),
        tags=("reward",),
        remote_code=True,
        task_type="seq_cls",
        num_labels=1,
    ),
)

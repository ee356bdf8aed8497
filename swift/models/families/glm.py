"""Zhipu's GLM, and code models made out of ChatGLM2."""

from swift.models.spec import Group, ModelSpec

_CHATGLM = ("ChatGLMModel", "ChatGLMForConditionalGeneration")

SPECS = (
    ModelSpec(
        "chatglm2",
        ids=(
            Group(("ZhipuAI/chatglm2-6b{,-32k} -> THUDM/",), requires=("transformers<4.42",)),
            Group(("ZhipuAI/codegeex2-6b -> THUDM/",), requires=("transformers<4.34",)),
        ),
        chat_format="chatglm2",
        architectures=_CHATGLM,
        remote_code=True,
    ),
    ModelSpec(
        "chatglm3",
        ids=("ZhipuAI/chatglm3-6b{,-base,-32k,-128k} -> THUDM/",),
        chat_format="glm4",
        architectures=_CHATGLM,
        requires=("transformers<4.42",),
        remote_code=True,
    ),
    ModelSpec(
        "glm4",
        ids=("ZhipuAI/glm-4-9b{-chat,,-chat-1m} -> THUDM/", "ZhipuAI/LongWriter-glm4-9b -> THUDM/"),
        chat_format="glm4",
        architectures=_CHATGLM,
        requires=("transformers>=4.42",),
        remote_code=True,
    ),
    ModelSpec(
        "codegeex4",
        ids=("ZhipuAI/codegeex4-all-9b -> THUDM/",),
        chat_format="codegeex4",
        architectures=_CHATGLM,
        requires=("transformers<4.42",),
        tags=("coding",),
        remote_code=True,
    ),
    ModelSpec(
        "codefuse_codegeex2",
        ids=("codefuse-ai/CodeFuse-CodeGeeX2-6B",),
        chat_format="codefuse",
        architectures=_CHATGLM,
        requires=("transformers<4.34",),
        tags=("coding",),
        remote_code=True,
    ),
    ModelSpec(
        "glm_edge",
        ids=("ZhipuAI/glm-edge-{1.5b,4b}-chat -> THUDM/",),
        chat_format="glm4",
        architectures=("GlmForCausalLM",),
        requires=("transformers>=4.46",),
    ),
    ModelSpec(
        "glm4_0414",
        ids=("ZhipuAI/GLM-4-{9B,32B,32B-Base}-0414 -> THUDM/", "ZhipuAI/GLM-Z1-{9B,32B,Rumination-32B}-0414 -> THUDM/"),
        architectures=("Glm4ForCausalLM",),
    ),
    ModelSpec(
        "glm4_5",
        ids=("ZhipuAI/GLM-4.5{,-Air}{,-Base,-FP8} -> zai-org/", "ZhipuAI/GLM-{4.6,4.7}{,-FP8} -> zai-org/"),
        architectures=("Glm4MoeForCausalLM",),
        tags=("thinking",),
    ),
    ModelSpec("glm4_7_flash", ids=("ZhipuAI/GLM-4.7-Flash -> zai-org/",), architectures=("Glm4MoeLiteForCausalLM",), tags=("thinking",)),
    ModelSpec("glm5", ids=("ZhipuAI/GLM-{5,5.1,5.2}{,-FP8} -> zai-org/",), architectures=("GlmMoeDsaForCausalLM",), tags=("thinking",)),
)

"""Makers of one or two architectures."""

from swift.models.spec import ModelSpec

SPECS = (
    ModelSpec(
        "aya",
        ids=("AI-ModelScope/aya-expanse-{8b,32b} -> CohereForAI/",),
        chat_format="aya",
        architectures=("CohereForCausalLM",),
        requires=("transformers>=4.44.0",),
    ),
    ModelSpec(
        "c4ai",
        ids=("AI-ModelScope/c4ai-command-r-{v01,plus} -> CohereForAI/",),
        chat_format="c4ai",
        architectures=("CohereForCausalLM",),
        requires=("transformers>=4.39",),
    ),
    ModelSpec(
        "cohere2", ids=("CohereLabs/c4ai-command-r7b-12-2024", "CohereLabs/c4ai-command-a-03-2025"), architectures=("Cohere2ForCausalLM",)
    ),
    ModelSpec(
        "bluelm",
        ids=("vivo-ai/BlueLM-7B-{Chat,Base}{-32K,}",),
        chat_format="bluelm",
        architectures=("BlueLMForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "dbrx",
        ids=("AI-ModelScope/dbrx-{base,instruct} -> databricks/",),
        chat_format="dbrx",
        architectures=("DbrxForCausalLM",),
        requires=("transformers>=4.36",),
    ),
    ModelSpec(
        "grok",
        ids=("colossalai/grok-1-pytorch -> hpcai-tech/grok-1",),
        chat_format="default",
        architectures=("Grok1ModelForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "mamba",
        ids=("AI-ModelScope/mamba-{130m,370m,390m,790m,1.4b,2.8b}-hf -> state-spaces/",),
        chat_format="default",
        architectures=("MambaForCausalLM",),
        requires=("transformers>=4.39.0",),
    ),
    ModelSpec(
        "orion",
        ids=("OrionStarAI/Orion-14B-{Chat,Base}",),
        chat_format="orion",
        architectures=("OrionForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "skywork",
        ids=("skywork/Skywork-13B-base -> Skywork/", "skywork/Skywork-13B-chat ->"),
        chat_format="skywork",
        architectures=("SkyworkForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "telechat",
        ids=(
            "TeleAI/TeleChat-{7B,12B,12B-v2,52B} -> Tele-AI/",
            "swift/TeleChat-12B-V2-GPTQ-Int4 ->",
            "TeleAI/TeleChat2-{35B,115B} -> Tele-AI/",
        ),
        chat_format="telechat",
        architectures=("TelechatForCausalLM", "TeleChatForCausalLM"),
        remote_code=True,
    ),
    ModelSpec(
        "telechat2",
        ids=("TeleAI/TeleChat2-{3B,7B,35B-32K,35B-Nov} -> Tele-AI/",),
        chat_format="telechat2",
        architectures=("TeleChat2ForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "xverse",
        ids=("xverse/XVERSE-{7B,13B,65B}{-Chat,}", "xverse/XVERSE-65B-2", "xverse/XVERSE-13B-256K"),
        chat_format="xverse",
        architectures=("XverseForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "xverse_moe",
        ids=("xverse/XVERSE-MoE-A4.2B",),
        chat_format="xverse",
        architectures=("XverseForCausalLM",),
        remote_code=True,
    ),
    ModelSpec(
        "yuan2",
        ids=(
            "YuanLLM/Yuan2.0-{2B,51B,102B}-hf -> IEITYuan/Yuan2-{2B,51B,102B}-hf",
            "YuanLLM/Yuan2-2B-Janus-hf -> IEITYuan/",
            "YuanLLM/Yuan2-M32-hf -> IEITYuan/",
        ),
        chat_format="yuan",
        architectures=("YuanForCausalLM",),
        remote_code=True,
    ),
    # Not in the specification's registry; transformers has the classes, and the checkpoints bring their chat template
    ModelSpec("ernie4_5", ids=("PaddlePaddle/ERNIE-4.5-0.3B{,-Base}-PT -> baidu/",), architectures=("Ernie4_5ForCausalLM",)),
    ModelSpec("ernie4_5_moe", ids=("PaddlePaddle/ERNIE-4.5-21B-A3B{,-Base}-PT -> baidu/",), architectures=("Ernie4_5_MoeForCausalLM",)),
    ModelSpec("exaone4", ids=("LGAI-EXAONE/EXAONE-4.0-{1.2B,32B}",), architectures=("Exaone4ForCausalLM",)),
    ModelSpec("gpt2", ids=("AI-ModelScope/gpt2{,-medium,-large,-xl} -> openai-community/",), architectures=("GPT2LMHeadModel",)),
    ModelSpec("gpt_oss", ids=("openai-mirror/gpt-oss-{20b,120b} -> openai/",), architectures=("GptOssForCausalLM",), tags=("thinking",)),
    ModelSpec("granite", ids=("ibm-granite/granite-{3.0,3.1,3.2,3.3}-{2b,8b}-{base,instruct}",), architectures=("GraniteForCausalLM",)),
    ModelSpec(
        "granite4", ids=("ibm-granite/granite-4.0-{micro,h-micro,h-tiny,h-small}{,-base}",), architectures=("GraniteMoeHybridForCausalLM",)
    ),
    ModelSpec(
        "hunyuan",
        ids=("Tencent-Hunyuan/Hunyuan-{0.5B,1.8B,4B,7B}-{Pretrain,Instruct} -> tencent/",),
        architectures=("HunYuanDenseV1ForCausalLM",),
    ),
    ModelSpec(
        "hunyuan_moe",
        ids=("Tencent-Hunyuan/Hunyuan-A13B-{Pretrain,Instruct} -> tencent/",),
        architectures=("HunYuanMoEV1ForCausalLM",),
    ),
    ModelSpec("lfm2", ids=("LiquidAI/LFM2-{350M,700M,1.2B,2.6B}",), architectures=("Lfm2ForCausalLM",)),
    ModelSpec(
        "mimo",
        ids=("XiaomiMiMo/MiMo-7B-{Base,SFT,RL,RL-Zero}",),
        architectures=("MiMoForCausalLM",),
        remote_code=True,
    ),
    ModelSpec("mimo_v2_flash", ids=("XiaomiMiMo/MiMo-V2-Flash{,-Base}",), architectures=("MiMoV2FlashForCausalLM",)),
    ModelSpec(
        "olmo2",
        ids=("allenai/OLMo-2-{0425-1B,1124-7B,1124-13B,0325-32B}{,-SFT,-DPO,-Instruct}",),
        architectures=("Olmo2ForCausalLM",),
    ),
    ModelSpec("olmo3", ids=("allenai/Olmo-3-{7B-Instruct,7B-Think,32B-Think,1025-7B,1125-32B}",), architectures=("Olmo3ForCausalLM",)),
    ModelSpec("seed_oss", ids=("ByteDance-Seed/Seed-OSS-36B-{Instruct,Base}",), architectures=("SeedOssForCausalLM",)),
    ModelSpec("starcoder2", ids=("AI-ModelScope/starcoder2-{3b,7b,15b} -> bigcode/",), architectures=("Starcoder2ForCausalLM",)),
)

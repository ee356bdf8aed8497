"""OpenBMB's MiniCPM and MiniMax's text models."""

from swift.models.spec import ModelSpec

_MINICPM = ("MiniCPMForCausalLM",)

SPECS = (
    ModelSpec(
        "minicpm",
        ids=("OpenBMB/MiniCPM-{2B-sft-fp32,2B-dpo-fp32,1B-sft-bf16} -> openbmb/",),
        chat_format="minicpm",
        architectures=_MINICPM,
        requires=("transformers>=4.36.0",),
        remote_code=True,
    ),
    ModelSpec(
        "minicpm_chatml",
        ids=("OpenBMB/MiniCPM-2B-128k -> openbmb/",),
        chat_format="chatml",
        architectures=_MINICPM,
        requires=("transformers>=4.36",),
        remote_code=True,
    ),
    ModelSpec(
        "minicpm_moe",
        ids=("OpenBMB/MiniCPM-MoE-8x2B -> openbmb/",),
        chat_format="minicpm",
        architectures=_MINICPM,
        requires=("transformers>=4.36",),
        remote_code=True,
    ),
    ModelSpec(
        "minicpm3",
        ids=("OpenBMB/MiniCPM3-4B -> openbmb/",),
        chat_format="chatml",
        architectures=("MiniCPM3ForCausalLM",),
        requires=("transformers>=4.36",),
    ),
    ModelSpec("minicpm4", ids=("OpenBMB/MiniCPM4-{0.5B,8B} -> openbmb/",), architectures=_MINICPM, remote_code=True),
    ModelSpec(
        "minimax",
        ids=("MiniMax/MiniMax-Text-01 -> MiniMaxAI/",),
        chat_format="minimax",
        architectures=("MiniMaxText01ForCausalLM",),
        remote_code=True,
    ),
    ModelSpec("minimax_m2", ids=("MiniMax/MiniMax-{M2,M2.1,M2.5,M2.7} -> MiniMaxAI/",), architectures=("MiniMaxM2ForCausalLM",)),
)

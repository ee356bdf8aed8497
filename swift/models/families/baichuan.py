"""Baichuan."""

from swift.models.spec import Group, ModelSpec

_BAICHUAN = ("BaichuanForCausalLM", "BaiChuanForCausalLM")

SPECS = (
    ModelSpec(
        "baichuan",
        ids=("baichuan-inc/Baichuan-13B-{Chat,Base}", "baichuan-inc/baichuan-7B -> baichuan-inc/Baichuan-7B"),
        chat_format="baichuan",
        architectures=_BAICHUAN,
        requires=("transformers<4.34",),
        remote_code=True,
    ),
    ModelSpec(
        "baichuan2",
        ids=(
            "baichuan-inc/Baichuan2-{7B,13B}-{Chat,Base}",
            Group(("baichuan-inc/Baichuan2-{7B,13B}-Chat-4bits",), requires=("bitsandbytes<0.41.2", "accelerate<0.26")),
        ),
        chat_format="baichuan",
        architectures=_BAICHUAN,
        remote_code=True,
    ),
    ModelSpec(
        "baichuan_m1",
        ids=("baichuan-inc/Baichuan-M1-14B-Instruct",),
        chat_format="baichuan_m1",
        architectures=("BaichuanM1ForCausalLM",),
        requires=("transformers>=4.48",),
        remote_code=True,
    ),
)

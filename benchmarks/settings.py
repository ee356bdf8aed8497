"""What is measured: sets of settings of `swift sft`, and how each peer is run beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PACKED = "--packing true --per_device_train_batch_size 1".split()  # noqa: SIM905
ONE_ROW = "--packing false --per_device_train_batch_size 1".split()  # noqa: SIM905
LORA = "--train_type lora --lora_rank 8 --lora_alpha 32 --target_modules all-linear --learning_rate 1e-4".split()  # noqa: SIM905
NO_DROPOUT = ["--lora_dropout", "0"]
FULL = "--train_type full --learning_rate 1e-5".split()  # noqa: SIM905
PLAIN = "--torch_compile false --gradient_checkpointing false".split()  # noqa: SIM905


class Setting(NamedTuple):
    title: str
    flags: list[str]
    comparable: bool = True  # it sees the same rows in the same steps as the set's reference, and should have its losses


@dataclass(frozen=True)
class Set:
    size: str
    tokens: int  # of a step
    train_type: str
    settings: tuple[Setting, ...]
    reference: str | None = None  # the setting whose losses the others should have: layers as they are, trained weights in float32
    peers: bool = False  # whether they are run on it too
    long: bool = False  # steps of one long row each


SETS = {
    "lora": Set(
        "7b", 8192, "lora", reference="not compiled", peers=True, settings=(
            Setting("not compiled", [*LORA, *PACKED, *NO_DROPOUT, *PLAIN]),
            Setting("as it comes", [*LORA, *PACKED, *NO_DROPOUT]),
            Setting("nothing recomputed", [*LORA, *PACKED, *NO_DROPOUT, "--gradient_checkpointing", "false"]),
            Setting("selective", [*LORA, *PACKED, *NO_DROPOUT, "--activation_checkpointing", "selective"]),
            Setting("full checkpointing", [*LORA, *PACKED, *NO_DROPOUT, "--gradient_checkpointing", "true"]),
            Setting("offload", [*LORA, *PACKED, *NO_DROPOUT, "--activation_checkpointing", "offload"]),
            Setting("dropout 0.05", [*LORA, *PACKED, "--lora_dropout", "0.05"], comparable=False),
            Setting("not packed, 8 rows", [*LORA, *NO_DROPOUT, "--packing", "false", "--per_device_train_batch_size", "8"], comparable=False),
        ),
    ),
    "qlora": Set(
        "7b", 8192, "lora", settings=tuple(
            Setting(title, [*LORA, *PACKED, *NO_DROPOUT, "--quant_method", "bnb", "--quant_bits", "4", *recompute])
            for title, recompute in (
                ("4 bit, full checkpointing", ["--gradient_checkpointing", "true"]),
                ("4 bit, as it comes", []),
            )
        ),
    ),
    "full": Set(
        "1.5b", 16384, "full", reference="float32 weights, not compiled", peers=True, settings=(
            Setting(
                "float32 weights, not compiled",
                [*FULL, *PACKED, "--torch_dtype", "float32", "--bf16", "true", "--torch_compile", "false", "--gradient_checkpointing", "true"],
            ),
            Setting("as it comes", [*FULL, *PACKED]),
            Setting("full checkpointing", [*FULL, *PACKED, "--gradient_checkpointing", "true"]),
        ),
    ),
    "long": Set(
        "7b", 65536, "lora", long=True, settings=(
            Setting("one row a step", [*LORA, *NO_DROPOUT, *ONE_ROW]),
            Setting("one row a step, offload", [*LORA, *NO_DROPOUT, *ONE_ROW, "--activation_checkpointing", "offload"]),
        ),
    ),
}  # fmt: skip


class Way(NamedTuple):
    """How a peer is run: told nothing, or with packed rows and all of its kernels, with or without recomputation."""

    title: str
    fastest: bool
    recompute: bool | None


WAYS = (
    Way("default", False, None),
    Way("fastest", True, False),
    Way("fastest, checkpointing", True, True),
)
PEERS = {"ms-swift": "ms_swift", "trl": "trl", "unsloth": "unsloth", "llama-factory": "llama_factory"}  # name: module of benchmarks.peers

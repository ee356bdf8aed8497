"""Groups that say what is trained: targets of an adapter, freezing in full training, LoRA."""

# ruff: noqa: RUF009 (arg and group make dataclass fields)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from swift.args.field import arg


def _read_init_weights(word: str) -> str:
    low = word.lower()
    if low in ("true", "false", "gaussian", "pissa") or re.fullmatch(r"pissa_niter_[1-9]\d*", low):
        return low
    raise ValueError("expected true, false, gaussian, pissa or pissa_niter_<number>")


@dataclass(frozen=True)
class TargetArgs:
    """Which modules an adapter goes to; read by tuners/targets.py."""

    target_modules: list[str] = arg(
        ["all-linear"], "Module names that get an adapter; all-linear means every linear layer but the output layer.", hot=True
    )
    target_regex: str | None = arg(
        None, "Regular expression that a module's full name must match; --target_modules then has no effect.", hot=True
    )
    init_weights: str = arg(
        "true",
        "How adapter weights start: true (the update is 0), false (random, for tests), gaussian, pissa, pissa_niter_<number>.",
        choices=("true", "false", "gaussian", "pissa"),
        waiting=("lora-ga", "bat", "olora"),
        aliases=("init_lora_weights",),
        read=_read_init_weights,
    )
    modules_to_save: list[str] = arg([], "Further modules of the model that are trained and saved whole.", hot=True)


@dataclass(frozen=True)
class FullArgs:
    """What stays frozen in full training; read by tuners/full.py."""

    freeze_parameters: list[str] = arg([], "Beginnings of the names of parameters that are frozen.")
    freeze_parameters_ratio: float = arg(
        0.0, "Share of the parameters that is frozen, counted from the bottom; 1 freezes all.", low=0, high=1
    )
    trainable_parameters: list[str] = arg([], "Beginnings of the names of parameters that are trained all the same.")


@dataclass(frozen=True)
class LoraArgs:
    """LoRA and its variants; read by tuners/adapters.py."""

    lora_rank: int = arg(8, "Rank of the LoRA matrices.", hot=True, low=1)
    lora_alpha: int = arg(
        32, "Scale: the update is multiplied by lora_alpha / lora_rank, with --use_rslora by lora_alpha / √lora_rank.", hot=True, low=1
    )
    lora_dropout: float = arg(0.05, "Dropout before the LoRA matrices.", low=0, high=1)
    lora_bias: Literal["none", "all"] = arg("none", "Which biases are trained too.")
    lora_dtype: Literal["float16", "bfloat16", "float32"] | None = arg(
        None, "Type in which the LoRA weights are held and saved.", shown="float32"
    )
    use_dora: bool = arg(False, "DoRA: magnitude and direction are learned apart.", hot=True)
    use_rslora: bool = arg(False, "Rank-stabilised LoRA: scale by 1/√rank.")

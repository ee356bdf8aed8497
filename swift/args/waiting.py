"""Names that are not flags of a command here: parts of SWIFT not built yet, flags of other commands, and legacy flags of scripts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from swift.args import passthrough
from swift.args.commands import COMMANDS, FORMS
from swift.args.spec import specs

TRAINING = ("pt", "sft")
EVERY = ("pt", "sft", "infer", "deploy")

# Flags that the parameter document lacks and existing scripts carry.
LEGACY_WITHOUT_EFFECT = {
    "load_dataset_config": EVERY,
    "model_layer_cls_name": TRAINING,
    "metric_warmup_step": TRAINING,
    "fsdp_num": TRAINING,
    "acc_steps": TRAINING,
    "is_encoder_decoder": TRAINING,
}
LEGACY_WAITING = {
    "use_swift_lora": EVERY,
    "zero_hpz_partition_size": TRAINING,
    "boft_n_butterfly_factor": TRAINING,
    "adapter_act": TRAINING,
    "adapter_length": TRAINING,
    "reft_layer_key": TRAINING,
    "train_dataset_sample": TRAINING,
}
LEGACY_ELSEWHERE = {
    "dataset_args": ("eval",),
    "to_ollama": ("export",),
    "gguf_file": ("export",),
    "to_peft_format": ("export",),
    "use_lmdeploy": ("rlhf",),
    "lmdeploy_device": ("rlhf",),
    "lmdeploy_session_len": ("rlhf",),
    "lmdeploy_cache_max_entry_count": ("rlhf",),
}
LEGACY_TRANSLATED = ("ckpt_dir", "lora_modules")  # resolve.py reads them


@cache
def _document() -> dict[str, dict[str, list[str]]]:
    """waiting.json, made by scripts/waiting_flags.py from the specification: `waiting` and `elsewhere` flags, `choices` of flags."""
    return json.loads(Path(__file__).with_name("waiting.json").read_text(encoding="utf-8"))


def is_waiting(name: str, command: str) -> bool:
    """Whether the document (or a legacy script) has this flag for this command and it does not work yet."""
    like = documented(command)
    if like in _document()["waiting"].get(name, ()) or like in LEGACY_WAITING.get(name, ()):
        return True
    return FORMS[command].TRAINS and name in passthrough.WAITING


def without_effect(name: str, command: str) -> bool:
    """Whether a flag of old scripts is accepted and does nothing."""
    return documented(command) in LEGACY_WITHOUT_EFFECT.get(name, ())


def documented(command: str) -> str:
    """The command of the document whose flags these are: a preview has those of what it shows."""
    return FORMS[command].SHOWS or command


def waiting_choices(name: str) -> list[str]:
    """Names of the document (model types, chat formats) that a flag cannot take yet."""
    return _document()["choices"].get(name, [])


def elsewhere(name: str) -> list[str]:
    """The commands that have this flag, for one that does not."""
    built = [command for command, made in COMMANDS.items() if name in specs(made)]
    built = [command for command in built if documented(command) == command or documented(command) not in built]
    document = _document()
    return [*built, *document["waiting"].get(name, ()), *document["elsewhere"].get(name, ()), *LEGACY_ELSEWHERE.get(name, ())]


def names(command: str) -> set[str]:
    """Every name this module answers for a command."""
    like = documented(command)
    document = {name for name, commands in _document()["waiting"].items() if like in commands}
    legacy = {name for table in (LEGACY_WITHOUT_EFFECT, LEGACY_WAITING) for name, commands in table.items() if like in commands}
    return document | legacy | set(LEGACY_TRANSLATED) | (set(passthrough.WAITING) if FORMS[command].TRAINS else set())

"""Python code that comes with a model: whether it is needed, and whether it may be run.

Where transformers has the class itself, a folder's own code is never run. Where it has not, the code is run only after an explicit
`--trust_remote_code true`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swift import logs
from swift.errors import ModelError

CAUSAL, CLASSIFIER = "AutoModelForCausalLM", "AutoModelForSequenceClassification"


def runs_own_code(folder: Path, config: dict[str, Any], *, trusted: bool, auto: str = CAUSAL) -> bool:
    """Whether the model's own code makes it; `auto` is the Auto class that is asked for.

    Raises ModelError where it would and the user did not say that it may, or where neither it nor transformers has a class.
    """
    own = config.get("auto_map") or {}
    files = code_files(own)
    native = native_class(config, auto)
    if native is not None:
        if files:
            logs.info_once(f"{folder}: its own code ({', '.join(files)}) is not run, because transformers has {native.__name__} itself")
        return False
    named = ", ".join(config.get("architectures") or []) or config.get("model_type") or "no architecture"
    if auto not in own:
        import transformers

        extra = f"; its own code ({', '.join(files)}) has none either" if files else ", and it brings no code of its own"
        raise ModelError(f"{folder} ({named}): transformers {transformers.__version__} has no {auto} of it{extra}")
    _need_trust(folder, f"transformers has no class of {named}", files, trusted)
    return True


def tokenizer_runs_own_code(folder: Path, config: dict[str, Any], *, trusted: bool) -> bool:
    """As `runs_own_code`, of the tokenizer."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    file = folder / "tokenizer_config.json"
    own = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    auto_map = own.get("auto_map") or {}
    named = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map  # a bare pair is an older form
    if not named:
        return False
    name = str(own.get("tokenizer_class") or "").removesuffix("Fast")
    known = name and (tokenizer_class_from_name(name) or tokenizer_class_from_name(f"{name}Fast"))
    files = code_files({"AutoTokenizer": named})
    if known or config.get("model_type") in TOKENIZER_MAPPING_NAMES:
        logs.info_once(f"{folder}: the tokenizer's own code ({', '.join(files)}) is not run, because transformers has its class itself")
        return False
    if not trusted and native_class(config) is None:  # one word is asked for, so all that it allows is named
        files = sorted({*files, *code_files(config.get("auto_map") or {})})
    _need_trust(folder, f"transformers has no tokenizer class {name or '(unnamed)'}", files, trusted)
    return True


def code_files(auto_map: dict[str, Any]) -> list[str]:
    """The files that an auto_map names; `repository--file.Class` lies in another repository."""
    found = []
    for entry in auto_map.values():
        for name in entry if isinstance(entry, list | tuple) else [entry]:
            if not name:
                continue
            repository, _, place = str(name).rpartition("--")
            file = f"{place.rpartition('.')[0].replace('.', '/')}.py"
            found.append(f"{file} of {repository}" if repository else file)
    return sorted(set(found))


def native_class(config: dict[str, Any], auto: str = CAUSAL) -> type | None:
    """transformers' own class for a config.json, or None.

    config.json's model_type decides, but code of its own may have borrowed another's ("llama" for MyLlamaForCausalLM): then the
    architecture is to be one that transformers has, or to be named after the model_type. A native architecture under a model_type that
    transformers does not know (Kimi K2: kimi_k2, DeepseekV3ForCausalLM) is native too.
    """
    import transformers
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    mappings = [modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING]
    if auto == CLASSIFIER:
        mappings.insert(0, modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING)
    kind, architecture = str(config.get("model_type")), str(next(iter(config.get("architectures") or []), ""))
    if kind in CONFIG_MAPPING:
        its_own = not config.get("auto_map") or not architecture or _plain(architecture).startswith(_plain(kind))
        for mapping in mappings if its_own or hasattr(transformers, architecture) else []:
            if CONFIG_MAPPING[kind] in mapping:
                return _one(mapping[CONFIG_MAPPING[kind]])
    names = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return getattr(transformers, architecture) if architecture in names else None


def _one(entry: Any) -> type:
    return entry[0] if isinstance(entry, tuple) else entry


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _need_trust(folder: Path, why: str, files: list[str], trusted: bool) -> None:
    if not trusted:
        raise ModelError(
            f"{folder}: {why}, and its own code would have to be run ({', '.join(files)}). It can do whatever you can do on this machine: "
            "look at it, and give --trust_remote_code true if you trust its makers"
        )
    logs.warning(f"{folder}: its own code is run ({', '.join(files)}), as --trust_remote_code true allows")

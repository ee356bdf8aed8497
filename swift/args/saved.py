"""args.json in a run's and a checkpoint's folder: written with secrets masked, read back for --load_args."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swift import __version__
from swift.args.commands import Command
from swift.args.paths import is_folder
from swift.args.spec import specs
from swift.errors import ModelError

FILE = "args.json"

# Taken from args.json where nothing was given here and the value is empty.
WHEN_EMPTY = (
    "model", "model_type", "model_revision", "task_type", "num_labels", "torch_dtype", "attn_impl", "device_map", "template", "system", "tools_prompt",
    "rope_scaling", "local_repo_path", "model_kwargs", "external_plugins", "custom_register_path",
    "quant_method", "quant_bits", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage",
)  # fmt: skip
# Their default says nothing about the checkpoint, so the checkpoint's value replaces it.
OVER_DEFAULT = ("train_type", "tuner_backend", "use_chat_template", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")
DATA_WHEN_EMPTY = ("dataset", "val_dataset", "columns", "model_name", "model_author", "custom_dataset_info")
DATA_OVER_DEFAULT = ("split_dataset_ratio", "data_seed")
TRAINING_WHEN_EMPTY = ("max_length",)


def write(args: Command, folder: Path | str, **found: Any) -> Path:
    """Write args.json: the resolved flat values, then `found` (what the run learnt, or a value it settled, such as output_dir)."""
    flat = masked(args.to_flat()) | {"command": args.NAME, "swift_version": __version__} | found
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{FILE}.{os.getpid()}")
    partial.write_text(json.dumps(flat, ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)  # a reader never sees half a file
    return path


def masked(flat: dict[str, Any]) -> dict[str, Any]:
    """The same values with every secret as None."""
    return {name: None if is_secret(name) else value for name, value in flat.items()}


def is_secret(name: str) -> bool:
    return name.endswith(("_token", "api_key"))


def read(folder: Path | str) -> dict[str, Any]:
    """The values of a folder's args.json."""
    path = Path(folder).expanduser() / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is not there") from None
    except (OSError, ValueError) as wrong:
        raise ModelError(f"{path} cannot be read: {wrong}. Mend it, or take it away.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no JSON object. Mend it, or take it away.")
    return values


def checkpoint_folder(adapters: Iterable[str], model: str | None) -> Path | None:
    """The first of the adapters, then the model, that is a local folder with an args.json."""
    for name in [*adapters, *([model] if model else [])]:
        if is_folder(name) and (Path(name).expanduser() / FILE).is_file():
            return Path(name).expanduser()
    return None


def inheritable(made: type[Command], *, data: bool) -> tuple[set[str], set[str]]:
    """(flags taken where the value is empty, flags taken where nothing was typed) of a command."""
    when_empty = {*WHEN_EMPTY, *(TRAINING_WHEN_EMPTY if made.TRAINS else ()), *(DATA_WHEN_EMPTY if data else ())}
    over_default = {*OVER_DEFAULT, *(DATA_OVER_DEFAULT if data else ())}
    return when_empty & set(specs(made)), over_default & set(specs(made))

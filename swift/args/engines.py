"""Groups of the engines that make answers, and of merging."""

from __future__ import annotations

import re
from dataclasses import dataclass

from swift.args.field import arg


def _read_size(word: str) -> str:
    if re.fullmatch(r"[1-9]\d*\s*[KMGT]i?B", word, re.IGNORECASE):
        return word
    raise ValueError("expected a size such as 5GB or 500MB")


@dataclass(frozen=True)
class MergeArgs:
    """Merging an adapter into its model; read by exporters/merge.py."""

    merge_lora: bool = arg(False, "Merge the adapter into the model's weights first.", hot=True)
    max_shard_size: str = arg("5GB", "Largest size of one weight file.", read=_read_size)


@dataclass(frozen=True)
class ExportArgs:
    """Where a command that makes weights writes them; read by commands/merge.py."""

    output_dir: str | None = arg(None, "Folder for the model that is made.", hot=True, shown="the first adapter's, with -merged behind it")
    exist_ok: bool = arg(False, "Overwrite a model that is in --output_dir already.")

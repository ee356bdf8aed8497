"""Groups of the engines that make answers, and of merging."""

from __future__ import annotations

from dataclasses import dataclass

from swift.args.field import arg


@dataclass(frozen=True)
class MergeArgs:
    """Merging an adapter into its model; read by exporters/merge.py."""

    merge_lora: bool = arg(False, "Merge the adapter into the model's weights first.", hot=True)
    max_shard_size: str = arg("5GB", "Largest size of one weight file.")

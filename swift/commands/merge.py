"""swift merge-lora: an adapter merged into its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swift import dist
from swift.args.parse import with_checkpoint
from swift.args.paths import adapter_path
from swift.exporters.merge import WRITTEN, merge_adapters
from swift.hub import download

if TYPE_CHECKING:
    from swift.args.commands import MergeCommand


def merge(args: MergeCommand) -> Path:
    """The folder of the merged model."""
    adapters = [adapter_path(word) for word in args.adapter.adapters]
    if args.model.model is None:  # the adapter was only an id: once it is here, its args.json says which model it belongs to
        args = with_checkpoint(args, download(adapters[0], "model", args.hub))  # type: ignore[assignment]
    dist.seed_everything(args.runtime.seed)
    return merge_adapters(
        args.model,
        args.hub,
        args.template,
        adapters,
        output=Path(args.export.output_dir) if args.export.output_dir else None,
        again=args.export.exist_ok or bool(args.explicit & {*WRITTEN, "torch_dtype", "max_shard_size"}),  # what is there may differ
        max_shard_size=args.merge.max_shard_size,
        typed=args.explicit,
        device_map=args.model.device_map if "device_map" in args.explicit else "cpu",
    )

"""Groups of the commands that answer: swift infer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swift.args.field import arg


@dataclass(frozen=True)
class InferArgs:
    """How swift infer runs; read by commands/infer.py."""

    infer_backend: Literal["pt"] = arg("pt", "Engine that makes the answers.", hot=True, waiting=("vllm", "lmdeploy"))
    max_batch_size: int | None = arg(
        None, "Requests that the pt engine answers at once.", hot=True, low=1, shown="by free memory on a GPU, 32 on CPU"
    )
    ddp_backend: str | None = arg(None, "How processes talk to each other.", shown="automatic")
    result_path: str | None = arg(
        None, "jsonl file for the answers.", hot=True, shown="in the checkpoint folder where it has an args.json, else in ./result"
    )
    metric: Literal["acc", "rouge"] | None = arg(None, "Compare answers with the data set's: exact match (acc) or rouge.")
    val_dataset_sample: int | None = arg(None, "Rows of the data set that are used.", low=1, shown="all")

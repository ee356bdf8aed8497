"""Groups of the commands that answer: swift infer, swift deploy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swift.args.field import arg


@dataclass(frozen=True)
class InferArgs:
    """How answers are made; read by commands/infer.py and commands/deploy.py."""

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


@dataclass(frozen=True)
class DeployArgs:
    """How swift deploy serves; read by commands/deploy.py and serve/."""

    host: str = arg(
        "0.0.0.0", "Address that the server listens at; 127.0.0.1 for this machine alone. All other machines reach 0.0.0.0: give --api_key."
    )
    port: int = arg(
        8000, "Port that the server listens at; where it is taken, the next free one of the hundred behind it.", low=0, high=65535
    )
    api_key: str | None = arg(None, "Key that clients must send (Authorization: Bearer …).", secret=True)
    ssl_keyfile: str | None = arg(None, "Private key of --ssl_certfile (PEM), for https.")
    ssl_certfile: str | None = arg(None, "Certificate (PEM), for https.")
    owned_by: str = arg("swift", "Owner that the list of models names.")
    served_model_name: str | None = arg(None, "Name under which clients ask for the model.", hot=True, shown="the last part of --model")
    verbose: bool = arg(True, "Log each request that was answered.")
    log_interval: int | float = arg(
        20,
        "Seconds between two log lines with the tokens and requests per second; -1 for none. Nothing is logged where nothing was served.",
    )
    max_logprobs: int = arg(20, "Most top_logprobs that a client may ask for.", low=0)

"""swift infer: answers in a conversation at the terminal, or to every row of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from swift import dist, logs
from swift.args import saved
from swift.args.checks import is_interactive, needs_one_process
from swift.args.parse import with_checkpoint
from swift.args.paths import adapter_path, model_suffix
from swift.commands.infer_chat import Chat
from swift.commands.infer_rows import Rows, answer_rows
from swift.engines.classify import ClassifierEngine
from swift.engines.engine import Sampling
from swift.engines.load import classifies, load_engine
from swift.engines.pt.engine import PtEngine
from swift.errors import UsageError
from swift.exporters.merge import merge_adapters
from swift.hub import download

if TYPE_CHECKING:
    from swift.args.commands import InferCommand


def infer(args: InferCommand) -> list[dict[str, Any]]:
    """Answer; the records that were written to the result file come back, on rank 0 those of all ranks."""
    check(args)
    start_processes(args.infer.ddp_backend)
    args = with_downloaded_adapter(args)
    dist.seed_everything(args.runtime.seed)
    stream = args.generation.stream
    if stream and args.generation.num_beams != 1:
        logs.info("--stream is off: --num_beams above 1 knows its answer only at the end")
        stream = False
    path = result_path(args)
    task = "seq_cls" if classifies(args.model, args.hub) else "infer"
    if task == "seq_cls" and args.infer.metric == "rouge":
        raise UsageError("--metric rouge compares texts, and the model classifies; give --metric acc")
    rows = None if is_interactive(args) else Rows.load(args.data, args.hub, args.infer.val_dataset_sample, task=task)
    engine = ready_engine(args)
    path.parent.mkdir(parents=True, exist_ok=True)
    logs.info(f"answers go to {path}")
    if rows is None:
        records = Chat(engine, sampling(args), stream=stream, results=path, remembers=isinstance(engine, PtEngine)).run()
    else:
        metric, seed = args.infer.metric, args.runtime.seed
        records = answer_rows(engine, sampling(args), rows, stream=stream, results=path, metric=metric, seed=seed)
    dist.close()
    logs.info(f"answers are in {path}")
    return records


def check(args: InferCommand) -> None:
    """What does not go together, before anything is loaded."""
    if dist.is_distributed() and (reason := needs_one_process(args)):
        raise UsageError(reason)
    if args.infer.metric and is_interactive(args):
        raise UsageError(f"--metric {args.infer.metric} compares answers with a data set's; give --val_dataset")
    if args.merge.merge_lora and not args.adapter.adapters:
        raise UsageError("--merge_lora true needs an adapter to merge; give --adapters")


def start_processes(backend: str | None) -> None:
    """Join the other ranks where there are any."""
    if not dist.is_distributed():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.local_rank())
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"))


def with_downloaded_adapter(args: InferCommand) -> InferCommand:
    """The same command where the first adapter was only an id: once it is here, its args.json says which model it belongs to."""
    if args.model.model is not None or not args.adapter.adapters:
        return args
    return with_checkpoint(args, download(adapter_path(args.adapter.adapters[0]), "model", args.hub))  # type: ignore[return-value]


def ready_engine(args: InferCommand, adapters: Sequence[str] | None = None) -> PtEngine | ClassifierEngine:
    """The model with its adapters on it, or merged into it first. `adapters`: paths or ids; None: all of --adapters."""
    model, adapters = args.model, [adapter_path(word) for word in args.adapter.adapters] if adapters is None else adapters
    if args.merge.merge_lora:
        if dist.is_main():
            merged = merge_adapters(args.model, args.hub, args.template, adapters, max_shard_size=args.merge.max_shard_size)
        dist.barrier()
        merged = dist.broadcast(merged if dist.is_main() else None)
        model, adapters = replace(args.model, model=str(merged), model_revision=None), []
    return load_engine(model, args.hub, args.template, quant=args.quant, adapters=adapters, max_batch_size=args.infer.max_batch_size)


def sampling(args: InferCommand) -> Sampling:
    asked = args.generation
    return Sampling(
        max_new_tokens=asked.max_new_tokens,
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        repetition_penalty=asked.repetition_penalty,
        num_beams=asked.num_beams,
        stop=tuple(asked.stop_words),
        logprobs=asked.logprobs,
        top_logprobs=asked.top_logprobs,
    )


def result_path(args: InferCommand) -> Path:
    """--result_path, else by time in the checkpoint's folder, or in ./result where there is no checkpoint. One name for all ranks."""
    if args.infer.result_path is not None:
        return Path(args.infer.result_path).expanduser().absolute()
    checkpoint = saved.checkpoint_folder(map(adapter_path, args.adapter.adapters), args.model.model)
    folder = checkpoint or Path("result") / model_suffix(args.model.model or "model")
    name = dist.broadcast(f"{datetime.now():%Y%m%d-%H%M%S}.jsonl")
    return (folder / "infer_result" / name).absolute()

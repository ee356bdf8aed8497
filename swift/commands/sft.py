"""swift sft and swift pt: rows in, a checkpoint out. Pre-training is the same recipe with every token learned."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from torch import nn
from transformers import PrinterCallback

from swift import dist, logs
from swift.args import saved
from swift.data.encoded import EncodedStream, LazyRows, encode_rows
from swift.data.mix import Loaded, Samples, SampleStream, load_samples
from swift.data.packing import PackedRows, PackedStream
from swift.errors import Interrupted, UsageError
from swift.models.load import load_model, load_processor
from swift.models.match import check_model, find_model
from swift.objectives.policy import exchange_head
from swift.objectives.sft import SFT
from swift.template.build import build_template
from swift.train import checkpoint
from swift.train.arguments import needs_input_gradients
from swift.train.callbacks import RunLog, StopOnSignal
from swift.train.judge import check_metric, checked_arguments
from swift.train.order import Items
from swift.train.plots import save_plots
from swift.train.trainer import Rows, SwiftTrainer
from swift.tuners.targets import adapts_output_layer
from swift.tuners.tuner import apply_tuner, parameter_line

if TYPE_CHECKING:
    from swift.args.commands import SftCommand
    from swift.data.sample import Sample
    from swift.data.tally import Tally
    from swift.template.encoded import Encoded
    from swift.template.template import Template


def sft(args: SftCommand) -> dict[str, Any]:
    """Fine-tune on demonstrations. Returns the run's final record: checkpoints, best metric, history."""
    start_processes(args.trainer.ddp_backend)
    dist.seed_everything(args.runtime.seed)
    if args.trainer.resume_from_checkpoint:
        judge_resumed(args, Path(args.trainer.resume_from_checkpoint))
    check_metric(args)
    info = find_model(args.model, args.hub)
    if args.training.check_model:
        check_model(info)
    template = build_template(info, load_processor(info), args.template, date=run_date(args))
    objective = SFT(args.training.acc_strategy)
    loaded = load_samples(args.data, args.hub, task="sft" if args.template.use_chat_template else "pt")
    train_rows, val_rows = prepare_rows(args, loaded, template, objective)
    folder = checkpoint.run_folder(Path(args.trainer.output_dir or "output"), add_version=args.training.add_version)

    model = load_model(info, args.model, training=True)
    dtype = model.dtype
    if not adapts_output_layer(model, args.target, args.adapter.train_type):
        exchange_head(model)
    tuned = apply_tuner(model, args)
    if needs_input_gradients(args):
        model.enable_input_require_grads()
    told = checked_arguments(args, folder, tuned, dtype=dtype, evaluate=val_rows is not None)
    checkpoint.check_writable(folder, checkpoint_bytes(tuned, with_optimizer=not args.trainer.save_only_model))

    if told.should_save:
        folder.mkdir(parents=True, exist_ok=True)
        saved.write(args, folder, output_dir=str(folder), date=template.date.isoformat())
        if isinstance(loaded.val, Samples):
            loaded.val.write(folder / "val_dataset.jsonl")
    dist.barrier()
    log, stop = RunLog(folder / "logging.jsonl"), StopOnSignal()
    trainer = SwiftTrainer(
        tuned,
        told,
        objective,
        template,
        train_rows=train_rows,
        eval_rows=val_rows,
        save_total_limit=args.trainer.save_total_limit,
        callbacks=[log, stop],
        args_json=folder / "args.json",
    )
    trainer.remove_callback(PrinterCallback)
    resume = None if args.training.resume_only_model else args.trainer.resume_from_checkpoint
    try:
        trainer.train(resume_from_checkpoint=resume)
    finally:
        stop.restore()
    if read_while_training(args):
        for line in loaded.tally.lines():
            logs.info(line)
    return finish(args, trainer, folder, log, stop, parameter_line(tuned))


pt = sft  # `swift pt` differs by its defaults alone: use_chat_template false, loss_scale all


def start_processes(backend: str | None) -> None:
    """Join the other ranks where there are any: over --ddp_backend, else over NCCL with GPUs and gloo without."""
    if not dist.is_distributed():
        return
    try:
        accelerate.PartialState(cpu=not torch.cuda.is_available(), backend=backend)
    except ValueError as wrong:
        raise UsageError(f"--ddp_backend {backend}: {wrong}") from wrong


def read_while_training(args: SftCommand) -> bool:
    """Whether rows are judged only as training reaches them, so that their counts are known at its end."""
    return args.data.streaming or bool(args.training.lazy_tokenize)


def judge_resumed(args: SftCommand, folder: Path) -> None:
    """Raise where a run cannot go on from a checkpoint, or has nothing left to do."""
    checkpoint.judge(folder, only_model=args.training.resume_only_model)
    if not args.training.resume_only_model:
        checkpoint.judge_progress(folder, max_steps=args.trainer.max_steps, num_train_epochs=args.trainer.num_train_epochs)


def run_date(args: SftCommand) -> datetime.date:
    """The day that chat formats with a date write, one for a run: a run that goes on writes the day on which it began."""
    begun = Path(args.trainer.resume_from_checkpoint or "") / saved.FILE
    if args.trainer.resume_from_checkpoint and begun.is_file() and (day := saved.read(begun.parent).get("date")):
        return datetime.date.fromisoformat(day)
    return datetime.date.today()


def prepare_rows(args: SftCommand, loaded: Loaded, template: Template, objective: SFT) -> tuple[Rows, Any]:
    """Rows as the trainer takes them: encoded before training, on access, or from a stream, and packed where asked.

    What was kept and skipped is said; a run that would learn nothing stops here.
    """

    def encode(sample: Sample) -> Encoded:
        return objective.encode(sample, template)

    capacity = packed_length(args, template)
    if args.training.packing and args.training.lazy_tokenize:
        raise UsageError("--packing needs every row's length before training, and --lazy_tokenize encodes rows while it runs: choose one")
    if isinstance(loaded.train, SampleStream):
        stream = EncodedStream(loaded.train, encode, strict=args.data.strict, tally=loaded.tally)
        stream.check()
        rows: Rows = PackedStream(stream, capacity) if capacity else stream
    else:
        assert loaded.train is not None  # training commands name a data set
        rows = whole_rows(args, loaded.train, encode, capacity, loaded.tally, "training rows")
    # a stream of validation rows ends: it is read once, and each evaluation sees all of it
    val = Samples(loaded.val) if isinstance(loaded.val, SampleStream) else loaded.val
    val_rows = whole_rows(args, val, encode, capacity, loaded.tally, "validation rows") if val is not None else None
    for line in () if read_while_training(args) else loaded.tally.lines():
        logs.info(line)
    return rows, val_rows


def packed_length(args: SftCommand, template: Template) -> int | None:
    """How many tokens a packed row holds; None without --packing."""
    if not args.training.packing:
        return None
    if template.max_length is None:
        raise UsageError("--packing needs --max_length: the model does not say how long its rows may be")
    return template.max_length


def whole_rows(
    args: SftCommand, samples: Samples, encode: Callable[[Sample], Encoded], capacity: int | None, tally: Tally, title: str
) -> Items:
    """Rows of a data set that is in memory: encoded now or on access, packed where asked."""
    if args.training.lazy_tokenize:
        lazy = LazyRows(samples, encode, strict=args.data.strict, tally=tally)
        lazy.check()
        return lazy
    rows = encode_rows(samples, encode, num_proc=args.data.dataset_num_proc, strict=args.data.strict, tally=tally, title=title)
    return PackedRows(rows, capacity) if capacity else rows


def checkpoint_bytes(model: nn.Module, *, with_optimizer: bool) -> int:
    """About what one checkpoint takes: the trained weights, and two float32 moments for each in the optimizer's state."""
    trained = [p for p in model.parameters() if p.requires_grad]
    everything = [p for p in model.parameters() if p.requires_grad or not hasattr(model, "peft_config")]
    weights = sum(p.numel() * p.element_size() for p in everything)
    return weights + (8 * sum(p.numel() for p in trained) if with_optimizer else 0)


def finish(args: SftCommand, trainer: SwiftTrainer, folder: Path, log: RunLog, stop: StopOnSignal, parameters: str) -> dict[str, Any]:
    """Links, pictures and the final record; raises Interrupted after a run that was stopped."""
    last = str(trainer.last_saved) if trainer.last_saved else None  # with --add_version false older runs' checkpoints may lie beside it
    best = trainer.state.best_model_checkpoint
    if dist.is_main():
        if args.training.create_checkpoint_symlink:
            last, best = checkpoint.link(folder, last, best)
        if "tensorboard" in (trainer.args.report_to or []):
            save_plots(trainer.state.log_history, folder / "images")
            logs.info(f"images_dir: {folder / 'images'}")
    record = {
        "model_parameter_info": parameters,
        "last_model_checkpoint": last,
        "best_model_checkpoint": best,
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
        "log_history": trainer.state.log_history,
        "memory": max((entry.get("memory(GiB)", 0.0) for entry in trainer.state.log_history), default=0.0),
    }
    if dist.is_main():
        log.write(record)
        logs.info(f"last_model_checkpoint: {last}")
        logs.info(f"best_model_checkpoint: {best}")
    if stop.received is not None:
        where = f"Go on with --resume_from_checkpoint {last}" if last else "No checkpoint was saved (--save_strategy no)"
        raise Interrupted(f"stopped by {stop.received.name} after step {trainer.state.global_step} of {trainer.state.max_steps}. {where}")
    dist.close()
    if dist.is_main():
        print(json.dumps({"last_model_checkpoint": last, "best_model_checkpoint": best}, ensure_ascii=False))
    return record

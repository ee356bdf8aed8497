"""swift sft and swift pt: rows in, a checkpoint out. Pre-training is the same recipe with every token learned."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.utils.data import IterableDataset
from transformers import PrinterCallback

from swift import dist, logs
from swift.args import saved
from swift.data.cache import RowCache, encoding_key
from swift.data.encoded import EncodedRows, EncodedStream, Example, LazyRows, encode_rows
from swift.data.labels import find_problem
from swift.data.mix import Loaded, Samples, SampleStream, load_samples
from swift.data.packing import PackedRows, PackedStream
from swift.errors import Interrupted, UsageError
from swift.models.classifier import fit_to, num_classes, stored_classes
from swift.models.liger import use_liger
from swift.models.load import load_model, load_processor
from swift.models.match import check_model, find_model
from swift.models.quantized import check_quantization
from swift.objectives.policy import exchange_head
from swift.objectives.seq_cls import SequenceClassification
from swift.objectives.sft import SFT
from swift.template.build import build_template
from swift.train import checkpoint
from swift.train.account import Circumstances, hints, in_words
from swift.train.arguments import computing_dtype, grow_segments, needs_input_gradients
from swift.train.callbacks import RunLog, StopOnSignal
from swift.train.judge import check_metric, checked_arguments
from swift.train.memory import PlannedAgainstPeak
from swift.train.order import CountedStream, Items
from swift.train.plots import save_plots
from swift.train.speed import asked_recompute, plan_steps
from swift.train.trainer import Rows, SwiftTrainer
from swift.tuners.targets import adapts_output_layer
from swift.tuners.tuner import apply_tuner, parameter_line

if TYPE_CHECKING:
    from swift.args.commands import SftCommand
    from swift.data.columns import Task
    from swift.data.sample import Sample
    from swift.data.tally import Tally
    from swift.models.match import ModelInfo
    from swift.template.encoded import Encoded, RowSkipped
    from swift.template.template import Template


def sft(args: SftCommand) -> dict[str, Any]:
    """Fine-tune on demonstrations. Returns the run's final record: checkpoints, best metric, history."""
    grow_segments()
    start_processes(args.trainer.ddp_backend)
    dist.seed_everything(args.runtime.seed)
    if args.trainer.resume_from_checkpoint:
        judge_resumed(args, Path(args.trainer.resume_from_checkpoint))
    info = find_model(args.model, args.hub, max_length=args.template.max_length)
    check_quantization(info, args.quant, full=args.adapter.train_type == "full")
    labels = num_classes(info, args.model)
    if labels is None:
        check_metric(args, SFT(args.training.acc_strategy).metrics)  # a classifier's are known once its rows are read
    elif args.NAME == "pt":
        raise UsageError(f"{info.name} is a classifier, and swift pt learns to go on with texts; train it with swift sft")
    if args.training.check_model:
        check_model(info)
    template = build_template(info, load_processor(info), args.template, date=run_date(args))
    loaded = load_samples(args.data, args.hub, task=row_task(args, labels))
    objective = find_objective(args, info, labels, loaded)
    check_metric(args, objective.metrics)
    train_rows, val_rows = prepare_rows(args, loaded, template, objective, let_go=True)
    if isinstance(train_rows, IterableDataset) and args.trainer.max_steps <= 0:
        train_rows = counted(train_rows)
    folder = checkpoint.run_folder(Path(args.trainer.output_dir or "output"), add_version=args.training.add_version)

    model = load_model(info, args.model, training=True, quant=args.quant)
    dtype = model.dtype
    if isinstance(objective, SequenceClassification):
        fit_to(model, template.tokenizer, objective.problem)
    elif not adapts_output_layer(model, args.target, args.adapter.train_type):
        exchange_head(model)
    tuned = apply_tuner(model, args)
    plan = plan_steps(args, tuned, train_rows, max_length=template.max_length, computes_in=computing_dtype(args, dtype))
    if args.training.use_liger:
        use_liger(tuned, compiled=plan.compiled)
    recompute = plan.whole_layers
    if needs_input_gradients(args, recompute=recompute):
        model.enable_input_require_grads()
    told = checked_arguments(args, folder, tuned, dtype=dtype, evaluate=val_rows is not None, recompute=recompute)
    checkpoint.check_writable(folder, checkpoint_bytes(tuned, with_optimizer=not args.trainer.save_only_model))

    if told.should_save:
        folder.mkdir(parents=True, exist_ok=True)
        found = {"problem_type": objective.problem} if isinstance(objective, SequenceClassification) else {}
        saved.write(args, folder, output_dir=str(folder), date=template.date.isoformat(), **found)
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
        micro_batch_tokens=plan.micro_batch_tokens,
    )
    trainer.remove_callback(PrinterCallback)
    if plan.needed is not None:
        trainer.add_callback(PlannedAgainstPeak(plan.needed, plan.tokens))
    plan.apply(tuned)
    resume = None if args.training.resume_only_model else args.trainer.resume_from_checkpoint
    try:
        # autocast computes adapters in the model's dtype anyway: PEFT need not cast what goes into them to that of their weights first
        with disable_input_dtype_casting(tuned, active=told.bf16 or told.fp16):
            trainer.train(resume_from_checkpoint=resume)
    finally:
        stop.restore()
    if read_while_training(args):
        for line in loaded.tally.lines():
            logs.info(line)
    short = asked_recompute(args) == "auto" and plan.whole_layers
    how = Circumstances(told.dataloader_num_workers, compiled=plan.compiled, short_of_memory=short)
    return finish(args, trainer, folder, log, stop, parameter_line(tuned), how)


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


def row_task(args: SftCommand, labels: int | None) -> Task:
    """As what a row's columns are read: `labels` are a classifier's, None for a model that writes text."""
    if labels is not None:
        return "seq_cls"
    return "sft" if args.template.use_chat_template else "pt"


def find_objective(args: SftCommand, info: ModelInfo, labels: int | None, loaded: Loaded) -> SFT | SequenceClassification:
    """What is minimised: a classifier's rows say themselves whether they have one class, several, or a number."""
    if labels is None:
        return SFT(args.training.acc_strategy)
    scores = info.config.get("problem_type") == "regression" and stored_classes(info.config) == labels
    problem = "regression" if scores else find_problem(loaded.train or (), labels)
    logs.info(f"{labels} labels, {problem.replace('_', ' ')}")
    return SequenceClassification(labels, problem)


def prepare_rows(
    args: SftCommand, loaded: Loaded, template: Template, objective: SFT | SequenceClassification, *, let_go: bool = False
) -> tuple[Rows, Any]:
    """Rows as the trainer takes them: encoded before training, on access, or from a stream, and packed where asked.

    What was kept and skipped is said; a run that would learn nothing stops here. `let_go`: training samples that are encoded now are
    wanted no more, and are freed while this is done.
    """

    def encode(sample: Sample) -> Encoded:
        return objective.encode(sample, template)

    def many(samples: Sequence[Sample]) -> list[Encoded | RowSkipped]:
        return objective.encode_many(samples, template)

    capacity = packed_length(args, template)
    if args.training.packing and args.training.lazy_tokenize:
        raise UsageError("--packing needs every row's length before training, and --lazy_tokenize encodes rows while it runs: choose one")
    cache = RowCache(encoding_key(args, template, objective)) if args.data.enable_cache and not args.training.lazy_tokenize else None
    encode_all = partial(encode_rows, many=many, cache=cache, num_proc=args.data.dataset_num_proc, strict=args.data.strict)
    if isinstance(loaded.train, SampleStream):
        stream = EncodedStream(loaded.train, encode, strict=args.data.strict, tally=loaded.tally, many=many)
        stream.check()
        rows: Rows = PackedStream(stream, capacity) if capacity else stream
    else:
        assert loaded.train is not None  # training commands name a data set
        rows = whole_rows(args, loaded.train, encode, encode_all, capacity, loaded.tally, "training rows", let_go=let_go)
    # a stream of validation rows ends: it is read once, and each evaluation sees all of it
    val = Samples(loaded.val) if isinstance(loaded.val, SampleStream) else loaded.val
    val_rows = whole_rows(args, val, encode, encode_all, capacity, loaded.tally, "validation rows") if val is not None else None
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
    args: SftCommand,
    samples: Samples,
    encode: Callable[[Sample], Encoded],
    encode_all: Callable[..., EncodedRows],
    capacity: int | None,
    tally: Tally,
    title: str,
    *,
    let_go: bool = False,
) -> Items:
    """Rows of a data set that is in memory: encoded now or on access, packed where asked."""
    if args.training.lazy_tokenize:
        lazy = LazyRows(samples, encode, strict=args.data.strict, tally=tally)
        lazy.check()
        return lazy
    rows = encode_all(samples, encode, tally=tally, title=title, let_go=let_go)
    return PackedRows(rows, capacity) if capacity else rows


def counted(stream: IterableDataset[list[Example]]) -> CountedStream:
    """A stream with its length, which a schedule without --max_steps must know: one pass over it before training."""
    logs.info("--streaming without --max_steps: the rows are read and encoded once to count them")
    found = CountedStream(stream, sum(1 for _ in stream))
    logs.info(f"--streaming: {len(found):,} items in each epoch")
    return found


def checkpoint_bytes(model: nn.Module, *, with_optimizer: bool) -> int:
    """About what one checkpoint takes: the trained weights, and two float32 moments for each in the optimizer's state."""
    trained = [p for p in model.parameters() if p.requires_grad]
    everything = [p for p in model.parameters() if p.requires_grad or not hasattr(model, "peft_config")]
    weights = sum(p.numel() * p.element_size() for p in everything)
    return weights + (8 * sum(p.numel() for p in trained) if with_optimizer else 0)


def finish(
    args: SftCommand, trainer: SwiftTrainer, folder: Path, log: RunLog, stop: StopOnSignal, parameters: str, how: Circumstances
) -> dict[str, Any]:
    """What took the time, links, pictures and the final record; raises Interrupted after a run that was stopped."""
    took = trainer.account.took(trainer.over_ranks)
    for line in (in_words(took, how), *hints(took, how)):
        logs.info(line)
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
        "what_took_the_time": took,
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

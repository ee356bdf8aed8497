"""The one trainer: transformers' loop, our losses. Each objective's named sums are divided by their counts over the whole step,
so that neither accumulation, nor the number of ranks, nor packing changes a gradient.

Overrides of transformers.Trainer (tests/train/test_hf_contract.py watches their signatures): get_train_dataloader, get_batch_samples,
training_step, compute_loss, floating_point_ops, prediction_step, evaluation_loop, log, _get_train_sampler, _get_eval_sampler,
_save_checkpoint, _load_from_checkpoint, _get_output_dir, _save.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from swift import dist
from swift.errors import UsageError
from swift.objectives.objective import Batch, Example, Objective
from swift.objectives.policy import Policy
from swift.train import checkpoint
from swift.train.account import Account
from swift.train.flops import StepFlops, gpus, measured_peak
from swift.train.meter import Meter
from swift.train.micro_batches import STEP, UNDER_DEEPSPEED, CollateStep, micro_batches, whole_steps
from swift.train.order import CountedStream, Endless, Items, PaddedOrder, Places, WholeStream

if TYPE_CHECKING:
    from swift.template.template import Template

Rows = Items | IterableDataset[list[Example]]


class SwiftTrainer(Seq2SeqTrainer):
    def __init__(
        self,
        model: nn.Module,
        args: Seq2SeqTrainingArguments,
        objective: Objective,
        template: Template,
        *,
        train_rows: Rows,
        eval_rows: Items | None,
        save_total_limit: int | None,
        callbacks: list[TrainerCallback],
        args_json: Path,
        micro_batch_tokens: int = 0,
    ):
        """`micro_batch_tokens`: regroup the rows of a step into micro-batches of at most so many tokens; 0: `args` says what is one."""
        self.round = args.per_device_train_batch_size  # rows for each rank that are taken or left together where an epoch ends
        if micro_batch_tokens:
            args = whole_steps(args)
        self.collate_step = CollateStep(objective.collate, micro_batch_tokens) if micro_batch_tokens else objective.collate
        self.objective, self.template = objective, template
        self.folder, self.kept_checkpoints, self.args_json = args_json.parent, save_total_limit, args_json
        self.account, self.flops = Account(args.device), StepFlops(model)
        self.meter, self.eval_meter = Meter(self.account), Meter(self.account)
        self.staging: Path | None = None  # where a checkpoint is written until it is whole
        self.last_saved: Path | None = None
        super().__init__(
            model=model,
            args=args,
            data_collator=objective.collate,
            train_dataset=as_dataset(train_rows, args, self.round),
            eval_dataset=Places(eval_rows) if eval_rows is not None else None,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = True  # the loss is already normalised over the accumulated step
        self.policies: dict[int, Policy] = {}
        self.even_steps = self.is_fsdp_enabled  # whether all ranks need the same number of micro-batches
        if micro_batch_tokens and self.is_deepspeed_enabled:
            raise UsageError(f"{UNDER_DEEPSPEED}: add --micro_batch_tokens 0")

    def get_train_dataloader(self) -> DataLoader:
        self.data_collator = self.collate_step
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = self.objective.collate

    # What a step's loss is

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device) -> tuple[list[Batch], Any]:
        if not self.account.steps:
            self.account.peak = self.peak_of_all_gpus()
            self.meter = Meter(self.account)
        self.account.begin_step()
        with self.account.waiting():
            batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        if self.even_steps:
            for batch in batches:
                self.even_out(batch)
        return batches, self.global_counts(batches, device) if batches else None

    def even_out(self, batch: Batch) -> None:
        """As many micro-batches as the rank with most has: each gathers the weights that are spread over all ranks."""
        if STEP in batch:
            most = dist.most(len(batch[STEP]))
            batch[STEP] += [self.objective.collate([]) for _ in range(most - len(batch[STEP]))]

    def global_counts(self, batches: list[Batch], device: torch.device) -> dict[str, Tensor]:
        """{unit: count} over all micro-batches of the step and all ranks, at least 1."""
        per_batch = [self.objective.counts(part) for batch in batches for part in micro_batches(batch)]
        units = sorted(per_batch[0])
        totals = torch.stack([sum(counts[unit] for counts in per_batch).to(device, non_blocking=True) for unit in units])  # type: ignore[union-attr]
        return dict(zip(units, self.over_ranks(totals).clamp(min=1), strict=True))

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: dict[str, Tensor] | None = None) -> Tensor:
        """Forward and backward of what transformers takes for one micro-batch: ours one after the other, gradients exchanged at the last."""
        *others, last = micro_batches(inputs)
        losses = []
        for part in others:
            with self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))  # type: ignore[arg-type]
        losses.append(super().training_step(model, last, num_items_in_batch))  # type: ignore[arg-type]
        return torch.stack(losses).sum() if others else losses[0]

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: dict[str, Tensor] | None = None
    ) -> Any:
        counts = num_items_in_batch or self.global_counts([inputs], inputs["input_ids"].device)
        out = self.objective.loss(self.policy(model), inputs, metrics=self.logs_this_step())
        self.meter.add(out.metrics)
        self.account.work = self.account.work.plus(inputs, self.flops(inputs))
        loss = sum(total / counts[unit] for unit, total in out.sums.items()) * self.accelerator.num_processes  # gradients are averaged
        return (loss, {}) if return_outputs else loss

    def floating_point_ops(self, inputs: Batch) -> float:
        """For `total_flos` of the trainer's state."""
        return sum(self.flops(part) for part in micro_batches(inputs))

    def logs_this_step(self) -> bool:
        """Metrics cost a look at every logit: they are taken on the steps whose log line shows them."""
        if self.args.logging_strategy == "epoch":
            return True  # its line tells of all steps of the epoch
        step = self.state.global_step + 1
        every = max(int(self.state.logging_steps or 1), 1)
        return step % every == 0 or (step == 1 and self.args.logging_first_step)

    def policy(self, model: nn.Module) -> Policy:
        if id(model) not in self.policies:
            self.policies[id(model)] = Policy(model)
        return self.policies[id(model)]

    def peak_of_all_gpus(self) -> float | None:
        """FLOP a second of large matrix products in the dtype that is computed in, measured now; None without GPUs."""
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        peak = measured_peak(dtype, self.args.device)
        if peak is None:
            return None
        assert self.model is not None
        mine = peak * max(gpus(self.model), 1)
        return float(self.over_ranks(torch.tensor(mine, dtype=torch.float64, device=self.args.device)))

    def over_ranks(self, tensor: Tensor) -> Tensor:
        return self.accelerator.reduce(tensor, "sum")  # type: ignore[return-value]

    # Evaluation: exact ratios over all rows, not means of batch means

    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            out = self.objective.loss(self.policy(model), inputs, metrics=True)
        counts = self.objective.counts(inputs)
        self.eval_meter.add({f"loss/{unit}": (total, counts[unit]) for unit, total in out.sums.items()} | out.metrics)
        return None, None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        self.eval_meter = Meter(self.account)
        with self.account.pause("evaluation"):
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            ratios = self.eval_meter.ratios(self.over_ranks)
        loss = sum(ratios.pop(name) for name in list(ratios) if name.startswith("loss/"))
        exact = {f"{metric_key_prefix}_loss": loss} | {f"{metric_key_prefix}_{name}": value for name, value in ratios.items()}
        return output._replace(metrics=exact | (output.metrics or {}))

    # The order of rows

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int | None] | None:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        if isinstance(rows, IterableDataset):
            return None
        seed = None if self.args.train_sampling_strategy == "sequential" else int(self.args.data_seed or 0)
        batch, ranks = self.args.per_device_train_batch_size, self.args.world_size
        return PaddedOrder(len(rows), self.round * ranks, seed=seed, drop_last=self.args.dataloader_drop_last, fill=batch * ranks)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int | None]:
        return PaddedOrder(len(eval_dataset), self.args.per_device_eval_batch_size * self.args.world_size, seed=None)

    # Log lines and checkpoints

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            shown = {"loss": logs.pop("loss")} | self.meter.ratios(self.over_ranks) | logs
            shown |= self.meter.speed(self.over_ranks) | {"memory(GiB)": peak_memory_gib()}
            self.meter = Meter(self.account)
            logs = shown
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        writes, final = bool(self.args.should_save), self.folder / f"checkpoint-{self.state.global_step}"
        with self.account.pause("saving"):
            with checkpoint.staged(self.folder, self.state.global_step, writes=writes) as self.staging:
                super()._save_checkpoint(model, trial)
                if writes:
                    checkpoint.finish_state(self.state, self.staging / final.name, final)
                dist.barrier()
            self.staging, self.last_saved = None, final
            if writes:
                checkpoint.rotate(self.folder, self.kept_checkpoints, self.state.best_model_checkpoint)
            dist.barrier()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.staging or self.folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            checkpoint.complete(Path(output_dir or self.folder), self.template, self.args_json)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Nothing to do: the weights were read from the checkpoint when the model was made, because its shape comes from there too."""


def as_dataset(rows: Rows, args: Seq2SeqTrainingArguments, round: int) -> Dataset:
    """Rows as transformers' loop takes them: a stream is one endless epoch, unless its length is known. `round`: rows for each rank that
    are dropped together by --dataloader_drop_last."""
    if isinstance(rows, CountedStream):
        fill = args.per_device_train_batch_size * args.world_size
        return WholeStream(rows, round * args.world_size, drop_last=args.dataloader_drop_last, fill=fill)
    return Endless(rows) if isinstance(rows, IterableDataset) else Places(rows)


def peak_memory_gib() -> float:
    """Peak reserved memory summed over this process's GPUs; 0 without one."""
    if not torch.cuda.is_available():
        return 0.0
    return round(sum(torch.cuda.max_memory_reserved(device) for device in range(torch.cuda.device_count())) / 2**30, 2)

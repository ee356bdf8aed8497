"""Which rows of a step are computed together: as --per_device_train_batch_size says, or regrouped by their tokens.

`per_device_train_batch_size x gradient_accumulation_steps` rows make a step on each rank. Every sum is divided by its count over the whole
step, so the result does not depend on how these rows are cut into micro-batches; speed and memory do. Regrouped, a step is one batch
for transformers' loop, with no accumulation, and its micro-batches are gone through inside (SwiftTrainer.training_step).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate import DistributedType, PartialState
from transformers import Seq2SeqTrainingArguments

from swift import dist, logs
from swift.data.packing import first_fit_decreasing
from swift.errors import UsageError
from swift.objectives.objective import Batch, Example

if TYPE_CHECKING:
    from swift.args.commands import SftCommand

ENOUGH = 4096  # tokens that keep a GPU busy: to compute whole layers again for the sake of more costs more than more gain
MOST = 16384  # matrix products of so many rows are as fast as they get
STEP = "micro_batches"
UNDER_DEEPSPEED = "DeepSpeed counts micro-batches itself, so the rows of a step cannot be regrouped"


@dataclass(frozen=True)
class CollateStep:
    """The rows of one step on one rank -> {"micro_batches": [what `collate` makes of each group], "input_ids": (1, N) of all of them}.

    transformers' loop counts tokens by `input_ids`. `limit` is in tokens.
    """

    collate: Callable[[Sequence[Sequence[Example]]], Batch]
    limit: int

    def __call__(self, items: Sequence[Sequence[Example]]) -> Batch:
        items = [item for item in items if item]
        groups = balanced([sum(len(example["input_ids"]) for example in item) for item in items], self.limit) or [[]]
        made = [self.collate([items[number] for number in group]) for group in groups]
        return {"input_ids": torch.cat([batch["input_ids"] for batch in made], 1), STEP: made}


def micro_batches(inputs: Batch) -> list[Batch]:
    """Those of a step; a batch that is none is one micro-batch."""
    return inputs.get(STEP, [inputs])


def balanced(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Numbers of `lengths` in groups of at most `limit` tokens, and of about as many as each other; a longer row is a group by itself.

    As few groups as first fit decreasing finds; then the longest rows first, each into the group that has least so far, where that
    keeps to the limit. The same rows always make the same groups. In each the numbers ascend.
    """
    lengths = [min(length, limit) for length in lengths]
    groups = first_fit_decreasing(lengths, limit)
    even: list[list[int]] = [[] for _ in groups]
    tokens = [0] * len(groups)
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        least = tokens.index(min(tokens))
        even[least].append(number)
        tokens[least] += lengths[number]
    if max(tokens, default=0) <= limit:
        groups = [sorted(group) for group in even if group]
    return sorted(groups)


class Sizes(NamedTuple):
    """Tokens on one rank: the most that there can be in a row, in a micro-batch as given, in a step."""

    row: int
    given: int
    step: int


@dataclass(frozen=True)
class Split:
    """How the rows of a step are to be cut. `asked`: the most tokens of a micro-batch, 0 as given, None automatic."""

    asked: int | None
    sizes: Sizes

    def planned(self) -> int:
        """Tokens of the largest micro-batch that what is computed again in backward is chosen for."""
        if self.asked == 0:
            return self.sizes.given
        return min(self.sizes.step, max(self.sizes.row, self.asked or ENOUGH))

    def limit(self, fits: Callable[[int], bool]) -> int:
        """The most tokens of a micro-batch, 0 as given; automatically as many as `fits` says, MOST where that is more."""
        if self.asked is not None:
            return self.asked
        most = min(self.sizes.step, max(self.sizes.row, MOST))
        return next((tokens for tokens in range(most, self.sizes.row, -1024) if fits(tokens)), self.sizes.row)

    def largest(self, limit: int) -> int:
        """Tokens of the largest micro-batch there can be under that limit."""
        return min(self.sizes.step, max(self.sizes.row, limit)) if limit else self.sizes.given


def plan_split(args: SftCommand, tokens_of: Callable[[int], int]) -> Split:
    """What --micro_batch_tokens asks for. `tokens_of`: the most tokens that so many rows can have.

    Raises UsageError where it is asked for under DeepSpeed.
    """
    trainer = args.trainer
    in_step = trainer.per_device_train_batch_size * trainer.gradient_accumulation_steps
    sizes = Sizes(tokens_of(1), tokens_of(trainer.per_device_train_batch_size), tokens_of(in_step))
    asked = args.training.micro_batch_tokens
    deepspeed = dist.is_distributed() and PartialState().distributed_type == DistributedType.DEEPSPEED
    if asked and deepspeed:
        raise UsageError(f"--micro_batch_tokens {asked}: {UNDER_DEEPSPEED}. Leave it out")
    if asked is None and (deepspeed or in_step == 1 or not torch.cuda.is_available()):
        asked = 0
    return Split(asked, sizes)


def say_split(limit: int, split: Split) -> None:
    if limit:
        logs.info(
            f"the up to {split.sizes.step:,} tokens of a step on each device are computed in micro-batches of at most {limit:,} "
            "(--micro_batch_tokens; 0: as --per_device_train_batch_size says)"
        )


def whole_steps(told: Seq2SeqTrainingArguments) -> Seq2SeqTrainingArguments:
    """A copy for which a step is one batch."""
    told = copy.copy(told)
    told.per_device_train_batch_size *= told.gradient_accumulation_steps
    told.gradient_accumulation_steps = 1
    return told

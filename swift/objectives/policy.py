"""Token log-probabilities of a model, however it is wrapped; every objective gains where this file becomes faster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from swift.errors import ModelError
from swift.models.layout import laid_end_to_end, takes_rows_together
from swift.objectives.head import LogProbHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from swift.objectives.objective import Batch


def exchange_head(model: PreTrainedModel) -> None:
    """Give `model` an output layer that answers log-probabilities. Do it before PEFT wraps the model or a distributed engine shards it."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(f"{type(model).__name__} has no linear output layer, so its token log-probabilities cannot be computed in chunks")
    if not isinstance(head, LogProbHead):
        model.set_output_embeddings(LogProbHead.around(head, softcap=getattr(model.config, "final_logit_softcapping", None)))


class Policy:
    """A model to be asked for log-probabilities. `model` may be wrapped (DDP, PEFT …): its forward is called, so their hooks hold."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.together = takes_rows_together(model)
        self.heads = [module for module in model.modules() if isinstance(module, LogProbHead)]  # PEFT's modules_to_save keeps two

    def logps(self, batch: Batch, *, want_correct: bool = False, slopes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """log p(shift_labels) (1, N), 0 where nothing is learned, and, if asked, whether each target is the most likely token (1, N).

        `slopes` (1, N): with what the loss will weigh each of them, but for one common factor, where that is known; it saves computing logits
        twice where the output layer is trained.
        """
        if not self.together and len(batch["segment_lengths"]) > 1:
            each = [self.logps(one, want_correct=want_correct) for one in one_by_one(batch)]
            return torch.cat([logps for logps, _ in each], 1), torch.cat([right for _, right in each], 1) if want_correct else None  # type: ignore[arg-type]
        if not self.heads:
            return self._from_logits(batch, want_correct)
        for head in self.heads:
            head.targets, head.learned, head.want_correct = batch["shift_labels"], batch.get("learned"), want_correct
            head.slopes = slopes
        try:
            answer = self._forward(batch)
        finally:
            for head in self.heads:
                head.targets = head.learned = head.slopes = None
        head = next(head for head in self.heads if head.answer is not None)
        if head.softcap is not None and head.answer is not None:
            answer = head.answer  # the model has capped what the head returned: that was no logit
        correct = head.correct
        for head in self.heads:
            head.answer = head.correct = None
        if answer.shape != (*batch["shift_labels"].shape, 1):
            raise RuntimeError(
                f"the output layer answered {tuple(answer.shape)}, not log-probabilities: it was exchanged after LogProbHead"
            )
        return answer.squeeze(-1), correct

    def _from_logits(self, batch: Batch, want_correct: bool) -> tuple[Tensor, Tensor | None]:
        """The plain road, where the output layer itself is adapted (LoRA on lm_head): logits (1, N, V) are built."""
        logits = self._forward(batch).float()
        target = batch["shift_labels"].clamp(min=0)
        learned = batch["shift_labels"] >= 0
        logps = logits.gather(-1, target[..., None]).squeeze(-1) - logits.logsumexp(-1)
        correct = learned & (logits.argmax(-1) == target) if want_correct else None
        return torch.where(learned, logps, 0.0), correct

    def _forward(self, batch: Batch) -> Tensor:
        if not self.together:
            return self.model(input_ids=batch["input_ids"], use_cache=False).logits
        return self.model(**laid_end_to_end(batch)).logits


def one_by_one(batch: Batch) -> Iterator[Batch]:
    """The samples of a batch, each as a batch of its own."""
    lengths = batch["segment_lengths"]
    for ids, labels, length in zip(batch["input_ids"].split(lengths, 1), batch["shift_labels"].split(lengths, 1), lengths, strict=True):
        yield {"input_ids": ids, "shift_labels": labels, "segment_lengths": (length,)}

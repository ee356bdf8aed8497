"""The engine on classifiers: a sample's class, its classes or its number as the text of an answer. It is asked as the pt engine is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from swift import logs
from swift.args import saved
from swift.data.labels import Problem, label_text, read_target
from swift.data.sample import Sample
from swift.engines.engine import Chunk, ClassLogprobs, Completion, Sampling
from swift.engines.pt.adapters import AdapterRequest, AdapterShelf
from swift.engines.pt.engine import UNKNOWN_LENGTH, Refused
from swift.engines.text_metrics import Pairs
from swift.engines.text_metrics import acc as exact_match
from swift.errors import DataError
from swift.hub import download
from swift.models.classifier import Scorer, fit_to, untrained
from swift.models.load import load_model, load_processor
from swift.template.build import build_template
from swift.template.encoded import RowSkipped
from swift.tuners.tuner import load_adapters

if TYPE_CHECKING:
    from swift.args.base import HubArgs, ModelArgs, QuantArgs, TemplateArgs
    from swift.models.match import ModelInfo
    from swift.template.template import Template

ROWS = 32  # at once, unless --max_batch_size says otherwise
TOKENS = 32768  # and of them no more than this


class ClassifierEngine:
    """Scores with a model that lives in this process. A conversation is read with the answer that it ends with, where it has one."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int | None = None,
        max_batch_size: int | None = None,
        info: ModelInfo | None = None,
    ):
        self.shelf = AdapterShelf(model.eval())
        self.template, self.tokenizer, self.info = template, tokenizer, info
        self.max_batch_size = max_batch_size
        known = max_length or template.max_length or getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = known or UNKNOWN_LENGTH
        self.num_labels = int(self.model.config.num_labels or 1)
        self.problem: Problem = self.model.config.problem_type or ("regression" if self.num_labels == 1 else "single_label_classification")
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        info: ModelInfo,
        model: ModelArgs,
        hub: HubArgs,
        template: TemplateArgs,
        *,
        quant: QuantArgs | None = None,
        adapters: Sequence[str] = (),
        max_batch_size: int | None = None,
    ) -> ClassifierEngine:
        """From a model that was found, and paths or ids of adapters, to an engine with them one on top of the other."""
        folders = [str(download(name, "model", hub)) for name in adapters]
        tokenizer = load_processor(info)
        bound = build_template(info, tokenizer, template)
        read = load_model(info, model, training=False, quant=quant)
        fit_to(read, tokenizer, stored_problem(folders))
        adapted = load_adapters(read, folders)
        if without := untrained(read, adapted):
            logs.warning(f"{info.name} was never trained as a classifier ({', '.join(without)}): its answers are arbitrary (--adapters)")
        return cls(adapted, bound, tokenizer, max_length=info.max_length, max_batch_size=max_batch_size, info=info)

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model, inside whatever PEFT put around it."""
        model = self.shelf.model
        return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]

    def generate(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
        on_end: Callable[[int], object] | None = None,
    ) -> list[list[Completion]]:
        """One answer for each sample, n times where n is asked. Raises RowSkipped or DataError for a sample that cannot be asked."""
        answers = self.attempt(samples, sampling, adapter=adapter, template=template, on_end=on_end)
        for answer in answers:
            if not isinstance(answer, list):
                raise answer
        return answers  # type: ignore[return-value]

    def attempt(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
        on_end: Callable[[int], object] | None = None,
    ) -> list[list[Completion] | Refused]:
        """As `generate`, but a sample that cannot be asked gives the reason in its place."""
        each = [sampling] * len(samples) if isinstance(sampling, Sampling) else list(sampling)
        answers: list[Any] = [self._tokens(sample, template or self.template) for sample in samples]
        asked = [(number, ids) for number, ids in enumerate(answers) if isinstance(ids, list)]
        for batch in self._batches(asked):
            with self._turn, self.shelf.using(adapter), torch.inference_mode():
                scores = Scorer(self.shelf.model).of_rows([ids for _, ids in batch])
            for (number, ids), row in zip(batch, scores.cpu(), strict=True):
                answers[number] = [self._completion(row, len(ids), each[number])] * each[number].n
            if on_end is not None:
                on_end(sum(each[number].n for number, _ in batch))
        return answers

    def stream(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
    ) -> Iterator[tuple[int, Chunk]]:
        """(sample's number, its whole answer as one chunk). Raises as `generate` does, at once."""
        return _chunks(self.generate(samples, sampling, adapter=adapter, template=template))

    def attempt_stream(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
    ) -> tuple[Iterator[tuple[int, Chunk]], dict[int, Refused]]:
        """As `stream`; the reasons of samples that cannot be asked, by number, stand beside the chunks of the others."""
        answers = self.attempt(samples, sampling, adapter=adapter, template=template)
        return _chunks(answers), {number: answer for number, answer in enumerate(answers) if not isinstance(answer, list)}

    def split_label(self, sample: Sample) -> tuple[Sample, str | None]:
        """The sample without its label, and the label as an answer is written; one that cannot be read stands as it is."""
        if sample.label is None:
            return sample, None
        try:
            wanted = label_text(read_target(sample.label, self.num_labels, self.problem), self.problem)
        except RowSkipped:
            wanted = str(sample.label)
        return replace(sample, label=None), wanted

    def acc(self, pairs: Pairs) -> dict[str, float]:
        """What (answer, label) pairs are worth: the share of right ones; numbers' distance from theirs."""
        if self.problem == "regression":
            return errors(pairs)
        return exact_match(pairs)

    def _tokens(self, sample: Sample, template: Template) -> list[int] | Refused:
        try:
            ids = template.encode_text(sample)
        except (RowSkipped, DataError) as refusal:
            return refusal
        if not ids:
            return DataError("the text is empty: there is nothing to classify")
        if len(ids) > self.max_length:
            return RowSkipped("longer than the model's length", f"{len(ids)} tokens of {self.max_length}")
        return ids

    def _batches(self, asked: list[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
        """Longest first, as the pt engine does."""
        most = self.max_batch_size if self.max_batch_size is not None else ROWS
        batch: list[tuple[int, list[int]]] = []
        for one in sorted(asked, key=lambda one: -len(one[1])):
            if batch and ((most and len(batch) == most) or sum(len(ids) for _, ids in batch) + len(one[1]) > TOKENS):
                yield batch
                batch = []
            batch.append(one)
        if batch:
            yield batch

    def _completion(self, scores: Tensor, prompt_tokens: int, asked: Sampling) -> Completion:
        """scores (L,). An answer counts as one token."""
        text, logprobs = answer(scores, self.problem)
        if logprobs is not None and asked.top_logprobs:
            logprobs = replace(logprobs, classes=logprobs.classes[: asked.top_logprobs])
        given = [logprobs] if asked.logprobs and logprobs is not None else None
        return Completion(text, [int(scores.argmax())], "stop", given, prompt_tokens)


def answer(scores: Tensor, problem: Problem) -> tuple[str, ClassLogprobs | None]:
    """The text for scores (L,), and the classes' log-probabilities; a regression has none."""
    if problem == "regression":
        return label_text(scores.tolist(), problem), None
    if problem == "single_label_classification":
        logps = scores.log_softmax(0)
        best = int(logps.argmax())
        return str(best), ClassLogprobs(best, float(logps[best]), _likeliest_first(logps))
    logps, against = torch.nn.functional.logsigmoid(scores), torch.nn.functional.logsigmoid(-scores)
    holds = scores > 0
    chosen = holds.nonzero().flatten().tolist()
    return str(chosen), ClassLogprobs(chosen, float(torch.where(holds, logps, against).sum()), _likeliest_first(logps))


def _likeliest_first(logps: Tensor) -> tuple[tuple[int, float], ...]:
    return tuple((int(number), float(logps[number])) for number in logps.argsort(descending=True, stable=True))


def _chunks(answers: Sequence[list[Completion] | Refused]) -> Iterator[tuple[int, Chunk]]:
    for number, completions in enumerate(answers):
        for index, one in enumerate(completions if isinstance(completions, list) else []):
            yield number, Chunk(one.text, index, one.token_ids, one.logprobs, one.finish_reason, one.prompt_tokens, 1)


def stored_problem(adapters: Sequence[str | Path]) -> Problem | None:
    """What kind of labels an adapter learned, as its args.json says; None where it does not."""
    found = (saved.read(folder).get("problem_type") for folder in adapters if (Path(folder) / saved.FILE).is_file())
    return next((problem for problem in found if problem), None)


def errors(pairs: Pairs) -> dict[str, float]:
    """Mean squared error, its root, mean absolute error and Pearson's correlation of (answer, label) texts of numbers."""
    if not pairs:
        return {}
    said, wanted = (torch.tensor([json.loads(text) for text in side], dtype=torch.float64).flatten() for side in zip(*pairs, strict=True))
    mse, mae = (said - wanted).square().mean(), (said - wanted).abs().mean()
    found = {"mse": float(mse), "rmse": float(mse.sqrt()), "mae": float(mae)}
    if len(said) > 1 and said.std() > 0 and wanted.std() > 0:
        found["pearson"] = float(torch.corrcoef(torch.stack([said, wanted]))[0, 1])
    return found

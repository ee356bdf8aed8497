"""Models that classify or score a text instead of writing one: which class reads the weights, and the scores of rows laid end to end.

S rows of N tokens in all, L labels.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
from transformers.utils import logging as transformers_logging

from swift import logs
from swift.errors import ModelError, UsageError
from swift.models.layout import inner_model, laid_end_to_end, takes_rows_together

if TYPE_CHECKING:
    from swift.args.base import ModelArgs
    from swift.data.labels import Problem
    from swift.models.match import ModelInfo

ARCHITECTURE = "ForSequenceClassification"
HEAD = "score"  # the linear layer of models that score the last token; encoders call theirs `classifier` and pool otherwise


def num_classes(info: ModelInfo, args: ModelArgs) -> int | None:
    """How many labels the model answers with: --num_labels, or what its config.json or its type says. None where it writes text.

    Raises UsageError where it is to classify and nothing says into what.
    """
    if args.task_type == "causal_lm":
        return None
    found = args.num_labels or stored_classes(info.config) or info.spec.num_labels
    if found is None and args.task_type == "seq_cls":
        raise UsageError(
            f"--task_type seq_cls needs --num_labels: {info.name} is no classifier yet, so nothing says how many classes there are"
        )
    return found


def stored_classes(config: dict[str, Any]) -> int | None:
    """The number of labels of a checkpoint that is a classifier already; None for another. transformers leaves its default, 2, out."""
    if not any(str(name).endswith(ARCHITECTURE) for name in config.get("architectures") or []):
        return None
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels") or 2)


def classifier_class(info: ModelInfo, num_labels: int, options: dict[str, Any], *, training: bool) -> Any:
    """The class whose `from_pretrained` reads the model as a classifier; what it needs is put into `options` and its `config`.

    A head that the checkpoint lacks is fresh. Raises UsageError where a finished classifier is asked for another number of classes than
    it has, and ModelError where its architecture cannot classify.
    """
    stored = stored_classes(info.config)
    if stored not in (None, num_labels):
        if not training:
            raise UsageError(f"{info.name} has {stored} classes, not --num_labels {num_labels}")
        logs.info(f"{info.name} has {stored} classes and is trained on {num_labels}")
        options["ignore_mismatched_sizes"] = True
    config = options["config"]
    config.num_labels = num_labels
    remote = "AutoModelForSequenceClassification" in (getattr(config, "auto_map", None) or {})
    if not remote and type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return _make_class(type(config), info)
    return AutoModelForSequenceClassification


@contextmanager
def quietly() -> Iterator[None]:
    """transformers tells at length of a head that is not there yet, which is as it should be."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


_FRESH: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()


def say_fresh(model: PreTrainedModel, report: dict[str, Any], *, training: bool) -> None:
    """Note what of a classifier was not in its folder (`output_loading_info`): to be trained, or brought by an adapter."""
    fresh = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    _FRESH[model] = list(dict.fromkeys(name.rpartition(".")[0] for name in fresh))
    if fresh and training:
        logs.info(f"{type(model).__name__}: the checkpoint has no {', '.join(fresh)}: trained from the start")


def fresh_modules(model: nn.Module) -> list[str]:
    """Modules that no checkpoint had: a head, and for BERT the layer before it. All of them must be trained and saved whole."""
    return _FRESH.get(model, [])


def untrained(model: nn.Module, adapted: nn.Module) -> list[str]:
    """Those of them that no adapter on top has brought either: what they answer is arbitrary."""
    brought = [name for name, _ in adapted.named_modules() if ".modules_to_save." in name]
    return [name for name in fresh_modules(model) if not any(f".{name}.modules_to_save." in there for there in brought)]


def _make_class(config_class: Any, info: ModelInfo) -> type[PreTrainedModel]:
    """transformers' generic classifier around a model that it has no classifier of."""
    if config_class not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{info.name} ({config_class.__name__}) cannot be made a classifier: transformers knows no class of it for that")
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
    family = next(base for base in causal.__mro__ if issubclass(base, PreTrainedModel) and base.__name__.endswith("PreTrainedModel"))
    name = causal.__name__.replace("ForCausalLM", "").replace("LMHeadModel", "") + ARCHITECTURE
    return type(
        name, (GenericForSequenceClassification, family), {"base_model_prefix": causal.base_model_prefix, "config_class": config_class}
    )


def is_classifier(model: nn.Module) -> bool:
    return type(model).__name__.endswith(ARCHITECTURE)


def lay_out(model: PreTrainedModel, *, eager: bool = False) -> None:
    """Give a model that scores the last token variable-length attention, where its code takes it; others get padded rows."""
    from swift.models.rows import keep_rows_apart  # registers attentions with transformers: only where they are used

    own = str(model.config._attn_implementation)
    if own.startswith("flash"):
        return
    passes_on = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(model.forward).parameters.values())
    if not hasattr(model, HEAD) or getattr(model.config, "use_bidirectional_attention", False) or not passes_on:
        return
    keep_rows_apart(model.base_model, eager=eager)  # type: ignore[arg-type]


def fit_to(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem | None) -> None:
    """What config.json must say for others to get the same scores: the padding token, and what the scores are."""
    pad = tokenizer.pad_token_id
    if isinstance(pad, int) and pad < model.config.get_text_config().vocab_size:
        model.config.get_text_config().pad_token_id = pad
    if problem is not None:
        model.config.problem_type = problem


class Scorer:
    """A classifier to be asked for scores, however it is wrapped (DDP, PEFT …): its forward is called, so that their hooks hold."""

    def __init__(self, model: nn.Module):
        self.model = model
        inner = inner_model(model)
        assert inner is not None
        self.inner = inner
        self.laid_out = hasattr(inner, HEAD) and takes_rows_together(model)

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        """Scores (S, L) float32 of the rows of a batch without padding (`lay_end_to_end`): input_ids (1, N), segment_lengths …"""
        if not self.laid_out:
            return self._padded(batch)
        seen: list[Any] = []  # of all tokens: the model itself keeps the scores of the last one only
        head: nn.Module = getattr(self.inner, HEAD)
        hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            self.model(**laid_end_to_end(batch))
        finally:
            hook.remove()
        return seen[-1][0, self._last(batch).to(seen[-1].device)].float()

    def _last(self, batch: dict[str, Any]) -> Tensor:
        """The place of each row's last token that is not the padding token, as transformers finds it in padded rows. (S,)"""
        ids, lengths = batch["input_ids"][0], batch["segment_lengths"]
        places = torch.arange(len(ids), device=ids.device)
        row = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), torch.tensor(lengths, device=ids.device))
        first = batch["cu_seq_lens"][:-1].to(ids.device).long()
        pad = self.inner.config.get_text_config().pad_token_id
        if pad is not None:
            places = torch.where(ids == pad, first[row], places)
        return first.scatter_reduce(0, row, places, "amax")

    def _padded(self, batch: dict[str, Any]) -> Tensor:
        """For encoders, which pool in ways of their own, and for models whose attention knows no rows laid end to end."""
        rows = batch["input_ids"][0].split(list(batch["segment_lengths"]))
        pad = getattr(self.inner.config.get_text_config(), "pad_token_id", None)
        ids = pad_sequence(list(rows), batch_first=True, padding_value=pad or 0)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return self.model(input_ids=ids, attention_mask=mask).logits.float()

    def of_rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Scores (S, L) float32 of rows of token ids, on the model's device."""
        device = next(self.inner.get_input_embeddings().parameters()).device
        lengths = [len(row) for row in rows]
        return self(
            {
                "input_ids": torch.tensor([[id for row in rows for id in row]], device=device),
                "position_ids": torch.cat([torch.arange(length) for length in lengths])[None].to(device),
                "cu_seq_lens": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
                "segment_lengths": tuple(lengths),
            }
        )

"""The engine on transformers models: samples in, answers out, all in one running batch (scheduler.py). Results come back in the samples' order."""

from __future__ import annotations

import queue
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from swift import logs
from swift.data.sample import Sample
from swift.engines.engine import Chunk, Completion, Listener, Load, Sampling
from swift.engines.pt.adapters import AdapterRequest, AdapterShelf
from swift.engines.pt.request import Request
from swift.engines.pt.sampling import resolve
from swift.engines.pt.scheduler import Scheduler
from swift.engines.pt.ticket import Slip, Ticket
from swift.engines.stop import AnswerText
from swift.errors import DataError
from swift.hub import download
from swift.models.load import load_model, load_processor
from swift.template.build import build_template
from swift.template.encoded import RowSkipped
from swift.tuners.tuner import load_adapters

if TYPE_CHECKING:
    from swift.args.base import HubArgs, ModelArgs, QuantArgs, TemplateArgs
    from swift.models.match import ModelInfo
    from swift.template.template import Template

Refused = RowSkipped | DataError  # why a sample cannot be asked

UNKNOWN_LENGTH = 8192  # tokens of prompt and answer where config.json names no limit
MOST_WAITING = 4096  # answers that wait before `submit` refuses more
# What generation_config.json may ask for beyond this engine's own means.
UNUSED = ("typical_p", "no_repeat_ngram_size", "bad_words_ids", "min_new_tokens", "suppress_tokens", "begin_suppress_tokens",
          "forced_eos_token_id", "exponential_decay_length_penalty", "sequence_bias")  # fmt: skip


class PtEngine:
    """Answers with a model that lives in this process. Requests of all calls and threads run in one batch, each as if it were alone."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int | None = None,
        max_batch_size: int | None = None,
        max_queue: int | None = MOST_WAITING,
        info: ModelInfo | None = None,
    ):
        """`max_length`: tokens of prompt and answer together; None: the model's. `max_batch_size`: None: as fits; 0: all at once.

        `max_queue`: answers that may wait for a place before `submit` raises QueueFull; None: any number.
        """
        self.shelf = AdapterShelf(model.eval())
        self.template, self.tokenizer, self.info = template, tokenizer, info
        self.max_queue = max_queue
        self.max_length = max_length or _model_length(self.model)
        self._scheduler = Scheduler(self.shelf, tokenizer, self._word, max_length=self.max_length)
        self.max_batch_size = max_batch_size
        _say_unused(self.model)

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
    ) -> PtEngine:
        """From a model that was found, and paths or ids of adapters, to an engine with them one on top of the other."""
        folders = [str(download(name, "model", hub)) for name in adapters]
        tokenizer = load_processor(info)
        bound = build_template(info, tokenizer, template)
        loaded = load_adapters(load_model(info, model, training=False, quant=quant), folders)
        return cls(loaded, bound, tokenizer, max_length=info.max_length, max_batch_size=max_batch_size, info=info)

    @property
    def max_batch_size(self) -> int | None:
        return self._scheduler.places

    @max_batch_size.setter
    def max_batch_size(self, size: int | None) -> None:
        """Holds once nothing runs."""
        self._scheduler.places = size

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model, inside whatever PEFT put around it."""
        model = self.shelf.model
        return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]

    @property
    def stop_ids(self) -> frozenset[int]:
        found = self.model.generation_config.eos_token_id if self.model.generation_config is not None else None
        return self.template.stop_ids | frozenset(found if isinstance(found, list) else [found] if found is not None else [])

    def generate(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
        on_end: Callable[[int], object] | None = None,
    ) -> list[list[Completion]]:
        """n answers for each sample, which are left as they are. Raises RowSkipped or DataError for a sample that cannot be asked.

        `on_end` is told after a step how many answers ended in it.
        """
        requests, refused = self._requests(samples, sampling, template)
        for refusal in refused.values():
            raise refusal
        answers = self._answers(requests, adapter, on_end)
        return [answers[number] for number in range(len(samples))]

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
        requests, refused = self._requests(samples, sampling, template)
        answers = self._answers(requests, adapter, on_end)
        return [refused[number] if number in refused else answers[number] for number in range(len(samples))]

    def stream(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
    ) -> Iterator[tuple[int, Chunk]]:
        """(sample's number, chunk) as the answers grow; each answer's last one has a finish reason. Raises as `generate` does, at once."""
        chunks, refused = self.attempt_stream(samples, sampling, adapter=adapter, template=template)
        for refusal in refused.values():
            raise refusal
        return chunks

    def attempt_stream(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
    ) -> tuple[Iterator[tuple[int, Chunk]], dict[int, Refused]]:
        """As `stream`; the reasons of samples that cannot be asked, by number, stand beside the chunks of the others."""
        requests, refused = self._requests(samples, sampling, template, watch=True)
        return self._chunks(requests, adapter), refused

    def submit(
        self,
        sample: Sample,
        sampling: Sampling,
        *,
        adapter: AdapterRequest | None = None,
        template: Template | None = None,
        prompt: list[int] | None = None,
        listen: Listener | None = None,
        whole: bool = False,
    ) -> Slip:
        """Hand one sample in, from any thread; see ServingEngine. `whole`: one chunk for each answer, when it has ended."""
        requests, refused = self._requests([sample], sampling, template, watch=not whole, prompt=prompt)
        for refusal in refused.values():
            raise refusal
        slip = Slip(requests, adapter, listen, each=not whole)
        self._scheduler.add([slip.ticket], self.max_queue)
        return slip

    def load_now(self) -> Load:
        return self._scheduler.load()

    def close(self) -> None:
        """What runs or waits fails with Closed, and the memory of keys and values is let go. Nothing can be asked afterwards."""
        self._scheduler.close()

    def _answers(
        self, requests: list[Request], adapter: AdapterRequest | None, on_end: Callable[[int], object] | None = None
    ) -> dict[int, list[Completion]]:
        for _ in self._run(requests, adapter, each=False):
            if on_end is not None:
                on_end(1)
        answers: dict[int, list[Completion]] = {}
        for request in requests:
            answers.setdefault(request.sample, []).append(request.completion())
        return answers

    def _chunks(self, requests: list[Request], adapter: AdapterRequest | None) -> Iterator[tuple[int, Chunk]]:
        for number, chunk in self._run(requests, adapter, each=True):
            if chunk is not None:
                yield number, chunk

    def _run(self, requests: list[Request], adapter: AdapterRequest | None, *, each: bool) -> Iterator[tuple[int, Chunk | None]]:
        """Every request to its end: (sample's number, chunk) as they move, or (number, None) as they end. Whoever leaves early cancels them.

        The longest are handed in first: they take longest, and what does not fit into memory shows at once.
        """
        news: queue.SimpleQueue[tuple[int, Chunk | None] | Exception] = queue.SimpleQueue()

        def moved(request: Request) -> None:
            chunk = request.chunk() if each else None
            if chunk is not None or not each:
                news.put((request.sample, chunk))

        order = sorted(_by_sample(requests), key=lambda group: (-group[0].limit, -len(group[0].prompt)))
        tickets = [Ticket(group, adapter, moved, news.put, each) for group in order]
        self._scheduler.add(tickets)
        left = len(requests)
        try:
            while left:
                item = news.get()
                if isinstance(item, Exception):
                    raise item
                left -= item[1] is None or item[1].finish_reason is not None
                yield item
        finally:
            for ticket in tickets:
                ticket.cancelled = True

    def _requests(
        self,
        samples: Sequence[Sample],
        sampling: Sampling | Sequence[Sampling],
        template: Template | None,
        *,
        watch: bool = False,
        prompt: list[int] | None = None,
    ) -> tuple[list[Request], dict[int, Refused]]:
        """What `samples` ask, n requests each, in order; and by number the samples that cannot be asked. Only here are prompts made."""
        template = template or self.template
        each = [sampling] * len(samples) if isinstance(sampling, Sampling) else list(sampling)
        stop_ids = self.stop_ids | template.stop_ids
        requests, refused = [], {}
        for number, (sample, asked) in enumerate(zip(samples, each, strict=True)):
            try:
                ids = template.prompt(sample) if prompt is None else self._checked(prompt)
                limit = self._limit(len(ids), asked.max_new_tokens)
            except (RowSkipped, DataError) as refusal:
                refused[number] = refusal
                continue
            seed = random.getrandbits(64) if asked.seed is None else asked.seed
            stops = asked.stop + (template.tool_stops(sample) if sample.tools else ())
            for index in range(asked.n):
                requests.append(
                    Request(
                        sample=number,
                        index=index,
                        prompt=ids,
                        asked=asked,
                        choice=resolve(asked, self.model.generation_config),
                        limit=limit,
                        stop_ids=stop_ids,
                        text=AnswerText(self._text, keep=stops, drop=template.stop_texts),
                        watch=watch or bool(stops or template.stop_texts),
                        randomness=random.Random(f"{seed}/{index}"),
                        logprobs=[] if asked.logprobs else None,
                        top_logprobs=asked.top_logprobs,
                        read_calls=template.tool_calls if sample.tools else None,
                    )
                )
        return requests, refused

    def _checked(self, prompt: list[int]) -> list[int]:
        size = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
        wrong = next((token for token in prompt if not 0 <= token < size), None)
        if wrong is not None:
            raise DataError(f"the prompt has the token id {wrong}, and the model's are 0 to {size - 1}")
        return list(prompt)

    def _limit(self, prompt_tokens: int, asked: int | None) -> int:
        if prompt_tokens == 0:
            raise DataError("the prompt is empty: there is nothing to answer")
        room = self.max_length - prompt_tokens
        if room < 1:
            raise RowSkipped("longer than the model's length", f"{prompt_tokens} tokens of {self.max_length}")
        if asked is not None and asked > room:
            logs.warn_once(
                f"max_new_tokens {asked} is more than the model's length of {self.max_length} leaves after the prompt; cut to what is left"
            )
        return room if asked is None else min(asked, room)

    def _text(self, ids: list[int]) -> str:
        """All that tokens say, special ones too. (`template.decode` would take a stop text away before it is seen.)"""
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)  # type: ignore[return-value]

    def _word(self, token: int) -> str:
        return self._text([token])


def _by_sample(requests: list[Request]) -> list[list[Request]]:
    groups: dict[int, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.sample, []).append(request)
    return list(groups.values())


def _model_length(model: PreTrainedModel) -> int:
    config = model.config.get_text_config(decoder=True)
    length = getattr(config, "max_position_embeddings", None)
    if length is None:
        logs.warn_once(f"config.json names no length; {UNKNOWN_LENGTH} tokens are taken for prompt and answer together")
    return length or UNKNOWN_LENGTH


def _say_unused(model: PreTrainedModel) -> None:
    found = model.generation_config.to_diff_dict() if model.generation_config is not None else {}
    unused = [name for name in UNUSED if found.get(name) not in (None, 0, 1.0, [])]
    if unused:
        logs.warning(f"the model's generation_config.json asks for {', '.join(unused)}, which this engine does not apply")

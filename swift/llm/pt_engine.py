"""PtEngine as people's scripts know it: OpenAI-shaped requests in, responses out, over swift.engines.pt."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft import PeftModel
from tqdm import tqdm

from swift.args.base import HubArgs
from swift.args.parse import from_kwargs
from swift.data.sample import Sample
from swift.engines.classify import ClassifierEngine
from swift.engines.engine import Chunk, Completion, Sampling
from swift.engines.load import load_engine
from swift.engines.protocol import (
    ChatCompletionResponse,
    ChatCompletionStreamResponse,
    InferRequest,
    RequestConfig,
    response,
    stream_responses,
    to_sample,
)
from swift.engines.pt import engine as pt
from swift.engines.pt.adapters import AdapterRequest
from swift.errors import UsageError
from swift.hub import download
from swift.models.classifier import is_classifier

NOT_BUILT = "is part of SWIFT but not built yet; leave it out"
_END = object()


class PtEngine:
    """Answers with a transformers model in this process; a classifier answers with the number of a class, or with a score.

    `default_template` may be replaced; `strict = False` puts the reason in the place of an answer that cannot be given.
    """

    def __init__(
        self,
        model_id_or_path: str,
        torch_dtype: Any = None,
        *,
        adapters: str | Sequence[str] | None = None,
        max_batch_size: int | None = None,
        model_type: str | None = None,
        task_type: str | None = None,
        num_labels: int | None = None,
        use_hf: bool | None = None,
        revision: str | None = None,
        hub_token: str | None = None,
        load_model: bool = True,
        attn_impl: str | None = None,
        device_map: Any = None,
        quantization_config: Any = None,
        model_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        unbuilt = {"quantization_config": quantization_config, "model_kwargs": model_kwargs, **kwargs}
        for name, value in unbuilt.items():
            if value is not None:
                raise UsageError(f"PtEngine: {name} {NOT_BUILT}")
        if not load_model:
            raise UsageError("PtEngine: load_model=False leaves nothing that could answer; leave it out")
        flags = {
            "model": model_id_or_path,
            "torch_dtype": None if torch_dtype is None else str(torch_dtype).removeprefix("torch."),
            "adapters": [adapters] if isinstance(adapters, str) else list(adapters or []) or None,
            "model_type": model_type,
            "task_type": task_type,
            "num_labels": num_labels,
            "use_hf": use_hf,
            "model_revision": revision,
            "hub_token": hub_token,
            "attn_impl": attn_impl,
            "device_map": device_map,
        }
        args = from_kwargs("infer", **{name: value for name, value in flags.items() if value is not None})
        self._hub: HubArgs = args.hub
        self._start(
            load_engine(
                args.model, args.hub, args.template, quant=args.quant, adapters=args.adapter.adapters, max_batch_size=max_batch_size
            )
        )

    @classmethod
    def from_model_template(cls, model: Any, template: Any, *, max_batch_size: int | None = None) -> PtEngine:
        """An engine on a model and a template that are there already."""
        made = cls.__new__(cls)
        made._hub = HubArgs()
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        kind = ClassifierEngine if is_classifier(inner) else pt.PtEngine
        made._start(kind(model, template, template.tokenizer, max_batch_size=max_batch_size))
        return made

    def _start(self, engine: pt.PtEngine | ClassifierEngine) -> None:
        self._engine, self.strict = engine, True
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task | None = None

    # what people read

    @property
    def model(self) -> Any:
        return self._engine.shelf.model

    @property
    def tokenizer(self) -> Any:
        return self._engine.tokenizer

    processor = tokenizer

    @property
    def default_template(self) -> Any:
        return self._engine.template

    @default_template.setter
    def default_template(self, template: Any) -> None:
        self._engine.template = template

    @property
    def config(self) -> Any:
        return self._engine.model.config

    @property
    def generation_config(self) -> Any:
        return self._engine.model.generation_config

    @property
    def max_model_len(self) -> int:
        return self._engine.max_length

    @property
    def max_batch_size(self) -> int | None:
        return self._engine.max_batch_size

    @max_batch_size.setter
    def max_batch_size(self, size: int | None) -> None:
        self._engine.max_batch_size = size

    @property
    def model_info(self) -> Any:
        """What was found about the model; None where it came with from_model_template."""
        return self._engine.info

    @property
    def model_meta(self) -> Any:
        return self._engine.info.spec if self._engine.info is not None else None

    @property
    def model_dir(self) -> str:
        return str(self._engine.info.path if self._engine.info is not None else self._engine.model.name_or_path)

    @property
    def model_name(self) -> str:
        """The name that responses carry."""
        return self._engine.info.name if self._engine.info is not None else self.model_dir.rstrip("/").rpartition("/")[2]

    # what people call

    def infer(
        self,
        infer_requests: Sequence[InferRequest | dict[str, Any]],
        request_config: RequestConfig | None = None,
        metrics: Sequence[Any] | None = None,
        *,
        template: Any = None,
        use_tqdm: bool | None = None,
        adapter_request: AdapterRequest | None = None,
    ) -> list[Any]:
        """Responses in the requests' order; with `stream`, an iterator of chunks for each. Requests are left as they are."""
        config = request_config or RequestConfig()
        samples, sampling = [to_sample(request) for request in infer_requests], config.sampling(self.tokenizer)
        asked = {"adapter": self._adapter(adapter_request), "template": template}
        if config.stream:
            chunks, refused = self._engine.attempt_stream(samples, sampling, **asked)
            self._raise_if_strict(refused.values())
            shared = _SharedStream(chunks, len(samples), sampling.n)
            return [refused.get(number) or self._streamed(shared.of(number), metrics or ()) for number in range(len(samples))]
        if use_tqdm is None:
            use_tqdm = len(samples) > 1
        with tqdm(total=len(samples) * sampling.n, disable=not use_tqdm, dynamic_ncols=True) as bar:
            ask = self._engine.generate if self.strict else self._engine.attempt
            answers: list[Any] = ask(samples, sampling, on_end=bar.update, **asked)  # type: ignore[assignment]
        outputs = [answer if isinstance(answer, Exception) else response(self.model_name, answer) for answer in answers]
        for metric in metrics or ():
            for output in outputs:
                if isinstance(output, ChatCompletionResponse):
                    metric.update(output)
        return outputs

    async def infer_async(
        self,
        infer_request: InferRequest | dict[str, Any],
        request_config: RequestConfig | None = None,
        *,
        template: Any = None,
        adapter_request: AdapterRequest | None = None,
        pre_infer_hook: Any = None,
    ) -> ChatCompletionResponse | AsyncIterator[ChatCompletionStreamResponse]:
        """One response, or an async iterator of chunks. Requests that wait at the same time are answered together."""
        if pre_infer_hook is not None:
            raise UsageError(f"infer_async: pre_infer_hook {NOT_BUILT}")
        config = request_config or RequestConfig()
        sample, sampling, adapter = to_sample(infer_request), config.sampling(self.tokenizer), self._adapter(adapter_request)
        if config.stream:
            chunks = self._engine.stream([sample], sampling, adapter=adapter, template=template)
            return _in_thread(stream_responses(self.model_name, (chunk for _, chunk in chunks)))
        waiting = _Waiting(sample, sampling, adapter, template, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve())
        return response(self.model_name, await waiting.answer)

    # below

    def _adapter(self, request: AdapterRequest | None) -> AdapterRequest | None:
        return None if request is None else replace(request, path=str(download(request.path, "model", self._hub)))

    def _raise_if_strict(self, outputs: Any) -> None:
        for output in outputs:
            if self.strict and isinstance(output, Exception):
                raise output

    def _streamed(self, chunks: Iterator[Chunk], metrics: Sequence[Any]) -> Iterator[ChatCompletionStreamResponse | None]:
        last = None
        for item in stream_responses(self.model_name, chunks):
            last = item
            yield item
        for metric in metrics:
            if last is not None:
                metric.update(last)

    async def _serve(self) -> None:
        """Answer what waits, all with the same adapter and template at once, until nothing does."""
        await asyncio.sleep(0)  # whoever asks in the same breath comes along
        while self._waiting:
            first = self._waiting[0]
            group = [one for one in self._waiting if one.adapter == first.adapter and one.template is first.template]
            self._waiting = [one for one in self._waiting if one not in group]
            samples, samplings = [one.sample for one in group], [one.sampling for one in group]
            try:
                answers: list[Any] = await asyncio.to_thread(
                    self._engine.attempt, samples, samplings, adapter=first.adapter, template=first.template
                )
            except Exception as error:  # goes to those who asked: they wait, this task does not
                answers = [error] * len(group)
            for one, answer in zip(group, answers, strict=True):
                if one.answer.done():  # cancelled
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)


TransformersEngine = PtEngine


@dataclass(eq=False)
class _Waiting:
    sample: Sample
    sampling: Sampling
    adapter: AdapterRequest | None
    template: Any
    answer: asyncio.Future[list[Completion]]


class _SharedStream:
    """One stream of all rows, read through an iterator for each row: whoever needs a chunk moves all rows on."""

    def __init__(self, chunks: Iterator[tuple[int, Chunk]], rows: int, n: int):
        self._chunks, self._open = chunks, [n] * rows  # answers that have not ended
        self._kept: list[deque[Chunk]] = [deque() for _ in range(rows)]

    def of(self, row: int) -> Iterator[Chunk]:
        while self._open[row] or self._kept[row]:
            while not self._kept[row]:
                number, chunk = next(self._chunks)
                self._kept[number].append(chunk)
                self._open[number] -= chunk.finish_reason is not None
            yield self._kept[row].popleft()


async def _in_thread(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Each item is made in a thread, so that the event loop goes on."""
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield item

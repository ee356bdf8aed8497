"""InferClient: asks a server that speaks OpenAI's chat protocol, with the requests and responses that the engines in this process have."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import mimetypes
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import HTTPError
from tqdm import tqdm

from swift.args.paths import is_file
from swift.engines.protocol import (
    MEDIA,
    ChatCompletionMessageToolCall,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    ChatMessage,
    DeltaMessage,
    Function,
    InferRequest,
    RequestConfig,
    UsageInfo,
    from_row,
)
from swift.hub import timeout_seconds

T = TypeVar("T")
Answer = ChatCompletionResponse | ChatCompletionStreamResponse
CONNECT_SECONDS = 30.0
AT_ONCE = 128  # requests that are open at the same time


@dataclass(frozen=True)
class ServedModel:
    id: str
    created: int = 0
    owned_by: str = ""
    object: str = "model"


@dataclass(frozen=True)
class ModelList:
    data: list[ServedModel]
    object: str = "list"


class InferClient:
    """`base_url` (http://host:port/v1) goes before `host` and `port`. `timeout`: seconds for one answer; None: TIMEOUT, else no limit."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        api_key: str = "EMPTY",
        *,
        base_url: str | None = None,
        timeout: float | None = None,
        at_once: int = AT_ONCE,
    ):
        self.base_url = (base_url or f"http://{f'[{host}]' if ':' in host else host}:{port}/v1").rstrip("/")
        self.at_once = at_once
        seconds = timeout_seconds() if timeout is None else timeout
        self._settings: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {api_key}"},
            "timeout": httpx.Timeout(seconds if seconds and seconds > 0 else None, connect=CONNECT_SECONDS),
            "limits": httpx.Limits(max_connections=None),
        }
        self._models: list[str] | None = None

    @property
    def models(self) -> list[str]:
        """The ids that the server answers to; asked once."""
        if self._models is None:
            self._models = [model.id for model in self.get_model_list().data]
        return self._models

    def get_model_list(self) -> ModelList:
        try:
            with httpx.Client(**self._settings) as client:
                found = client.get(f"{self.base_url}/models")
        except httpx.TransportError as wrong:
            _unreachable(self.base_url, wrong)
        models = _read(found)["data"]
        known = {one.name for one in fields(ServedModel)}
        return ModelList([ServedModel(**{name: value for name, value in model.items() if name in known}) for model in models])

    def infer(
        self,
        infer_requests: Sequence[InferRequest | dict[str, Any]],
        request_config: RequestConfig | None = None,
        metrics: Sequence[Any] | None = None,
        *,
        model: str | None = None,
        use_tqdm: bool | None = None,
    ) -> list[Any]:
        """Responses in the requests' order; with `stream`, an iterator of chunks for each. At most `at_once` are open at a time.

        Raises requests' HTTPError with what the server says is wrong.
        """
        config = request_config or RequestConfig()
        model = self._model(model)
        bodies = [self._body(request, config, model) for request in infer_requests]
        if config.stream:
            return _Streams(self._chunks, bodies, self.at_once, self._settings).iterators(metrics or ())
        bar = tqdm(total=len(bodies), disable=not (len(bodies) > 1 if use_tqdm is None else use_tqdm), dynamic_ncols=True)

        async def ask_all() -> list[ChatCompletionResponse]:
            room = asyncio.Semaphore(self.at_once)

            async def ask(body: dict[str, Any]) -> ChatCompletionResponse:
                async with room:
                    answer = await self._ask(client, body)
                bar.update()
                return answer

            async with httpx.AsyncClient(**self._settings) as client, asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(body)) for body in bodies]
            return [task.result() for task in tasks]

        with bar:
            answers = _run(ask_all())
        for metric in metrics or ():
            for answer in answers:
                metric.update(answer)
        return answers

    async def infer_async(
        self, infer_request: InferRequest | dict[str, Any], request_config: RequestConfig | None = None, *, model: str | None = None
    ) -> ChatCompletionResponse | AsyncIterator[ChatCompletionStreamResponse]:
        """One response, or an async iterator of chunks."""
        config = request_config or RequestConfig()
        model = model if model is not None else await asyncio.to_thread(self._model, None)
        body = self._body(infer_request, config, model)
        if config.stream:
            return self._own_chunks(body)
        async with httpx.AsyncClient(**self._settings) as client:
            return await self._ask(client, body)

    # below

    def _model(self, model: str | None) -> str:
        if model is not None:
            return model
        if len(self.models) != 1:
            raise ValueError(f"the server has {len(self.models)} models: name one of {self.models} (model=…)")
        return self.models[0]

    def _body(self, request: InferRequest | dict[str, Any], config: RequestConfig, model: str) -> dict[str, Any]:
        """What differs from its default, as the server reads it."""
        request = from_row(request) if isinstance(request, dict) else request
        asked = {one.name: getattr(request, one.name) for one in fields(request)}
        messages = [{**message, "content": _content(message.get("content"))} for message in request.messages]
        media = {name: [as_text(value, name.removesuffix("s")) for value in asked[name]] for name in MEDIA}
        how = {one.name: value for one in fields(config) if (value := getattr(config, one.name)) != _default(one)}
        known = {name: value for name, value in {**asked, **media}.items() if value and name != "messages"}
        return {"model": model, "messages": messages, **known, **how}

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> ChatCompletionResponse:
        try:
            found = await client.post(f"{self.base_url}/chat/completions", json=body)
        except httpx.TransportError as wrong:
            _unreachable(self.base_url, wrong)
        return _response(_read(found))

    async def _own_chunks(self, body: dict[str, Any]) -> AsyncIterator[ChatCompletionStreamResponse]:
        async with httpx.AsyncClient(**self._settings) as client:
            async for chunk in self._chunks(client, body):
                yield chunk

    async def _chunks(self, client: httpx.AsyncClient, body: dict[str, Any]) -> AsyncIterator[ChatCompletionStreamResponse]:
        try:
            async with client.stream("POST", f"{self.base_url}/chat/completions", json=body) as found:
                if not found.is_success:
                    await found.aread()
                    _read(found)
                usage = UsageInfo(0, 0, 0)
                async for line in found.aiter_lines():
                    content = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or content == "[DONE]":
                        continue
                    chunk = _stream_response(_checked(json.loads(content), found.status_code), usage)
                    usage = chunk.usage
                    if chunk.choices:
                        yield chunk
        except httpx.TransportError as wrong:
            _unreachable(self.base_url, wrong)


_END = object()


class _Streams:
    """Many streams at once, read through iterators: one thread with an event loop fills a queue for each."""

    def __init__(self, chunks: Callable[..., AsyncIterator[Any]], bodies: list[dict[str, Any]], at_once: int, settings: dict[str, Any]):
        self.chunks, self.bodies, self.at_once, self.settings = chunks, bodies, at_once, settings
        self.queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in bodies]
        self.tasks: list[asyncio.Task[None]] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._fill()), name="swift client", daemon=True).start()
        self.started.wait()

    async def _fill(self) -> None:
        self.loop, room = asyncio.get_running_loop(), asyncio.Semaphore(self.at_once)
        async with httpx.AsyncClient(**self.settings) as client:
            self.tasks = [asyncio.create_task(self._one(client, room, number)) for number in range(len(self.bodies))]
            self.started.set()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _one(self, client: httpx.AsyncClient, room: asyncio.Semaphore, number: int) -> None:
        try:
            async with room:
                async for chunk in self.chunks(client, self.bodies[number]):
                    self.queues[number].put(chunk)
            self.queues[number].put(_END)
        except Exception as failure:
            self.queues[number].put(failure)

    def iterators(self, metrics: Sequence[Any]) -> list[Iterator[ChatCompletionStreamResponse]]:
        return [self._iterate(number, metrics) for number in range(len(self.bodies))]

    def _iterate(self, number: int, metrics: Sequence[Any]) -> Iterator[ChatCompletionStreamResponse]:
        last = None
        try:
            while (chunk := self.queues[number].get()) is not _END:
                if isinstance(chunk, Exception):
                    raise chunk
                last = chunk
                yield chunk
        finally:  # whoever stops reading leaves the server
            if self.loop is not None and not self.tasks[number].done() and not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self.tasks[number].cancel)
        for metric in metrics:
            if last is not None:
                metric.update(last)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Whether an event loop runs in this thread (a notebook) or not. Of a group's failures the first is raised as itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        start: Callable[[], T] = lambda: asyncio.run(work)  # noqa: E731
    else:
        start = lambda: ThreadPoolExecutor(1).submit(asyncio.run, work).result()  # noqa: E731
    try:
        return start()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _default(one: Any) -> Any:
    return one.default_factory() if one.default is MISSING else one.default


def _unreachable(url: str, wrong: Exception) -> NoReturn:
    raise NoConnection(f"no answer from {url}: {str(wrong) or type(wrong).__name__}") from wrong


def _read(found: httpx.Response) -> dict[str, Any]:
    """The JSON of a response. HTTPError where it says an error, or is none."""
    try:
        content = found.json()
    except ValueError:
        raise HTTPError(f"{found.status_code} {found.reason_phrase}: {found.text[:500]}") from None
    return _checked(content, found.status_code)


def _checked(content: Any, status: int) -> dict[str, Any]:
    if status < 400 and isinstance(content, dict) and "error" not in content and content.get("object") != "error":
        return content
    error = content.get("error", content) if isinstance(content, dict) else content
    raise HTTPError(str(error["message"] if isinstance(error, dict) and "message" in error else content))


def _response(content: dict[str, Any]) -> ChatCompletionResponse:
    choices = []
    for choice in content["choices"]:
        message = choice["message"]
        made = ChatMessage(message.get("role", "assistant"), message.get("content"), _calls(message.get("tool_calls")))
        choices.append(ChatCompletionResponseChoice(choice["index"], made, choice["finish_reason"], choice.get("logprobs")))
    usage = _usage(content.get("usage"))
    return ChatCompletionResponse(content["model"], choices, usage, content["id"], created=content["created"])


def _stream_response(content: dict[str, Any], before: UsageInfo) -> ChatCompletionStreamResponse:
    choices = []
    for choice in content["choices"]:
        delta = choice["delta"]
        made = DeltaMessage(delta.get("role") or "assistant", delta.get("content") or "", _calls(delta.get("tool_calls")))
        choices.append(ChatCompletionResponseStreamChoice(choice["index"], made, choice["finish_reason"], choice.get("logprobs")))
    usage = _usage(content["usage"]) if content.get("usage") else before
    return ChatCompletionStreamResponse(content["model"], choices, usage, content["id"], created=content["created"])


def _calls(calls: list[dict[str, Any]] | None) -> list[ChatCompletionMessageToolCall] | None:
    return [
        ChatCompletionMessageToolCall(
            Function(call["function"].get("name") or "", call["function"].get("arguments") or ""), id=call.get("id") or ""
        )
        for call in calls or []
    ] or None


def _usage(usage: dict[str, int] | None) -> UsageInfo:
    usage = usage or {}
    return UsageInfo(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), usage.get("total_tokens", 0))


# pictures, sounds and films that lie on this machine


def _content(content: Any) -> Any:
    """A message's content with its media as text."""
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        kind = part.get("type", "") if isinstance(part, dict) else ""
        value = part.get(kind) if kind.removesuffix("_url") in ("image", "audio", "video") else None
        if isinstance(value, dict) and "url" in value:
            part = {**part, kind: {**value, "url": as_text(value["url"], kind.removesuffix("_url"))}}
        elif value is not None:
            part = {**part, kind: as_text(value, kind.removesuffix("_url"))}
        parts.append(part)
    return parts


def as_text(value: Any, kind: str) -> Any:
    """A local file, a PIL picture or {"bytes", "path"} as a data URI; URLs and what is text already stay."""
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        if value.get("bytes") is None:
            return as_text(value.get("path"), kind)
        return _data_uri(value["bytes"], mimetypes.guess_type(value.get("path") or "")[0] or _usual(kind))
    if isinstance(value, str):
        if not value.startswith(("data:", "http://", "https://")) and is_file(value):
            path = Path(value).expanduser()
            return _data_uri(path.read_bytes(), mimetypes.guess_type(path.name)[0] or _usual(kind))
        return value
    pictures: Any = sys.modules.get("PIL.Image")  # where nobody imported it there is no picture of its kind
    if pictures is not None and isinstance(value, pictures.Image):
        picture: Any = value
        written = io.BytesIO()
        picture.save(written, format="PNG")
        return _data_uri(written.getvalue(), "image/png")
    return value


def _usual(kind: str) -> str:
    return {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}[kind]


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

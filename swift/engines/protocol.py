"""Requests and responses in the shapes of OpenAI's chat API: what people's scripts build and read, and what goes over the wire as JSON."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from swift.data.sample import ROLES, Message, Sample
from swift.engines.engine import Chunk, Completion, Sampling, logprobs_json
from swift.errors import DataError, UsageError
from swift.template.tool_calls import Call

MEDIA = ("images", "audios", "videos")


@dataclass
class InferRequest:
    """One conversation to be answered. `infer` leaves it as it is, so it can be continued: `request.messages += [answer, question]`."""

    messages: list[dict[str, Any]]
    images: list[Any] = field(default_factory=list)
    audios: list[Any] = field(default_factory=list)
    videos: list[Any] = field(default_factory=list)
    tools: list[dict[str, Any]] | str | None = None
    objects: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in MEDIA:
            media = getattr(self, name)
            setattr(self, name, [media] if isinstance(media, str) else list(media or []))
        self.objects = self.objects or {}
        if not isinstance(self.messages, list):
            raise UsageError(f"messages must be a list of {{'role', 'content'}}, not {type(self.messages).__name__}")


def to_sample(request: InferRequest | dict[str, Any] | Sample) -> Sample:
    """The sample that a request asks, as a copy. Media are refused: models that see or hear cannot be run yet."""
    if isinstance(request, Sample):
        return request
    if isinstance(request, dict):
        request = from_row(request)
    given = [name for name in MEDIA if getattr(request, name)]
    if given:
        raise UsageError(f"{', '.join(given)}: multimodal models are part of SWIFT but not built yet; requests hold text only")
    messages = [_message(number, message) for number, message in enumerate(request.messages, 1)]
    return Sample(messages, tools=_tools(request.tools), extra={"objects": request.objects} if request.objects else {})


def from_row(row: dict[str, Any]) -> InferRequest:
    """A row of a data set; columns that a request has no place for must be named by mistake."""
    known = {one.name for one in fields(InferRequest)}
    unknown = sorted(row.keys() - known)
    if unknown or "messages" not in row:
        what = f"unknown key {unknown[0]!r}" if unknown else "no 'messages'"
        raise UsageError(f"a request has {what}; it may hold {', '.join(one.name for one in fields(InferRequest))}")
    return InferRequest(**row)


def _message(number: int, message: dict[str, Any]) -> Message:
    role = message.get("role")
    if role not in ROLES:
        raise DataError(f"message {number} has role {role!r}; expected {', '.join(ROLES)}")
    tool_calls = message.get("tool_calls")
    content = message.get("content")
    if content is None and not tool_calls:
        raise DataError(f"message {number} ({role}) has no content")
    return Message(role, _text(number, content), [dict(call) for call in tool_calls] if tool_calls else None)


def _text(number: int, content: Any) -> str:
    """A message's text: a string, or a list of parts of type text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise DataError(f"message {number} has content of type {type(content).__name__}; expected text or a list of parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise UsageError(
                f"message {number} has a part of type {kind!r}: multimodal models are part of SWIFT but not built yet; parts hold text only"
            )
    return "".join(part.get("text") or "" for part in content)


def _tools(tools: list[dict[str, Any]] | str | None) -> list[dict[str, Any]] | None:
    """A list of tool descriptions, wrapped in {"type": "function"} or bare, or its JSON text."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            raise DataError(f"tools is no JSON: {error}") from error
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError("tools must be a list of tool descriptions")
    return [dict(tool) for tool in tools]


@dataclass
class RequestConfig:
    """How to answer; None means the model's generation_config.json, for max_tokens up to the model's length."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    num_beams: int = 1
    stop: list[str] | None = field(default_factory=list)
    seed: int | None = None
    stream: bool = False
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1
    best_of: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    length_penalty: float = 1.0
    min_p: float | None = None
    logit_bias: dict[str, float] | None = None  # token id, as OpenAI's JSON has it a string, to what is added to its logit

    def __post_init__(self) -> None:
        self.stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    def sampling(self, tokenizer: Any = None) -> Sampling:
        """As the pt engine takes it. Refuses what only other engines can do."""
        if self.best_of is not None:
            raise UsageError("best_of works with the vllm engine only, which is part of SWIFT but not built yet; leave it out")
        return Sampling(
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            stop=tuple(stop if isinstance(stop, str) else tokenizer.decode(stop) for stop in self.stop or []),
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            n=self.n,
            seed=self.seed,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((int(token), float(bias)) for token, bias in (self.logit_bias or {}).items()),
        )


@dataclass
class Function:
    name: str
    arguments: str


@dataclass
class ChatCompletionMessageToolCall:
    function: Function
    type: str = "function"
    id: str = field(default_factory=lambda: f"toolcall-{uuid.uuid4().hex}")


@dataclass
class ChatMessage:
    role: str
    content: str
    tool_calls: list[ChatCompletionMessageToolCall] | None = None


@dataclass
class DeltaMessage(ChatMessage):
    """What is new of a message."""


@dataclass
class ChatCompletionResponseChoice:
    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: dict[str, Any] | None = None


@dataclass
class ChatCompletionResponseStreamChoice:
    index: int
    delta: DeltaMessage
    finish_reason: str | None
    logprobs: dict[str, Any] | None = None


@dataclass
class UsageInfo:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Json:
    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, keys in the order of the wire."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@dataclass
class ChatCompletionResponse(_Json):
    model: str
    choices: list[ChatCompletionResponseChoice]
    usage: UsageInfo
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    object: str = "chat.completion"
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass
class ChatCompletionStreamResponse(_Json):
    model: str
    choices: list[ChatCompletionResponseStreamChoice]
    usage: UsageInfo
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    object: str = "chat.completion.chunk"
    created: int = field(default_factory=lambda: int(time.time()))


def response(model: str, answers: list[Completion]) -> ChatCompletionResponse:
    """The n answers to one request as one response; their tokens are summed."""
    choices = [
        ChatCompletionResponseChoice(
            index, ChatMessage("assistant", answer.text, _calls(answer.calls)), answer.finish_reason, logprobs_json(answer.logprobs)
        )
        for index, answer in enumerate(answers)
    ]
    return ChatCompletionResponse(model, choices, _usage(answers[0].prompt_tokens, sum(len(answer.token_ids) for answer in answers)))


def _calls(calls: tuple[Call, ...]) -> list[ChatCompletionMessageToolCall] | None:
    return [ChatCompletionMessageToolCall(Function(call.name, call.arguments)) for call in calls] or None


def stream_responses(model: str, chunks: Iterator[Chunk | None]) -> Iterator[ChatCompletionStreamResponse | None]:
    """The chunks of one request: one id and one time for all of them, usage so far in each. None passes: nothing new this step."""
    identity, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    counts: dict[int, int] = {}
    for chunk in chunks:
        if chunk is None:
            yield None
            continue
        counts[chunk.index] = chunk.completion_tokens
        delta = DeltaMessage("assistant", chunk.text, _calls(chunk.calls))
        choice = ChatCompletionResponseStreamChoice(chunk.index, delta, chunk.finish_reason, logprobs_json(chunk.logprobs))
        yield ChatCompletionStreamResponse(model, [choice], _usage(chunk.prompt_tokens, sum(counts.values())), identity, created=created)


def _usage(prompt: int, completion: int) -> UsageInfo:
    return UsageInfo(prompt, completion, prompt + completion)

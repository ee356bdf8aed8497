"""What clients are sent: chunks of answers as whole responses or as streams, in the shapes of OpenAI's chat and completions APIs."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from swift.engines.engine import Chunk, ClassLogprobs, TokenLogprob, logprobs_json
from swift.serve.bodies import ChatBody, CompletionBody, Generation
from swift.serve.running import Running
from swift.template.call_stream import CallStream
from swift.template.tool_calls import Call, CallStyle

Json = dict[str, Any]
Logprobs = Sequence[TokenLogprob | ClassLogprobs]


@dataclass
class Answer:
    """One choice, as far as it has come."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob | ClassLogprobs] | None = None
    finish_reason: str | None = None
    calls: tuple[Call, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def take(self, chunk: Chunk) -> None:
        self.text += chunk.text
        self.token_ids += chunk.token_ids
        if chunk.logprobs is not None:
            self.logprobs = [*(self.logprobs or []), *chunk.logprobs]
        self.finish_reason, self.calls = chunk.finish_reason, chunk.calls
        self.prompt_tokens, self.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens


class Reply:
    """The responses to one request; Chat and Text say how a choice is written. `answers` fill while it is sent."""

    whole_object = chunk_object = ""
    prefix = ""

    def __init__(self, body: Generation, running: Running):
        self.body, self.running = body, running
        self.answers = [Answer() for _ in range(running.choices)]
        self.id, self.created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())

    async def whole(self) -> Json:
        async for number, chunk in self.running.chunks():
            self.answers[number].take(chunk)
        choices = [self.choice(number, answer) for number, answer in enumerate(self.answers)]
        return self._response(self.whole_object, choices) | {"usage": self.usage()}

    async def stream(self) -> AsyncIterator[Json]:
        """With `stream_options` usage comes as OpenAI sends it, in a last chunk without choices; otherwise each chunk says it as of then."""
        options = self.body.stream_options
        each = options is None or bool(options.include_usage and options.continuous_usage_stats)
        last = options is not None and bool(options.include_usage)
        for choice in self.openings():
            yield self._chunk([choice], each, last)
        async for number, chunk in self.running.chunks():
            self.answers[number].take(chunk)
            for choice in self.deltas(number, chunk):
                yield self._chunk([choice], each, last)
        if last:
            yield self._response(self.chunk_object, []) | {"usage": self.usage()}

    def usage(self) -> dict[str, int]:
        n = self.running.questions[0].sampling.n
        counted = [answer.prompt_tokens for answer in self.answers[::n]]
        prompt = sum(max(known, len(ids)) for known, ids in zip(counted, self.running.prompts, strict=True))
        completion = sum(answer.completion_tokens for answer in self.answers)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chunk(self, choices: list[Json], each: bool, last: bool) -> Json:
        usage = {"usage": self.usage() if each else None} if each or last else {}
        return self._response(self.chunk_object, choices) | usage

    def _response(self, kind: str, choices: list[Json]) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model, "choices": choices}

    # how a choice is written

    def choice(self, number: int, answer: Answer) -> Json:
        raise NotImplementedError

    def openings(self) -> Iterator[Json]:
        """What streams begin with, before the first token."""
        raise NotImplementedError

    def deltas(self, number: int, chunk: Chunk) -> Iterator[Json]:
        raise NotImplementedError

    def _ids(self, number: int, token_ids: list[int], *, prompt: bool) -> Json:
        if not self.body.return_token_ids:
            return {}
        n = self.running.questions[0].sampling.n
        return {"token_ids": token_ids} | ({"prompt_token_ids": self.running.prompts[number // n]} if prompt else {})


class Chat(Reply):
    """`style`: how the model writes tool calls; None where it was given no tools."""

    whole_object, chunk_object, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, body: ChatBody, running: Running, style: CallStyle | None):
        super().__init__(body, running)
        self.style, self.one_call = style, body.parallel_tool_calls is False
        self.streams = [CallStream(style) if style is not None else None for _ in self.answers]
        self.told = [0] * len(self.answers)  # calls that were sent, by choice
        self.held: list[Chunk | None] = [None] * len(self.answers)  # tokens whose text has not been sent

    def choice(self, number: int, answer: Answer) -> Json:
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.calls and self.style is not None:
            calls = answer.calls[:1] if self.one_call else answer.calls
            message |= {"content": self.style.parse(answer.text)[0] or None, "tool_calls": [call_json(call) for call in calls]}
        logprobs = chat_logprobs(answer.logprobs)
        choice = {"index": number, "message": message, "finish_reason": answer.finish_reason, "logprobs": logprobs}
        return choice | self._ids(number, answer.token_ids, prompt=True)

    def openings(self) -> Iterator[Json]:
        """The role comes once: OpenAI's own client joins the texts of all deltas, the role's too."""
        for number in range(len(self.answers)):
            choice = {"index": number, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
            yield choice | self._ids(number, [], prompt=True)

    def deltas(self, number: int, chunk: Chunk) -> Iterator[Json]:
        stream, ended = self.streams[number], chunk.finish_reason is not None
        said, calls = (chunk.text, []) if stream is None else stream.push(chunk.text)
        if ended and stream is not None:
            rest, more = stream.finish(chunk.calls)
            said, calls = said + rest, calls + more
        carried = _joined(self.held[number], chunk)
        self.held[number] = None
        delta: Json = {"content": said} if said else {}
        if shown := self._shown(number, calls):
            delta["tool_calls"] = shown
        if not (delta or ended):
            self.held[number] = carried  # the text of a call that is not whole yet
            return
        logprobs = chat_logprobs(carried.logprobs)
        choice = {"index": number, "delta": delta, "finish_reason": chunk.finish_reason, "logprobs": logprobs}
        yield choice | self._ids(number, carried.token_ids, prompt=False)

    def _shown(self, number: int, calls: list[Call]) -> list[Json]:
        first = self.told[number]
        if self.one_call:
            calls = calls[: max(0, 1 - first)]
        self.told[number] += len(calls)
        return [{"index": first + place} | call_json(call) for place, call in enumerate(calls)]


class Text(Reply):
    """`prompts`: the texts that are repeated before the answers where `echo` asks for it."""

    whole_object = chunk_object = "text_completion"
    prefix = "cmpl"

    def __init__(self, body: CompletionBody, running: Running, prompts: Sequence[str]):
        super().__init__(body, running)
        self.before = [prompt if body.echo else "" for prompt in prompts for _ in range(running.questions[0].sampling.n)]
        self.length = [len(before) for before in self.before]  # characters that were sent, by choice

    def choice(self, number: int, answer: Answer) -> Json:
        before = self.before[number]
        logprobs = text_logprobs(answer.logprobs, len(before))
        choice = {"index": number, "text": before + answer.text, "finish_reason": answer.finish_reason, "logprobs": logprobs}
        return choice | self._ids(number, answer.token_ids, prompt=True)

    def openings(self) -> Iterator[Json]:
        for number, before in enumerate(self.before):
            if before or self.body.return_token_ids:
                yield {"index": number, "text": before, "finish_reason": None, "logprobs": None} | self._ids(number, [], prompt=True)

    def deltas(self, number: int, chunk: Chunk) -> Iterator[Json]:
        logprobs = text_logprobs(chunk.logprobs, self.length[number])
        self.length[number] += len(chunk.text)
        choice = {"index": number, "text": chunk.text, "finish_reason": chunk.finish_reason, "logprobs": logprobs}
        yield choice | self._ids(number, chunk.token_ids, prompt=False)


def call_json(call: Call) -> Json:
    return {"id": f"toolcall-{uuid.uuid4().hex}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def chat_logprobs(logprobs: Logprobs | None) -> Json | None:
    """As OpenAI has it: every token with `top_logprobs`, if only none. A classifier's is one entry and no list."""
    shown = logprobs_json(logprobs)
    if shown is None:
        return None
    if isinstance(shown["content"], list):
        shown["content"] = [{**entry, "top_logprobs": entry.get("top_logprobs", [])} for entry in shown["content"]]
    return shown | {"refusal": None}


def text_logprobs(logprobs: Logprobs | None, offset: int) -> Json | None:
    """As the older API has it, columns instead of rows; `offset` characters stand before the first token."""
    tokens = [one for one in logprobs or [] if isinstance(one, TokenLogprob)]
    if logprobs is None:
        return None
    offsets = []
    for one in tokens:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [dict(one.top or ()) | {one.token: one.logprob} for one in tokens],
        "text_offset": offsets,
    }


def _joined(held: Chunk | None, chunk: Chunk) -> Chunk:
    if held is None:
        return chunk
    logprobs = None if chunk.logprobs is None else [*(held.logprobs or ()), *chunk.logprobs]
    return Chunk("", chunk.index, held.token_ids + chunk.token_ids, logprobs)

"""One answer in the making: what was asked, what has been generated, and whether it has ended."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from swift.engines.engine import Chunk, Completion, FinishReason, Sampling, TokenLogprob
from swift.engines.pt.sampling import Choice
from swift.engines.stop import AnswerText
from swift.template.tool_calls import Call


@dataclass(eq=False)
class Request:
    sample: int  # the sample's number in the call
    index: int  # which of the sample's n answers
    prompt: list[int]
    asked: Sampling
    choice: Choice
    limit: int  # tokens at most
    stop_ids: Set[int]
    text: AnswerText
    watch: bool  # follow the text token by token: for stop texts, and for a stream
    randomness: random.Random
    logprobs: list[TokenLogprob] | None  # one per generated token; None: not asked
    top_logprobs: int | None = None  # how many alternatives are listed beside each; None: no list
    read_calls: Callable[[str], list[Call]] | None = None  # where the sample has tools
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    told: int = 0  # tokens that chunks have carried
    _answer: list[int] = field(default_factory=list)  # without the stop token

    def take(self, token_id: int) -> None:
        """Append a generated token and see whether the answer ends with it."""
        self.token_ids.append(token_id)
        if token_id in self.stop_ids:
            self.finish_reason = "stop"
            return
        self._answer.append(token_id)
        if self.watch and self.text.push(token_id):
            self.finish_reason = "stop"
        elif len(self.token_ids) >= self.limit:
            self.finish_reason = "length"

    def whole_text(self) -> str:
        if self.watch:
            return self.text.finish(cut=self.finish_reason == "length")
        return self.text.of(self._answer, cut=self.finish_reason == "length")

    def completion(self) -> Completion:
        assert self.finish_reason is not None
        text = self.whole_text()
        calls, reason = self._called(text)
        return Completion(text, self.token_ids, reason or self.finish_reason, self.logprobs, len(self.prompt), calls)

    def _called(self, text: str) -> tuple[tuple[Call, ...], FinishReason | None]:
        """The calls, and why the answer ended, given its whole text."""
        calls = tuple(self.read_calls(text)) if self.read_calls is not None else ()
        return calls, "tool_calls" if calls and self.finish_reason == "stop" else self.finish_reason

    def chunk(self) -> Chunk | None:
        """What can be shown since the last chunk; None where nothing can."""
        text, calls, reason = self.text.release(), (), self.finish_reason
        if self.finish_reason is not None:
            whole = self.whole_text()
            text += self.text.rest(whole)
            calls, reason = self._called(whole)
        elif not text:
            return None
        fresh = slice(self.told, len(self.token_ids))
        self.told = len(self.token_ids)
        logprobs = None if self.logprobs is None else self.logprobs[fresh]
        return Chunk(text, self.index, self.token_ids[fresh], logprobs, reason, len(self.prompt), self.told, calls)

"""What every engine takes and gives: Sampling in; Completions, or Chunks as they come, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from swift.data.sample import Sample
from swift.errors import SwiftError, UsageError
from swift.template.tool_calls import Call

if TYPE_CHECKING:
    from swift.engines.pt.adapters import AdapterRequest

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. None means: what the model's generation_config.json says; for max_new_tokens, up to the model's length."""

    max_new_tokens: int | None = None
    temperature: float | None = None  # 0: always the likeliest token
    top_k: int | None = None  # 0 or -1: off
    top_p: float | None = None
    repetition_penalty: float | None = None
    num_beams: int = 1
    length_penalty: float = 1.0  # with num_beams only
    stop: tuple[str, ...] = ()  # texts that end an answer and stay in it
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1  # answers to each sample
    seed: int | None = None  # the same seed gives the same answer, whatever runs beside it
    min_p: float | None = None  # a share of the likeliest token's probability that others must have
    presence_penalty: float = 0.0  # taken from the logit of each token that the answer has
    frequency_penalty: float = 0.0  # the same for each time that it stands there
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, what is added to its logit)

    def __post_init__(self) -> None:
        _demand(self.max_new_tokens is None or self.max_new_tokens >= 1, f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        _demand(self.temperature is None or self.temperature >= 0, f"temperature must not be negative: {self.temperature}")
        _demand(self.top_k is None or self.top_k >= -1, f"top_k must be a count, or 0 for all tokens, not {self.top_k}")
        _demand(self.top_p is None or 0 < self.top_p <= 1, f"top_p must lie above 0 and be at most 1, not {self.top_p}")
        _demand(
            self.repetition_penalty is None or self.repetition_penalty > 0,
            f"repetition_penalty must be above 0 (1: no penalty), not {self.repetition_penalty}",
        )
        _demand(self.min_p is None or 0 <= self.min_p <= 1, f"min_p must lie between 0 and 1, not {self.min_p}")
        for name in ("presence_penalty", "frequency_penalty"):
            _demand(-2 <= getattr(self, name) <= 2, f"{name} must lie between -2 and 2, not {getattr(self, name)}")
        _demand(all(-100 <= bias <= 100 for _, bias in self.logit_bias), "logit_bias: each bias must lie between -100 and 100")
        counted = self.presence_penalty or self.frequency_penalty or self.logit_bias or self.min_p
        _demand(
            not (counted and self.num_beams > 1), "min_p, logit_bias, presence_penalty and frequency_penalty have no effect with num_beams"
        )
        _demand(self.num_beams >= 1, f"num_beams must be at least 1, not {self.num_beams}")
        _demand(self.n >= 1, f"n must be at least 1, not {self.n}")
        _demand(self.n <= self.num_beams or self.num_beams == 1, f"n ({self.n}) must not exceed num_beams ({self.num_beams})")
        _demand(self.length_penalty == 1.0 or self.num_beams > 1, "length_penalty has an effect with num_beams above 1 only")
        _demand(self.top_logprobs is None or self.top_logprobs >= 0, f"top_logprobs must not be negative: {self.top_logprobs}")
        _demand(self.top_logprobs is None or self.logprobs, "top_logprobs needs logprobs: set logprobs to true")
        _demand(
            not (self.logprobs and self.num_beams > 1), "logprobs are not given with num_beams above 1: a beam's tokens are chosen together"
        )
        _demand(all(self.stop), "a stop text must not be empty")


def _demand(right: bool, complaint: str) -> None:
    if not right:
        raise UsageError(complaint)


class TokenLogprob(NamedTuple):
    """One generated token with the log-probability that the model itself gave it: before temperature, top_k and top_p."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] | None = None  # likeliest first; None where top_logprobs was not asked

    def as_json(self) -> dict[str, Any]:
        entry = _entry(self.token, self.logprob)
        if self.top is not None:
            entry["top_logprobs"] = [_entry(token, logprob) for token, logprob in self.top]
        return entry


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", errors="replace"))}


@dataclass(frozen=True)
class ClassLogprobs:
    """A classifier's: of what it answered (a class, or the set of those that hold), and of every class, likeliest first."""

    answer: int | list[int]
    logprob: float
    classes: tuple[tuple[int, float], ...]

    def as_json(self) -> dict[str, Any]:
        classes = [{"index": number, "logprob": logprob} for number, logprob in self.classes]
        return {"index": self.answer, "logprob": self.logprob, "top_logprobs": classes}


def logprobs_json(logprobs: Sequence[TokenLogprob | ClassLogprobs] | None) -> dict[str, Any] | None:
    """The shape of OpenAI's API and of result files: {"content": [one entry per generated token]}; a classifier's is one entry, no list."""
    if logprobs is None:
        return None
    entries = [one.as_json() for one in logprobs]
    return {"content": entries[0] if len(logprobs) == 1 and isinstance(logprobs[0], ClassLogprobs) else entries}


@dataclass
class Completion:
    """One whole answer. `token_ids` holds every generated token, the stop token too; `text` is without it.

    `calls` are what it asks of tools, where the sample had some; they stand in the text as well.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: Sequence[TokenLogprob | ClassLogprobs] | None
    prompt_tokens: int
    calls: tuple[Call, ...] = ()


@dataclass
class Chunk:
    """What is new of one answer since its previous chunk. The last one carries the finish reason."""

    text: str
    index: int = 0  # which of a sample's n answers
    token_ids: list[int] = field(default_factory=list)
    logprobs: Sequence[TokenLogprob | ClassLogprobs] | None = None
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0  # so far
    calls: tuple[Call, ...] = ()  # with the last chunk, as of Completion


class Engine(Protocol):
    def generate(self, samples: Sequence[Sample], sampling: Sampling | Sequence[Sampling]) -> list[list[Completion]]:
        """Answers in the samples' order, n for each."""
        ...

    def stream(self, samples: Sequence[Sample], sampling: Sampling | Sequence[Sampling]) -> Iterator[tuple[int, Chunk]]:
        """(sample's number, chunk) as the answers grow; the samples of a batch grow together."""
        ...


# what a server needs beyond that (swift/serve): samples that come and go one by one, whatever runs beside them


class QueueFull(SwiftError):
    """As many requests wait as the engine takes; later there will be room. A server answers 429."""


Listener = Callable[["Chunk | Exception"], object]


class Handle(Protocol):
    """One sample that was handed in. It is over when each of its n answers had a chunk with a finish reason, or an exception came."""

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks as they come, waiting for each (only where `submit` was given no listener). Raises what the sample failed with."""
        ...

    def cancel(self) -> None:
        """From any thread, at any time, also once it is over: no chunk follows, and at the next step its place is another's."""
        ...


class Load(NamedTuple):
    running: int  # answers that are in the running batch
    waiting: int  # answers that have no place in it yet


class ServingEngine(Protocol):
    def submit(
        self,
        sample: Sample,
        sampling: Sampling,
        *,
        adapter: AdapterRequest | None = None,
        prompt: list[int] | None = None,
        listen: Listener | None = None,
        whole: bool = False,
    ) -> Handle:
        """Hand a sample in; it joins the running batch when there is room. Safe to call from any thread.

        Raises at once, in the caller's thread: RowSkipped or DataError for a sample that cannot be asked, UsageError for a way of
        sampling that the engine does not know, QueueFull. What fails later (an adapter that cannot be loaded, memory) fails this sample
        alone, as an exception to the listener. `prompt`: token ids to go on from, instead of what the template makes of the sample.
        `listen` is called in the engine's thread with each chunk and must return at once. `whole`: one chunk for each answer, at its end.
        """
        ...

    def load_now(self) -> Load: ...

    def close(self) -> None:
        """Stop the engine's thread; what still runs or waits fails with an exception."""
        ...

"""Single requests to an engine that answers in batches (classifiers): what waits at the same moment is answered together, in a thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from swift.data.sample import Sample
from swift.engines.engine import Chunk, Listener, Load, QueueFull, Sampling

if TYPE_CHECKING:
    from swift.engines.pt.adapters import AdapterRequest

MOST_WAITING = 4096  # beyond that a request is refused: it would wait for longer than anybody does
AT_ONCE = 64  # taken from those that wait; the engine makes its batches of them


class BatchEngine(Protocol):
    def attempt_stream(
        self, samples: Sequence[Sample], sampling: Sequence[Sampling], *, adapter: AdapterRequest | None = None
    ) -> tuple[Iterator[tuple[int, Chunk]], Mapping[int, Exception]]:
        """(sample's number, chunk) as the answers grow; beside them, by number, why samples cannot be asked."""
        ...


@dataclass(eq=False)
class Slip:
    """One sample that was handed in."""

    sample: Sample
    sampling: Sampling
    adapter: AdapterRequest | None
    listen: Listener | None
    dropped: bool = False
    _kept: queue.SimpleQueue[Chunk | Exception] = field(default_factory=queue.SimpleQueue)

    def tell(self, news: Chunk | Exception) -> None:
        if not self.dropped:
            (self.listen or self._kept.put)(news)

    def cancel(self) -> None:
        self.dropped = True

    def __iter__(self) -> Iterator[Chunk]:
        left = self.sampling.n
        while left:
            news = self._kept.get()
            if isinstance(news, Exception):
                raise news
            left -= news.finish_reason is not None
            yield news


class Desk:
    """A ServingEngine over a BatchEngine."""

    def __init__(self, engine: BatchEngine, *, most_waiting: int = MOST_WAITING):
        self.engine, self.most_waiting = engine, most_waiting
        self._waiting: deque[Slip] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="swift desk", daemon=True)
        self._thread.start()

    def submit(
        self,
        sample: Sample,
        sampling: Sampling,
        *,
        adapter: AdapterRequest | None = None,
        prompt: list[int] | None = None,
        listen: Listener | None = None,
        whole: bool = False,
    ) -> Slip:
        """`prompt` and `whole` change nothing: who scores a text reads it with its answer, and says all at once."""
        slip = Slip(sample, sampling, adapter, listen)
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine has been closed")
            if len(self._waiting) >= self.most_waiting:
                raise QueueFull(f"{len(self._waiting)} requests are waiting, which is as many as may")
            self._waiting.append(slip)
            self._changed.notify()
        return slip

    def load_now(self) -> Load:
        return Load(self._running, len(self._waiting))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    left, self._waiting = list(self._waiting), deque()
                    break
                group = self._take()
                self._running = len(group)
            self._answer([slip for slip in group if not slip.dropped])
            self._running = 0
        for slip in left:
            slip.tell(RuntimeError("the engine has been closed"))

    def _take(self) -> list[Slip]:
        """The first of those that wait, and up to AT_ONCE that want the same adapter; the others keep their order."""
        adapter = self._waiting[0].adapter
        group: list[Slip] = []
        others: deque[Slip] = deque()
        while self._waiting and len(group) < AT_ONCE:
            slip = self._waiting.popleft()
            (group if slip.adapter == adapter else others).append(slip)
        self._waiting.extendleft(reversed(others))
        return group

    def _answer(self, group: list[Slip]) -> None:
        if not group:
            return
        left = dict.fromkeys(group)  # those that have not heard how it ended, in order
        try:
            samples, sampling = [slip.sample for slip in group], [slip.sampling for slip in group]
            chunks, refused = self.engine.attempt_stream(samples, sampling, adapter=group[0].adapter)
            for number, refusal in refused.items():
                del left[group[number]]
                group[number].tell(refusal)
            open_answers = [slip.sampling.n for slip in group]
            for number, chunk in chunks:
                open_answers[number] -= chunk.finish_reason is not None
                if not open_answers[number]:
                    del left[group[number]]
                group[number].tell(chunk)
                if all(slip.dropped for slip in left):
                    return
        except Exception as failure:
            for slip in left:
                slip.tell(failure)

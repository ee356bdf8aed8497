"""Single requests to an engine that answers in batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from swift.data.sample import Sample
from swift.engines.engine import Chunk, QueueFull, Sampling
from swift.engines.pt.adapters import AdapterRequest
from swift.errors import DataError
from swift.serve.desk import Desk
from tests.serve.live import wait_for


class Batches:
    """Says each sample's text back, once `gate` is open. A text of 'bad' cannot be asked, one of 'broken' fails in the middle."""

    def __init__(self) -> None:
        self.gate, self.seen = threading.Event(), []

    def attempt_stream(
        self, samples: Sequence[Sample], sampling: Sequence[Sampling], *, adapter: AdapterRequest | None = None
    ) -> tuple[Iterator[tuple[int, Chunk]], Mapping[int, Exception]]:
        texts = [sample.messages[0].content for sample in samples]
        self.seen.append((texts, adapter.name if adapter else None))
        self.gate.wait(20)
        return self._chunks(texts, sampling), {number: DataError("no") for number, text in enumerate(texts) if text == "bad"}

    def _chunks(self, texts: list[str], sampling: Sequence[Sampling]) -> Iterator[tuple[int, Chunk]]:
        for number, text in enumerate(texts):
            if text == "broken":
                raise RuntimeError("broken")
            for index in range(sampling[number].n if text != "bad" else 0):
                yield number, Chunk(text, index, [1], None, "stop", 1, 1)


@pytest.fixture
def desk() -> Iterator[tuple[Batches, Desk]]:
    engine = Batches()
    made = Desk(engine, most_waiting=4)
    yield engine, made
    engine.gate.set()
    made.close()


def ask(desk: Desk, text: str, *, n: int = 1, adapter: str | None = None, **more: Any) -> Any:
    named = AdapterRequest(adapter, "/x") if adapter else None
    return desk.submit(Sample.of(("user", text)), Sampling(n=n), adapter=named, **more)


def test_what_waits_together_is_answered_together_by_adapter(desk: tuple[Batches, Desk]) -> None:
    engine, queue_of = desk
    first = ask(queue_of, "first")
    wait_for(lambda: engine.seen)
    waiting = [ask(queue_of, "a"), ask(queue_of, "b", adapter="x"), ask(queue_of, "c", n=2), ask(queue_of, "d", adapter="x")]
    assert queue_of.load_now() == (1, 4)
    with pytest.raises(QueueFull):
        ask(queue_of, "e")
    engine.gate.set()
    assert [[chunk.text for chunk in slip] for slip in (first, *waiting)] == [["first"], ["a"], ["b"], ["c", "c"], ["d"]]
    assert engine.seen == [(["first"], None), (["a", "c"], None), (["b", "d"], "x")]


def test_a_request_that_cannot_be_asked_or_fails_is_its_own(desk: tuple[Batches, Desk]) -> None:
    engine, queue_of = desk
    first = ask(queue_of, "first")
    wait_for(lambda: engine.seen)
    slips = {text: ask(queue_of, text) for text in ("good", "bad", "broken")}
    engine.gate.set()
    assert len(list(first)) == len(list(slips["good"])) == 1
    with pytest.raises(DataError):
        list(slips["bad"])
    with pytest.raises(RuntimeError, match="broken"):
        list(slips["broken"])
    assert [chunk.text for chunk in ask(queue_of, "after")] == ["after"]


def test_who_is_cancelled_hears_nothing_and_is_not_computed(desk: tuple[Batches, Desk]) -> None:
    engine, queue_of = desk
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ask(queue_of, "first")
    wait_for(lambda: engine.seen)
    gone, stays = ask(queue_of, "gone", listen=heard.put), ask(queue_of, "stays")
    gone.cancel()
    engine.gate.set()
    assert len(list(stays)) == 1 and heard.empty() and engine.seen[1] == (["stays"], None)


def test_closing_fails_what_waits(desk: tuple[Batches, Desk]) -> None:
    engine, queue_of = desk
    ask(queue_of, "first")
    wait_for(lambda: engine.seen)
    waiting = ask(queue_of, "second")
    threading.Timer(0.1, engine.gate.set).start()
    queue_of.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(waiting)
    with pytest.raises(RuntimeError, match="closed"):
        ask(queue_of, "third")

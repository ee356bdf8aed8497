"""What a server counts: the statistics line of the log, and /metrics in the text format that Prometheus reads."""

from __future__ import annotations

import asyncio
import resource
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from swift import logs
from swift.engines.engine import Load
from swift.engines.stats import InferStats

# https://prometheus.io/docs/instrumenting/exposition_formats/
FORMAT = "text/plain; version=0.0.4; charset=utf-8"
BORDERS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds


class Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(BORDERS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BORDERS, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str) -> Iterator[str]:
        below = 0
        for border, count in zip((*BORDERS, "+Inf"), self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{le="{border}"}} {below}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {below}"


def resident_bytes() -> int:
    """Now, where /proc says it; elsewhere the most that it has been."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


class Counts:
    """`interval`: seconds between statistics lines; none where it is not above 0."""

    def __init__(self, interval: float, load: Callable[[], Load]):
        self.interval, self.load = interval, load
        self.requests: Counter[tuple[str, int]] = Counter()  # (path, status)
        self.open = 0  # HTTP requests that are being answered
        self.gone = 0  # clients that left before their answer was whole
        self.prompt_tokens = self.completion_tokens = 0
        self.first_token, self.whole_answer = Histogram(), Histogram()
        self._stats = InferStats()

    def answered(self, identity: str, prompt_tokens: int, completion_tokens: int, first: float, whole: float) -> None:
        """`first`, `whole`: seconds from the request's arrival to the first text and to the end of its answer."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.first_token.add(first)
        self.whole_answer.add(whole)
        if self.interval > 0:
            self._stats.add(identity, prompt_tokens, completion_tokens)

    async def tell_regularly(self) -> None:
        """Until cancelled; then once more."""
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self.interval)
                self.tell()
        self.tell()

    def tell(self) -> None:
        stats = self._stats.compute()
        if stats["num_samples"]:
            logs.info(str({name: round(value, 8) for name, value in stats.items()}))
        self._stats.reset()

    def page(self) -> str:
        load = self.load()
        counters = [
            ("swift_prompt_tokens_total", "counter", "Tokens of prompts that were answered.", self.prompt_tokens),
            ("swift_generated_tokens_total", "counter", "Tokens of answers that were sent whole.", self.completion_tokens),
            ("swift_clients_gone_total", "counter", "Clients that left before their answer was whole.", self.gone),
            ("swift_http_requests_open", "gauge", "HTTP requests that are being answered.", self.open),
            ("swift_answers_running", "gauge", "Answers in the running batch.", load.running),
            ("swift_answers_waiting", "gauge", "Answers that wait for a place in it.", load.waiting),
            ("process_resident_memory_bytes", "gauge", "Memory of this process.", resident_bytes()),
        ]
        lines = ["# HELP swift_http_requests_total HTTP requests by path and status.", "# TYPE swift_http_requests_total counter"]
        lines += [f'swift_http_requests_total{{path="{path}",code="{code}"}} {n}' for (path, code), n in sorted(self.requests.items())]
        for name, kind, text, value in counters:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]
        for name, text, histogram in (
            ("swift_time_to_first_token_seconds", "From a request's arrival to the first text of its answer.", self.first_token),
            ("swift_answer_seconds", "From a request's arrival to the end of its answer.", self.whole_answer),
        ):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} histogram", *histogram.lines(name)]
        return "\n".join(lines) + "\n"

"""Load on `swift deploy`: many clients that stream at the same time, some that read slowly, some that leave.

    python benchmarks/serve.py --clients 500 --requests 1000
    python benchmarks/serve.py --url http://127.0.0.1:8000/v1 --model my-model --clients 64 --max_tokens 256

Starts a server with swift/nano on a free port unless --url is given. Every client asks one of some questions, which are asked alone
first: an answer that differs is one that was mixed up, one that does not end was lost. Exit code 1 where there is any.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from swift.llm import DeployArguments, run_deploy


@dataclass
class Found:
    outcomes: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)  # seconds to the first text
    whole: list[float] = field(default_factory=list)  # seconds to the end
    chunks: int = 0


def question(number: int) -> str:
    return f"What is {number * 7 % 90 + 10} + {number * 13 % 80 + 5}?"


def body(asked: argparse.Namespace, number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question(number % asked.questions)}]
    return {"model": asked.model, "messages": messages, "temperature": 0, "max_tokens": asked.max_tokens}


async def stream(client: httpx.AsyncClient, asked: argparse.Namespace, number: int, alone: list[str], found: Found) -> None:
    """One request. Of --slow in a hundred clients one waits before each chunk, of --leaving in a hundred one leaves after the second."""
    slow, leaves = number % 100 < asked.slow, asked.slow <= number % 100 < asked.slow + asked.leaving
    start, text, ended, told = time.perf_counter(), "", False, 0
    async with client.stream("POST", f"{asked.url}/chat/completions", json=body(asked, number) | {"stream": True}) as response:
        if response.status_code != 200:
            found.outcomes[f"refused ({response.status_code})"] += 1
            return
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                ended = True
                break
            content = json.loads(line[6:])
            if "error" in content:
                break
            fresh = content["choices"][0]["delta"].get("content") or ""
            if fresh and not text:
                found.first.append(time.perf_counter() - start)
            text, told = text + fresh, told + 1
            if slow:
                await asyncio.sleep(0.5)
            if leaves and told == 2:
                found.outcomes["left"] += 1
                return
    found.whole.append(time.perf_counter() - start)
    found.chunks += told
    found.outcomes["lost" if not ended else "right" if text == alone[number % asked.questions] else "mixed up"] += 1


async def run(asked: argparse.Namespace) -> dict[str, Any]:
    found, numbers = Found(), iter(range(asked.requests))
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {asked.api_key}"}
    async with httpx.AsyncClient(timeout=httpx.Timeout(600), limits=limits, headers=headers) as client:
        alone = []
        for number in range(asked.questions):
            answer = await client.post(f"{asked.url}/chat/completions", json=body(asked, number))
            alone.append(answer.raise_for_status().json()["choices"][0]["message"]["content"])
        before = await metrics(client, asked.url)

        async def ask() -> None:
            for number in numbers:
                try:
                    await stream(client, asked, number, alone, found)
                except httpx.TransportError as wrong:
                    found.outcomes[f"lost ({type(wrong).__name__})"] += 1

        start = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(asked.clients)))
        seconds = time.perf_counter() - start
        after = await metrics(client, asked.url)
    tokens = after["swift_generated_tokens_total"] - before["swift_generated_tokens_total"]
    return {
        "clients": asked.clients,
        "requests": asked.requests,
        **dict(sorted(found.outcomes.items())),
        "seconds": round(seconds, 2),
        "requests/s": round(asked.requests / seconds, 2),
        "tokens/s": round(tokens / seconds, 1),
        "first text p50, p95": [round(quantile(found.first, share), 3) for share in (0.5, 0.95)],
        "whole answer p50, p95": [round(quantile(found.whole, share), 3) for share in (0.5, 0.95)],
        "server MiB before, after": [round(one["process_resident_memory_bytes"] / 2**20) for one in (before, after)],
        "still open": after["swift_http_requests_open"] - 1,  # the page that says it is one
    }


async def metrics(client: httpx.AsyncClient, url: str) -> dict[str, float]:
    page = (await client.get(f"{url.removesuffix('/v1')}/metrics")).raise_for_status().text
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+) (\S+)$", page, re.MULTILINE)}


def quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[int(share * 100) - 1] if len(values) > 1 else sum(values)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="of a server that runs already, with /v1")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--api_key", default="EMPTY")
    parser.add_argument("--clients", type=int, default=500, help="at the same time")
    parser.add_argument("--requests", type=int, default=1000, help="of all clients together")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--max_tokens", type=int, default=32)
    parser.add_argument("--slow", type=int, default=2, help="of a hundred requests, those whose client reads slowly")
    parser.add_argument("--leaving", type=int, default=3, help="of a hundred requests, those whose client leaves")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = str(Path(folder) / "answers.jsonl")
        own = DeployArguments(model="swift/nano", verbose=False, result_path=results) if asked.url is None else None
        with nullcontext(asked.url) if own is None else run_deploy(own, return_url=True) as asked.url:
            found = asyncio.run(run(asked))
    print(json.dumps(found, indent=2))
    return int(any(name.startswith(("lost", "mixed")) for name in found))


if __name__ == "__main__":
    sys.exit(main())

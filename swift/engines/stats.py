"""Counts over many answers: prompts, generated tokens, time."""

from __future__ import annotations

import time
from typing import Any

from swift.engines.protocol import ChatCompletionResponse, ChatCompletionStreamResponse


class InferStats:
    """`update` with each response, of a stream with its last chunk; then `compute`. Time runs from the start or the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._start = time.perf_counter()
        self._tokens: dict[str, tuple[int, int]] = {}

    def update(self, output: ChatCompletionResponse | ChatCompletionStreamResponse) -> None:
        self.add(output.id, output.usage.prompt_tokens, output.usage.completion_tokens)

    def add(self, identity: str, prompt_tokens: int, completion_tokens: int) -> None:
        """By its id an answer counts once, with what was said of it last."""
        self._tokens[identity] = (prompt_tokens, completion_tokens)

    def compute(self) -> dict[str, Any]:
        runtime = time.perf_counter() - self._start
        prompt, generated = (sum(counts) for counts in zip(*self._tokens.values(), strict=True)) if self._tokens else (0, 0)
        return {
            "num_prompt_tokens": prompt,
            "num_generated_tokens": generated,
            "num_samples": len(self._tokens),
            "runtime": runtime,
            "samples/s": len(self._tokens) / runtime,
            "tokens/s": generated / runtime,
        }

"""One HTTP request's samples in the engine: handing them in, their chunks in the event loop, and letting go of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from swift.data.sample import Sample
from swift.engines.engine import Chunk, Handle, Sampling, ServingEngine
from swift.serve.mailbox import Mailbox
from swift.template.template import Template

if TYPE_CHECKING:
    from swift.engines.pt.adapters import AdapterRequest


LONG = 50_000  # characters; a prompt beyond takes a tokenizer so long that short ones shall not wait behind it


@dataclass(frozen=True)
class Question:
    sample: Sample
    sampling: Sampling
    adapter: AdapterRequest | None = None
    prompt: list[int] | None = None  # token ids instead of what the template makes of the sample

    @property
    def characters(self) -> int:
        return sum(len(message.content) for message in self.sample.messages)


class Running:
    """Chunks of all answers to `questions`; answer `index` of question `number` is choice number * n + index."""

    def __init__(self, questions: Sequence[Question]):
        self.questions = questions
        self.prompts: list[list[int]] = []  # token ids, by question; empty where the engine makes them itself
        self._news: asyncio.Queue[tuple[int, Chunk | Exception]] = asyncio.Queue()
        self._handles: list[Handle] = []
        self._let_go = False
        self.start = time.perf_counter()
        self.first: float | None = None  # seconds until the first chunk

    @property
    def choices(self) -> int:
        return sum(question.sampling.n for question in self.questions)

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """(choice, chunk) until every answer has ended. Raises what one of them failed with."""
        left = self.choices
        while left:
            number, news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            left -= news.finish_reason is not None
            self.first = self.seconds() if self.first is None else self.first
            yield number * self.questions[0].sampling.n + news.index, news

    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def let_go(self) -> None:
        """Nobody waits for what is still to come; nothing happens where all has come."""
        self._let_go = True
        for handle in self._handles:
            handle.cancel()

    def hand_in(self, engine: ServingEngine, template: Template | None, mailbox: Mailbox, *, whole: bool) -> None:
        """In the thread of prompts. All or nothing: where one question cannot be asked, those before it are taken back.

        `whole`: nobody wants to see answers grow.
        """
        try:
            for number, question in enumerate(self.questions):
                if self._let_go:
                    return
                prompt = question.prompt
                if prompt is None and template is not None:
                    prompt = template.prompt(question.sample)
                self.prompts.append(prompt or [])
                listen = partial(self._hear, mailbox, number)
                handle = engine.submit(
                    question.sample, question.sampling, adapter=question.adapter, prompt=prompt, listen=listen, whole=whole
                )
                self._handles.append(handle)
                if self._let_go:  # while this one was handed in
                    handle.cancel()
        except BaseException:
            self.let_go()
            raise

    def _hear(self, mailbox: Mailbox, number: int, news: Chunk | Exception) -> None:
        mailbox.put(self._news, (number, news))


class Desks:
    """The way into the engine: prompts are made in the order of arrival in a thread, so that the event loop never waits for a tokenizer.

    Long ones have a thread of their own. `template` None: the engine makes its prompts itself.
    """

    def __init__(self, engine: ServingEngine, template: Template | None):
        self.engine, self.template = engine, template
        self._thread, self._slow_thread = ThreadPoolExecutor(1, "swift prompts"), ThreadPoolExecutor(1, "swift long prompts")
        self._mailbox: Mailbox | None = None

    async def start(self, questions: Sequence[Question], *, whole: bool) -> Running:
        """Raises what `ServingEngine.submit` raises."""
        loop = asyncio.get_running_loop()
        self._mailbox = self._mailbox or Mailbox(loop)
        running = Running(questions)
        try:
            work = partial(running.hand_in, self.engine, self.template, self._mailbox, whole=whole)
            long = sum(question.characters for question in questions) > LONG
            await loop.run_in_executor(self._slow_thread if long else self._thread, work)
        except asyncio.CancelledError:
            running.let_go()
            raise
        return running

"""A server in this process: uvicorn in a thread, over a real or a scripted engine. What it sends is held against OpenAI's schemas."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jsonschema

from swift.data.sample import Sample
from swift.engines.engine import Chunk, Listener, Load, QueueFull, Sampling
from swift.serve.door import Door
from swift.serve.ports import bind
from swift.serve.server import DrainingServer, configuration


class Schemas:
    """OpenAI's schemas of responses. `faults` gathers what does not fit them."""

    ROOTS: ClassVar = {
        "chat.completion": "CreateChatCompletionResponse", "chat.completion.chunk": "CreateChatCompletionStreamResponse",
        "text_completion": "CreateCompletionResponse", "list": "ListModelsResponse", "model": "Model", "error": "ErrorResponse",
    }  # fmt: skip

    def __init__(self, schemas: dict[str, Any]):
        self.faults: list[str] = []
        self.seen: dict[str, int] = {}
        self.validators = {
            kind: jsonschema.Draft202012Validator({"$ref": f"#/$defs/{root}", "$defs": schemas["$defs"]})
            for kind, root in self.ROOTS.items()
        }

    def check(self, content: dict[str, Any], path: str, status: int, *, event: bool = False) -> None:
        """The older API's schema has no form for chunks; OpenAI sends them with finish_reason null until the last, and so do we."""
        if event and content.get("object") == "text_completion":
            content = {
                **content,
                "choices": [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in content["choices"]],
            }
        kind = content.get("object", "")
        if kind not in self.validators:
            self.faults.append(f"{path} {status}: an object of kind {kind!r}")
            return
        self.seen[kind] = self.seen.get(kind, 0) + 1
        self.faults += [
            f"{path} {status}: {fault.json_path}: {fault.message[:200]}" for fault in self.validators[kind].iter_errors(content)
        ]


class Watched:
    """An ASGI layer around a door that reads all JSON that goes out."""

    def __init__(self, door: Door, schemas: Schemas):
        self.door, self.schemas = door, schemas

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind, status, body = "", 0, b""

        async def watched(message: Any) -> None:
            nonlocal kind, status, body
            if message["type"] == "http.response.start":
                kind, status = dict(message["headers"]).get(b"content-type", b"").decode(), message["status"]
            elif message["type"] == "http.response.body" and scope["path"].startswith("/v1"):
                body += message.get("body", b"")
                if kind.startswith("text/event-stream"):
                    *whole, body = body.split(b"\n\n")
                    for event in whole:
                        assert event.startswith(b"data: ")
                        if event != b"data: [DONE]":
                            self.schemas.check(json.loads(event[6:]), scope["path"], status, event=True)
                elif not message.get("more_body") and body:
                    self.schemas.check(json.loads(body), scope["path"], status)
            await send(message)

        await self.door(scope, receive, watched if scope["type"] == "http" else send)


@contextmanager
def listening(door: Door, schemas: Schemas | None = None) -> Iterator[str]:
    """The URL (http://127.0.0.1:port) at which a door is open while the block runs."""
    with bind("127.0.0.1", 0) as listener:
        server = DrainingServer(configuration(door if schemas is None else Watched(door, schemas)), door)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait_for(happened: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@dataclass(eq=False)
class Line:
    """One sample that was handed in to a ScriptedEngine, with the words that its answer has."""

    sample: Sample
    sampling: Sampling
    adapter: Any
    prompt: list[int] | None
    listen: Listener
    words: list[str]
    cancelled: bool = False
    told: int = 0

    def cancel(self) -> None:
        self.cancelled = True

    def __iter__(self) -> Iterator[Chunk]:
        raise NotImplementedError

    def say(self, text: str, *, end: str | None = None) -> None:
        self.told += 1
        for index in range(self.sampling.n):
            self.listen(Chunk(text, index, [self.told], None, end, len(self.prompt or ()), self.told))  # type: ignore[arg-type]

    def say_all(self) -> None:
        for number, word in enumerate(self.words):
            self.say(word, end="stop" if number == len(self.words) - 1 else None)


@dataclass
class ScriptedEngine:
    """Answers with `words` at once, or (`holds`) when the test says so. Refuses as a full queue does beyond `room`."""

    words: list[str] = field(default_factory=lambda: ["one ", "two ", "three"])
    holds: bool = False
    room: int = 1000
    failure: Exception | None = None
    lines: list[Line] = field(default_factory=list)

    def submit(
        self, sample: Any, sampling: Any, *, adapter: Any = None, prompt: Any = None, listen: Any = None, whole: bool = False
    ) -> Line:
        if len(self.lines) >= self.room:
            raise QueueFull("too many wait")
        line = Line(sample, sampling, adapter, prompt, listen, self.words)
        self.lines.append(line)
        if self.failure is not None:
            line.say("before ")
            line.listen(self.failure)
        elif not self.holds:
            line.say_all()
        return line

    def load_now(self) -> Load:
        return Load(len(self.lines), 0)

    def close(self) -> None:
        pass

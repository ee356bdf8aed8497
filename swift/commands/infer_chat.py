"""A conversation at the terminal. Answers go to stdout, explanations to the log. Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from swift import logs
from swift.data.columns import to_row
from swift.data.sample import Message, Sample
from swift.engines.engine import ClassLogprobs, Engine, Sampling, TokenLogprob, logprobs_json
from swift.errors import DataError
from swift.template.encoded import RowSkipped

HELP = (
    "`exit` or `quit` (or Ctrl-D) leaves; Ctrl-C stops an answer.",
    "`multi-line` lets a message have several lines; it then ends at a line that ends with `#`. `single-line` goes back.",
    "`reset-system` asks for another system prompt, for which `default-system` is the model's own and an empty line none at all.",
    "`clear` forgets the conversation. A message that starts with `tool:` is sent as a tool's result.",
)


def ask(prompt: str) -> str:
    """The next line. A prompt is for people: where lines come from a pipe or a file, answers are all that is written."""
    return input(prompt if sys.stdin.isatty() else "")


class Chat:
    """What has been said, and how the next message is read. `system`: None is the format's own, "" is none."""

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        stream: bool,
        results: Path,
        remembers: bool = True,
        read: Callable[[str], str] = ask,
        say: Callable[..., None] = print,
    ):
        """`remembers`: an answer belongs to the conversation. A classifier's does not, each message is judged by itself."""
        self.engine, self.sampling, self.stream, self.results = engine, sampling, stream, results
        self.remembers, self.read, self.say = remembers, read, say
        self.history: list[Message] = []
        self.system: str | None = None
        self.multi_line = self.asks_system = False
        self.records: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Until the person leaves; the turns' records come back."""
        with suppress(ImportError):  # arrows and earlier lines where the platform has it
            import readline  # noqa: F401
        for line in HELP:
            logs.info(line)
        while True:
            try:
                text = self.read_message()
                if text.strip().lower() in ("exit", "quit"):
                    return self.records
                self.obey(text)
            except EOFError:
                self.say()
                return self.records
            except KeyboardInterrupt:
                self.say()
                logs.info("Ctrl-D or `exit` leaves")

    def obey(self, text: str) -> None:
        """A system text that was asked for, a command, or something to answer."""
        command = text.strip().lower()
        if self.asks_system:
            self.system = None if text == "default-system" else text
            self.history, self.asks_system = [], False
        elif command == "clear":
            self.history = []
        elif command == "reset-system":
            self.asks_system = True
        elif command == "multi-line":
            self.multi_line = True
            logs.info("a message now ends at a line that ends with `#`; so does every command (`single-line#` goes back)")
        elif command == "single-line":
            self.multi_line = False
        elif command:
            self.turn(text)

    def read_message(self) -> str:
        """One message; in multi-line mode its first line has the prompt, and the `#` that ends it is not part of it."""
        tag = ("M" if self.multi_line else "") + ("S" if self.asks_system else "")
        line = self.read(f"<<<[{tag}] " if tag else "<<< ")
        if not self.multi_line:
            return line
        lines = [line]
        while not lines[-1].endswith("#"):
            lines.append(self.read(""))
        return "\n".join(lines)[:-1]

    def turn(self, text: str) -> None:
        """Ask, show the answer, remember both. A stopped answer is remembered as far as it came."""
        tool = text.startswith("tool:")
        question = Message("tool", text.removeprefix("tool:")) if tool else Message("user", text)
        system = [] if self.system is None else [Message("system", self.system)]
        asked = Sample([*system, *self.history, question])
        answer = ""
        logprobs: list[TokenLogprob | ClassLogprobs] = []
        try:
            for _, chunk in self.engine.stream([asked], self.sampling):
                answer += chunk.text
                logprobs += chunk.logprobs or []
                if self.stream:
                    self.say(chunk.text, end="", flush=True)
        except KeyboardInterrupt:
            logs.info("the answer was stopped")
        except (RowSkipped, DataError) as refusal:
            logs.warning(f"not asked: {refusal}")
            return
        self.say("" if self.stream else answer)
        self.say("-" * 50)
        if answer and self.remembers:
            self.history += [question, Message("assistant", answer)]
        self.record(answer, asked, logprobs)

    def record(self, answer: str, asked: Sample, logprobs: list[TokenLogprob | ClassLogprobs]) -> None:
        record = {"response": answer, "messages": to_row(asked)["messages"], "images": [], "audios": [], "videos": []}
        if self.sampling.logprobs:
            record["logprobs"] = logprobs_json(logprobs)
        self.records.append(record)
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

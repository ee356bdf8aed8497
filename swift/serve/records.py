"""One line for each request that was answered: in the results file, and in the log where --verbose says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swift import logs

LONG = 1000  # characters; a longer text that is no message's is a picture or the like
SPOKEN = ("content", "text", "prompt")


class Records:
    def __init__(self, path: Path | None, *, verbose: bool):
        self.path, self.verbose = path, verbose
        self._file = path.open("a", encoding="utf-8", buffering=1) if path is not None else None

    def add(self, response: Any, asked: dict[str, Any], sampling: dict[str, Any]) -> None:
        if self._file is None and not self.verbose:
            return
        record = {"response": response, "infer_request": shortened(asked), "generation_config": sampling}
        line = json.dumps(record, ensure_ascii=False, default=str)
        if self._file is not None:
            try:
                self._file.write(line + "\n")
            except OSError as wrong:  # a full disk is no reason to answer nobody
                logs.warn_once(f"{self.path} cannot be written: {wrong.strerror}; answers go on without it")
        if self.verbose:
            logs.info(line)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def shortened(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: shortened(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner, key) for inner in value]
    if isinstance(value, str) and len(value) >= LONG and key not in SPOKEN:
        return f"<<<base64:{value[:50]}..>>>"
    return value

"""What can go wrong for a person, each with what happened, where, and how to mend it. Bugs are not here: they stay tracebacks."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class SwiftError(Exception):
    """Shown as one message without a traceback; `exit_code` is the process's."""

    exit_code = 1


class UsageError(SwiftError):
    """The words on the command line, in a configuration file or in a call are wrong."""

    exit_code = 2


class DataError(SwiftError):
    """A data set cannot be read, or would train nothing."""


class ModelError(SwiftError):
    """A model, tokenizer, adapter or checkpoint is missing, broken or does not fit."""


class PluginError(SwiftError):
    """A user's plugin file failed; carries its file and line."""


class Interrupted(SwiftError):
    """The run was stopped by Ctrl-C or SIGTERM after leaving a usable checkpoint."""


def need(package: str, *, extra: str | None = None, why: str) -> ModuleType:
    """Import an optional package, or say which pip line brings it.

    `why` completes the sentence "<why> needs <package>", e.g. "reading parquet files".
    """
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        line = f"pip install 'swift-finetune[{extra}]'" if extra else f"pip install {package}"
        raise UsageError(f"{why} needs {package}. Install it with: {line}")
    return importlib.import_module(package)

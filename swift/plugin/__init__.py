"""The one import a plugin author needs: the registries, looked up on first use, and `load`, which runs plugin files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swift.errors import PluginError, UsageError

REGISTRIES = {
    "chat_formats": "swift.template.formats:chat_formats",
    "models": "swift.models.families:model_specs",
    "datasets": "swift.data.known:datasets",
    "loss_scales": "swift.template.loss_scale:loss_scales",
    "tools_prompts": "swift.template.tools:tools_prompts",
    "tuners": "swift.tuners.tuner:tuners",
}
KINDS = {  # what goes into them
    "ChatFormat": "swift.template.chat_format:ChatFormat",
    "DatasetSpec": "swift.data.registered:DatasetSpec",
    "LossScale": "swift.template.loss_scale:LossScale",
    "ModelSpec": "swift.models.spec:ModelSpec",
    "Subset": "swift.data.registered:Subset",
    "register_dataset": "swift.data.known:register_dataset",
}


def __getattr__(name: str) -> Any:
    place = REGISTRIES.get(name) or KINDS.get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'swift.plugin' has no attribute {name!r}")


def load(paths: str | Path | Iterable[str | Path]) -> None:
    """Run plugin files, each once, under a module name of its own; its folder is on sys.path, so that it finds its siblings."""
    for path in [paths] if isinstance(paths, str | Path) else paths:
        _load_one(Path(path).expanduser().resolve())


def _load_one(file: Path) -> None:
    if not file.is_file():
        raise UsageError(f"the plugin file {file} is not there")
    # Two plugins may share a file name, and a plugin may be called math.py.
    name = f"swift_plugin_{file.stem.replace('.', '_')}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as wrong:
        del sys.modules[name]
        raise PluginError(f"{_where(file, wrong)}: {type(wrong).__name__}: {wrong}") from wrong


def _where(file: Path, wrong: BaseException) -> str:
    """file:line, the deepest line of the plugin itself."""
    if isinstance(wrong, SyntaxError) and wrong.filename:
        return f"{wrong.filename}:{wrong.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(wrong.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)

"""What a model type needs beside SWIFT: packages, a code repository. Checked when the model is loaded."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from swift import logs
from swift.errors import ModelError

if TYPE_CHECKING:
    from swift.args.base import ModelArgs
    from swift.models.match import ModelInfo

SWIFT_NEEDS = ("torch", "transformers", "accelerate", "peft")  # of which older releases cannot be installed beside SWIFT


def check_requirements(info: ModelInfo) -> None:
    """Warn of packages that are missing or of another release, with the pip line that mends it."""
    wanted, older = [], []
    for text in info.spec.group_of(info.name).requires:
        need = Requirement(text)
        have = _version(need.name)
        if have is not None and need.specifier.contains(have, prereleases=True):
            continue
        (older if have is not None and need.name in SWIFT_NEEDS else wanted).append(f"{text} (here: {have or 'none'})")
    if wanted:
        line = " ".join(f"'{text.partition(' ')[0]}'" for text in wanted)
        logs.warn_once(f"{info.name} needs {', '.join(wanted)}. Install it with: pip install {line}")
    if older:
        logs.warn_once(
            f"{info.name} was made for {', '.join(older)}, which cannot be installed beside SWIFT: code that comes with the model may fail"
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def use_repository(info: ModelInfo, args: ModelArgs) -> None:
    """Put --local_repo_path on sys.path for a model that imports from there.

    Raises ModelError where the model needs a repository and the folder was not given or is not there.
    """
    needed, given = info.spec.repo, args.local_repo_path
    if given is None:
        if needed is not None:
            raise ModelError(
                f"model type {info.spec.type} needs the code of {needed}. Fetch it (git clone {needed}), look at it, and give its folder "
                "with --local_repo_path"
            )
        return
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        raise ModelError(f"--local_repo_path: the folder {folder} is not there")
    if needed is None:
        logs.warn_once(f"--local_repo_path has no effect: models of type {info.spec.type} need no code repository")
    elif str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

"""Models and data sets from ModelScope (default) or Hugging Face, through their own libraries, imported where used.

Reads USE_HF and TIMEOUT; the libraries read their own MODELSCOPE_CACHE, MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN, HF_HOME, HF_ENDPOINT, HF_TOKEN …
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, Protocol

from swift import logs
from swift.errors import DataError, ModelError, SwiftError

Kind = Literal["model", "dataset"]

# Formats that nothing here loads (specification 4.1), and what is not needed to know a model by its config and tokenizer.
NEVER = ["*.zip", "*.gguf", "*.pth", "*.pt", "consolidated*", "onnx/*", "*.safetensors.md", "*.msgpack", "*.onnx", "*.ot", "*.h5"]
WEIGHTS = ["*.bin", "*.safetensors"]


class HubSettings(Protocol):
    """What is read of `args.hub`."""

    @property
    def use_hf(self) -> bool: ...
    @property
    def hub_token(self) -> str | None: ...


def uses_hf(hub: HubSettings) -> bool:
    return hub.use_hf or os.environ.get("USE_HF", "").strip().lower() in ("1", "true", "yes")


def timeout_seconds() -> float | None:
    """TIMEOUT: how long an answer of a server may take; None where it is not set, not above 0, or no number."""
    try:
        seconds = float(os.environ.get("TIMEOUT", ""))
    except ValueError:
        return None
    return seconds if seconds > 0 else None


def cache_root() -> Path:
    """The folder that ModelScope keeps its downloads in, for what is kept beside them."""
    return Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()


def download(
    name: str,
    kind: Kind,
    hub: HubSettings,
    *,
    revision: str | None = None,
    weights: bool = True,
    force: bool = False,
    ignore: Sequence[str] = (),
) -> Path:
    """The local folder of a hub id, fetched or brought up to date; `org/name:subfolder` gives a folder within a model's.

    Files of a model that match `ignore` (`*.bin`) are not fetched, beside those that nothing here loads.

    A path that exists is returned as it is, without any request. Without a network the cached copy is used, with a warning.
    """
    if Path(name).expanduser().exists():
        return Path(name).expanduser()
    repo, _, folder = name.partition(":")
    allow, never = _patterns(kind, folder, weights)
    never = [*never, *ignore] if never is not None else None
    fetch = _fetch_hf if uses_hf(hub) else _fetch_modelscope
    logs.info(f"downloading {kind} {repo} from {_site(hub)}, or taking it from the cache")
    try:
        path = fetch(repo, kind, hub.hub_token, revision, allow, never, force)
    except Exception as error:  # two libraries with trees of errors of their own, told apart by _fault
        fault = _fault(error)
        if fault is None:
            raise
        kept = cached(repo, kind, hub, revision=revision, weights=weights) if fault == "network" and not force else None
        if kept is None:
            raise _error(kind)(f"{kind} {repo} cannot be fetched from {_site(hub)}: {_explain(fault, error, kind, hub)}") from error
        logs.warning(f"{kind} {repo}: no network, or no answer from {_site(hub)}; the copy in {kept} is used")
        path = kept
    if folder and not (path / folder).is_dir():
        raise _error(kind)(f"{kind} {repo} has no folder {folder!r}")
    return path / folder if folder else path


def cached(name: str, kind: Kind, hub: HubSettings, *, revision: str | None = None, weights: bool = True) -> Path | None:
    """The folder that an earlier download left, or None. Makes no request. Only Hugging Face's library knows whether it is complete."""
    repo, _, folder = name.partition(":")
    allow, ignore = _patterns(kind, folder, weights)
    path = _cached_hf(repo, kind, revision, allow, ignore) if uses_hf(hub) else _cached_modelscope(repo, kind, revision)
    found = None if path is None else path / folder
    return found if found and found.is_dir() and any(found.iterdir()) else None


def _patterns(kind: Kind, folder: str, weights: bool) -> tuple[list[str] | None, list[str] | None]:
    """File patterns to allow and to ignore."""
    if kind == "dataset":
        return None, None
    return [f"{folder}/*"] if folder else None, [*NEVER] if weights else [*NEVER, *WEIGHTS]


def _site(hub: HubSettings) -> str:
    return "Hugging Face" if uses_hf(hub) else "ModelScope"


def _error(kind: Kind) -> type[SwiftError]:
    return ModelError if kind == "model" else DataError


def _fetch_hf(
    repo: str, kind: Kind, token: str | None, revision: str | None, allow: list[str] | None, ignore: list[str] | None, force: bool
) -> Path:
    import huggingface_hub

    return Path(
        huggingface_hub.snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            token=token,
            allow_patterns=allow,
            ignore_patterns=ignore,
            force_download=force,
        )
    )


def _cached_hf(repo: str, kind: Kind, revision: str | None, allow: list[str] | None, ignore: list[str] | None) -> Path | None:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                repo, repo_type=kind, revision=revision, allow_patterns=allow, ignore_patterns=ignore, local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _cached_modelscope(repo: str, kind: Kind, revision: str | None) -> Path | None:
    import modelscope
    from modelscope.hub.errors import HubError

    try:
        return Path(modelscope.snapshot_download(repo, repo_type=kind, revision=revision, local_files_only=True))
    except (HubError, ValueError):
        return None


def _fetch_modelscope(
    repo: str, kind: Kind, token: str | None, revision: str | None, allow: list[str] | None, ignore: list[str] | None, force: bool
) -> Path:
    import modelscope

    with _set_aside(repo, kind, revision) if force else nullcontext():
        return Path(
            modelscope.snapshot_download(repo, repo_type=kind, revision=revision, token=token, allow_patterns=allow, ignore_patterns=ignore)
        )


class _set_aside:
    """ModelScope has no forced download: the cached copy is moved away, and comes back if the new one fails."""

    def __init__(self, repo: str, kind: Kind, revision: str | None) -> None:
        found = _cached_modelscope(repo, kind, revision)
        self.path = found if found and found.is_dir() else None

    def __enter__(self) -> None:
        if self.path is not None:
            self.old = self.path.with_name(f"{self.path.name}.replaced")
            shutil.rmtree(self.old, ignore_errors=True)
            self.path.rename(self.old)

    def __exit__(self, error: object, *_: object) -> None:
        if self.path is None:
            return
        if error is None:
            shutil.rmtree(self.old, ignore_errors=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)
            self.old.rename(self.path)


Fault = Literal["revision", "closed", "absent", "network", "other"]

# Class names rather than classes: the two libraries' errors cannot both be imported cheaply, and ModelScope's wrap requests'.
FAULTS: dict[Fault, set[str]] = {
    "revision": {"RevisionNotFoundError", "NoValidRevisionError"},
    "closed": {"AuthenticationError", "PermissionDeniedError", "GatedRepoError"},
    "absent": {"RepositoryNotFoundError", "NotExistError", "HFValidationError"},
    "network": {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "NetworkError", "TransportError", "ConnectError", "ServerError"},
}
STATUS: dict[int, Fault] = {401: "absent", 403: "closed", 404: "absent"}


def _fault(error: BaseException) -> Fault | None:
    """What kind of failure this is, or None for what is not the hub's doing."""
    if type(error).__name__ == "LocalEntryNotFoundError" and error.__cause__ is not None:
        error = error.__cause__  # huggingface_hub says "not in the cache" for whatever the hub answered
    names = {cls.__name__ for cls in type(error).__mro__}
    for fault in ("revision", "closed", "absent"):
        if names & FAULTS[fault]:
            return fault
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "status_code", None)
    if status in STATUS:
        return STATUS[status]
    if isinstance(error, ConnectionError | TimeoutError) or names & FAULTS["network"]:
        return "network"
    return "other" if isinstance(error, OSError) or names & {"HubError", "HfHubHTTPError"} else None


def _explain(fault: Fault, error: BaseException, kind: Kind, hub: HubSettings) -> str:
    if fault == "revision":
        return "there is no such revision. Check --model_revision."
    if fault == "closed":
        return "access was refused. Give a token that may read it with --hub_token."
    if fault == "absent":
        other = "--use_hf false" if uses_hf(hub) else "--use_hf true"
        return f"it does not exist, or is private. Check the spelling, give --hub_token for a private one, or try {other}."
    if fault == "network":
        mirror = "HF_ENDPOINT" if uses_hf(hub) else "MODELSCOPE_ENDPOINT"
        return f"no network, or no answer. Download it elsewhere and give the folder to --{kind}, or set {mirror} to a mirror."
    return str(error).splitlines()[0] if str(error) else type(error).__name__

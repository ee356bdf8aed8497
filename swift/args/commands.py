"""The commands: which groups each has and which defaults it changes. Built by parse.py, frozen from then on."""

# ruff: noqa: RUF009 (arg and group make dataclass fields)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from swift.args import spec
from swift.args.base import AdapterArgs, DataArgs, GenerationArgs, HubArgs, ModelArgs, QuantArgs, RuntimeArgs, TemplateArgs
from swift.args.engines import ExportArgs, MergeArgs
from swift.args.preview import PreviewArgs
from swift.args.serving import DeployArgs, InferArgs
from swift.args.trainer import TrainerArgs, TrainingArgs
from swift.args.tuner import FullArgs, LoraArgs, TargetArgs


def group() -> Any:
    return field(metadata={"group": True})


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every command carries: its groups, and where each value came from."""

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    TRAINS: ClassVar[bool] = False
    ALONE: ClassVar[bool] = False  # one process, whatever NPROC_PER_NODE says
    SHOWS: ClassVar[str] = ""  # the command that a preview takes its flags from: it loads no weights and writes nothing
    DEFAULTS: ClassVar[dict[str, Any]] = {}

    runtime: RuntimeArgs = group()
    hub: HubArgs = group()
    model: ModelArgs = group()
    quant: QuantArgs = group()
    adapter: AdapterArgs = group()
    data: DataArgs = group()
    template: TemplateArgs = group()

    explicit: frozenset[str] = frozenset()  # the flags that were typed, also in a configuration file or as keyword
    origins: dict[str, str] = field(default_factory=dict)  # flag → where its value came from
    given: dict[str, Any] = field(default_factory=dict)  # the typed values before anything was derived
    notes: tuple[str, ...] = ()  # what should be said once when the command starts
    missing: tuple[str, ...] = ()  # dry run only: what a real run would need and does not find

    def to_flat(self) -> dict[str, Any]:
        """Flat values by flag name, passed-through Trainer fields included."""
        return spec.to_flat(self)


@dataclass(frozen=True, kw_only=True)
class SftCommand(Command):
    NAME: ClassVar[str] = "sft"
    HELP: ClassVar[str] = "Supervised fine-tuning on conversations."
    TRAINS: ClassVar[bool] = True

    trainer: TrainerArgs = group()
    training: TrainingArgs = group()
    target: TargetArgs = group()
    full: FullArgs = group()
    lora: LoraArgs = group()


@dataclass(frozen=True, kw_only=True)
class PtCommand(SftCommand):
    NAME: ClassVar[str] = "pt"
    HELP: ClassVar[str] = "Continued pre-training on plain text: no chat format, every token is learned."
    DEFAULTS: ClassVar[dict[str, Any]] = {"use_chat_template": False, "loss_scale": "all"}


@dataclass(frozen=True, kw_only=True)
class InferCommand(Command):
    NAME: ClassVar[str] = "infer"
    HELP: ClassVar[str] = "Answers: interactively, or for each row of a data set."
    DEFAULTS: ClassVar[dict[str, Any]] = {"load_args": True}

    generation: GenerationArgs = group()
    merge: MergeArgs = group()
    infer: InferArgs = group()


@dataclass(frozen=True, kw_only=True)
class DeployCommand(InferCommand):
    NAME: ClassVar[str] = "deploy"
    HELP: ClassVar[str] = "A server that speaks OpenAI's protocol."
    ALONE: ClassVar[bool] = True

    deploy: DeployArgs = group()


@dataclass(frozen=True, kw_only=True)
class MergeCommand(Command):
    NAME: ClassVar[str] = "merge-lora"
    HELP: ClassVar[str] = "An adapter merged into its model: a folder that plain transformers loads, compared with the adapter."
    ALONE: ClassVar[bool] = True
    DEFAULTS: ClassVar[dict[str, Any]] = {"load_args": True}

    generation: GenerationArgs = group()
    merge: MergeArgs = group()
    export: ExportArgs = group()


@dataclass(frozen=True, kw_only=True)
class PreviewCommand(SftCommand):
    NAME: ClassVar[str] = "preview"
    HELP: ClassVar[str] = "Rows as swift sft (swift preview pt: swift pt) will train them, token by token, and their faults."
    ALONE: ClassVar[bool] = True
    SHOWS: ClassVar[str] = "sft"

    preview: PreviewArgs = group()


@dataclass(frozen=True, kw_only=True)
class PreviewPtCommand(PreviewCommand):
    NAME: ClassVar[str] = "preview pt"
    SHOWS: ClassVar[str] = "pt"
    DEFAULTS: ClassVar[dict[str, Any]] = PtCommand.DEFAULTS


COMMANDS: dict[str, type[Command]] = {
    command.NAME: command for command in (PtCommand, SftCommand, PreviewCommand, InferCommand, DeployCommand, MergeCommand)
}
FORMS = COMMANDS | {PreviewPtCommand.NAME: PreviewPtCommand}  # with those that a word behind the command chooses
WAITING = ("rlhf", "app", "web-ui", "eval", "export", "sample")  # part of SWIFT, not built yet

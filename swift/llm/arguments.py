"""Commands' arguments from Python: built from keywords, or read from a checkpoint's args.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swift.args import saved
from swift.args.commands import DeployCommand, InferCommand, SftCommand
from swift.args.parse import from_kwargs


def InferArguments(**flags: Any) -> InferCommand:
    """All of swift infer's flags as keywords; for infer_main."""
    return from_kwargs("infer", **flags)  # type: ignore[return-value]


def DeployArguments(**flags: Any) -> DeployCommand:
    """All of swift deploy's flags as keywords; for run_deploy and deploy_main."""
    return from_kwargs("deploy", **flags)  # type: ignore[return-value]


def TrainArguments(**flags: Any) -> SftCommand:
    """All of swift sft's flags as keywords; for sft_main."""
    return from_kwargs("sft", **flags)  # type: ignore[return-value]


class BaseArguments:
    """What a checkpoint was made with: each flag of its args.json as an attribute, None where it is not there."""

    def __init__(self, folder: str, values: dict[str, Any]):
        self.ckpt_dir, self._values = folder, values

    @classmethod
    def from_pretrained(cls, folder: str) -> BaseArguments:
        return cls(str(folder), saved.read(Path(folder).expanduser()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._values.get(name)

    def get_model_processor(self) -> tuple[Any, Any]:
        """(model, tokenizer): the checkpoint's own weights, or the model that its adapter was trained on, without the adapter."""
        from swift.models.load import load_model, load_processor  # only here: reading args.json needs no torch
        from swift.models.match import find_model

        command = self._command()
        info = find_model(command.model, command.hub, max_length=command.template.max_length)
        return load_model(info, command.model, training=False), load_processor(info)

    def get_template(self, processor: Any) -> Any:
        """The template with the format and system text that were trained."""
        from swift.models.match import find_model
        from swift.template.build import build_template

        command = self._command()
        return build_template(find_model(command.model, command.hub, max_length=command.template.max_length), processor, command.template)

    def _command(self) -> InferCommand:
        """As `swift infer` would read this checkpoint: a folder with weights of its own (full, merged) is the model itself."""
        if (Path(self.ckpt_dir).expanduser() / "config.json").is_file():
            return InferArguments(model=self.ckpt_dir)
        return InferArguments(model=self.model, **({"adapters": [self.ckpt_dir]} if self.train_type != "full" else {}))

"""Which modules a tuner changes: names for PEFT from --target_modules, --target_regex and --modules_to_save."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from swift.errors import UsageError
from swift.models.quantized import Quantized
from swift.registry import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from swift.args.tuner import TargetArgs

HEADS = ("lm_head", "score", "v_head", "classifier")  # output layers are not part of all-linear


def target_modules(model: nn.Module, args: TargetArgs) -> list[str] | str:
    """What PEFT's `target_modules` takes: name suffixes, or a regular expression that a full name must match.

    Raises UsageError where a name or the expression matches nothing.
    """
    names = [name for name, _ in model.named_modules() if name]
    if args.target_regex is not None:
        if not any(re.fullmatch(args.target_regex, name) for name in names):
            raise UsageError(
                f"--target_regex {args.target_regex!r} matches no module; it must match a full name such as {_example(model)!r}"
            )
        return args.target_regex
    targets: list[str] = []
    for asked in args.target_modules:
        targets += {"all-linear": all_linear, "all-embedding": all_embedding}.get(asked, lambda _, name=asked: [name])(model)
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in names):
            suffixes = sorted({name.rpartition(".")[2] for name in all_linear(model)})
            raise UsageError(
                f"--target_modules {target}: the model has no such module{did_you_mean(target, suffixes)} Linear modules: {', '.join(suffixes)}"
            )
    return list(dict.fromkeys(targets))


def modules_to_save(model: nn.Module, args: TargetArgs) -> list[str]:
    """--modules_to_save with `all-embedding` and `all-norm` spelt out."""
    wide = {"all-embedding": all_embedding, "all-norm": all_norm}
    found: list[str] = []
    for asked in args.modules_to_save:
        found += wide[asked](model) if asked in wide else [asked]
    modules = dict(model.named_modules())
    for name in found:
        picked = [full for full in modules if full == name or full.endswith("." + name)]
        if not picked:
            raise UsageError(f"--modules_to_save {name}: the model has no such module")
        if packed := next((full for full in picked if isinstance(modules[full], Quantized)), None):
            raise UsageError(f"--modules_to_save {name}: {packed} is quantized, so it can take an adapter and cannot be trained whole")
    return list(dict.fromkeys(found))


def all_linear(model: nn.Module) -> list[str]:
    """The shortest name suffixes that pick every linear layer except output heads, and no other module."""
    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not any(head in n for head in HEADS)}
    return _suffixes(model, linear)


def all_embedding(model: nn.Module) -> list[str]:
    return _suffixes(model, {n for n, m in model.named_modules() if isinstance(m, nn.Embedding)})


def all_norm(model: nn.Module) -> list[str]:
    return _suffixes(model, {n for n, m in model.named_modules() if "norm" in type(m).__name__.lower()})


def _suffixes(model: nn.Module, wanted: set[str]) -> list[str]:
    others = {name for name, _ in model.named_modules() if name} - wanted
    found = set()
    for name in wanted:
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            suffix = ".".join(parts[-size:])
            if not any(other == suffix or other.endswith("." + suffix) for other in others):
                found.add(suffix)
                break
    return sorted(found)


def _example(model: nn.Module) -> str:
    return next((name for name, module in model.named_modules() if isinstance(module, nn.Linear)), "model.layers.0.self_attn.q_proj")


def adapts_output_layer(model: PreTrainedModel, args: TargetArgs, train_type: str) -> bool:
    """Whether an adapter is put on the output layer itself, which then must answer plain logits."""
    if train_type == "full":
        return False
    head = model.get_output_embeddings()
    name = next((name for name, module in model.named_modules() if module is head), None)
    if name is None:
        return False
    targets = target_modules(model, args)
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith("." + target) for target in targets)

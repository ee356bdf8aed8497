"""The plan of a run: every argument and where it came from, the model, the data, what is missing. Writes nothing, loads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from swift.args.commands import Command
from swift.args.paths import dataset_item, exists, is_path_like
from swift.args.saved import masked
from swift.args.spec import specs
from swift.errors import SwiftError
from swift.hub import uses_hf


def plan(args: Command, find_model: Callable[..., Any], describe: Callable[..., str]) -> dict[str, Any]:
    """`find_model` (swift.models.match) and `describe` (swift.data.source) are handed in because they live on higher floors."""
    missing = list(args.missing)
    model = _model(args, find_model, missing)
    data = {flag: [_source(item, args, describe) for item in getattr(args.data, flag)] for flag in ("dataset", "val_dataset")}
    return {
        "command": args.NAME,
        "arguments": masked(args.to_flat()),
        "origins": dict(args.origins),
        "model": model,
        "data": data,
        "missing": missing,
        "warnings": list(args.notes),
    }


def _model(args: Command, find_model: Callable[..., Any], missing: list[str]) -> dict[str, Any]:
    """What is known of the model without the network."""
    asked = args.model.model
    known: dict[str, Any] = {"asked": asked, "type": args.model.model_type, "template": args.template.template, "path": None}
    if asked is None:
        return known | {"note": "known once the adapter is downloaded or there"}
    if is_path_like(asked) and not exists(asked):
        return known | {"note": "known once the folder is there"}
    try:
        info = find_model(args.model, args.hub, download=False, max_length=args.template.max_length)
    except SwiftError as wrong:
        if exists(asked):
            missing.append(f"--model: {wrong}")
        return known | {"note": f"known once downloaded ({wrong})"}
    known |= {"name": info.name, "type": info.spec.type, "path": str(info.path) if info.path else None}
    known["template"] = known["template"] or info.spec.chat_format or "the checkpoint's own"
    if info.path is None:
        known["note"] = f"{_hub(args)}, downloaded where it is not in the cache"
    return known


def _source(item: str, args: Command, describe: Callable[..., str]) -> dict[str, Any]:
    """One data set and where its rows would come from. Ids are not looked up: importing a hub's library writes to the home folder."""
    parts = dataset_item(item)
    here = is_path_like(parts.name) or exists(parts.name) or parts.name.lower().startswith("swift/")
    source = describe(item, args.hub) if here else f"{_hub(args)}, downloaded where it is not in the cache"
    return {"asked": item, **parts._asdict(), "source": source}


def _hub(args: Command) -> str:
    return "Hugging Face" if uses_hf(args.hub) else "ModelScope"


def not_default(args: Command) -> str:
    """The arguments that differ from their default, for the log."""
    own = specs(type(args))
    flat = masked(args.to_flat())
    changed = {name: value for name, value in flat.items() if name not in own or value != own[name].default}
    return " ".join(f"{name}={value!r}" for name, value in changed.items())


def inherited(args: Command) -> dict[str, list[str]]:
    """The arguments that were read from a checkpoint, by file."""
    files: dict[str, list[str]] = {}
    for name, origin in args.origins.items():
        if origin.startswith(("args.json of ", "adapter_config.json of ")):
            files.setdefault(origin, []).append(name)
    return files


def show(plan: dict[str, Any], *, as_json: bool) -> str:
    """The plan for people, or as one JSON object."""
    if as_json:
        return json.dumps(plan, ensure_ascii=False, indent=2, default=str)
    lines = [f"swift {plan['command']}: plan (dry run: nothing is loaded, downloaded or written)", "", "Arguments"]
    width = max(len(name) for name in plan["arguments"])
    typed = [(name, value, plan["origins"].get(name, "default")) for name, value in plan["arguments"].items()]
    for name, value, origin in sorted(typed, key=lambda row: (row[2].startswith("default"), row[2].startswith("derived"))):
        lines.append(f"  {name:<{width}}  {_short(value):<24}  {origin}")
    lines += ["", "Model", *(f"  {name}: {value}" for name, value in plan["model"].items() if value is not None), "", "Data"]
    for flag, sources in plan["data"].items():
        lines += [f"  {flag}: {source['asked']} ({source['source']})" for source in sources]
    if not any(plan["data"].values()):
        lines.append("  none")
    lines += [f"\nwarning: {text}" for text in plan["warnings"]]
    lines += [f"\nwarning: missing: {text}" for text in plan["missing"]]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 60 else text[:57] + "…"

"""Write swift/args/waiting.json: what the specification has and does not work yet.

Usage: python scripts/waiting_flags.py <folder of the specification>
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from swift import plugin
from swift.args.commands import COMMANDS
from swift.args.spec import specs


def waiting_flags(rows: list[dict]) -> dict[str, dict[str, list[str]]]:
    """Names by command: `waiting` in commands that exist here, `elsewhere` those of commands that do not."""
    commands: dict[str, list[str]] = {}
    for row in rows:
        known = commands.setdefault(row["name"], [])
        known += [command for command in row["commands"] if command not in known]
    built = {name for made in COMMANDS.values() for name in specs(made)}
    waiting = {name: [c for c in where if c in COMMANDS and name not in specs(COMMANDS[c])] for name, where in commands.items()}
    elsewhere = {name: where for name, where in commands.items() if where and name not in built and not waiting[name]}
    return {"waiting": {name: where for name, where in waiting.items() if where}, "elsewhere": elsewhere}


def waiting_choices(behaviour: str) -> dict[str, list[str]]:
    """Model types of Appendix A and chat formats of Appendix C that are in no registry yet."""

    def first_cells(start: str, end: str) -> list[str]:
        table = behaviour[behaviour.index(start) : behaviour.index(end)]
        cells = re.findall(r"^\| ([a-z0-9_.]+(?:, [a-z0-9_.]+)*) \|", table, re.M)
        return [name for cell in cells for name in cell.split(", ") if name not in ("model_type", "template", "shape")]

    types, formats = first_cells("# Appendix A", "# Appendix B"), first_cells("## C.2 Templates", "# Appendix D")
    return {
        "model_type": sorted(set(types) - set(plugin.models)),
        "template": sorted(set(formats) - set(plugin.chat_formats)),
    }


def text(specification: Path) -> str:
    rows = json.loads((specification / "arguments.json").read_text(encoding="utf-8"))
    tables = waiting_flags(rows) | {"choices": waiting_choices((specification / "data-and-training.md").read_text(encoding="utf-8"))}
    parts = []
    for key, table in tables.items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(where)}" for name, where in table.items())
        parts.append(f"  {json.dumps(key)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("swift/args/waiting.json").write_text(text(Path(sys.argv[1])), encoding="utf-8")

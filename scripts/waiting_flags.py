"""Write swift/args/waiting.json: the parameter document's flags that do not work yet.

Usage: python scripts/waiting_flags.py arguments.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

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


def text(rows: list[dict]) -> str:
    parts = []
    for key, table in waiting_flags(rows).items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(where)}" for name, where in table.items())
        parts.append(f"  {json.dumps(key)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(__file__).parents[1].joinpath("swift/args/waiting.json").write_text(text(rows), encoding="utf-8")

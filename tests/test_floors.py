"""Imports go down only."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "swift"
FLOORS = [
    {"errors", "registry", "plugin", "logs", "dist", "hub", "nano"},
    {"args", "cli"},
    {"data", "template"},
    {"models", "tuners"},
    {"objectives", "engines", "rewards"},
    {"train", "serve", "sampling", "exporters", "ui"},
    {"commands"},
    {"__init__", "__main__", "llm"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
SIBLINGS = {("template", "data"), ("tuners", "models"), ("rewards", "engines"), ("sampling", "rewards"), ("cli", "args")}  # one way each
TYPES_OF_LIGHT_FLOORS = {"data": {"template.encoded"}}  # what a row becomes is a type of its own, needed by both


def module_level(tree):
    """Imports that run when the module is imported: not in functions, not under TYPE_CHECKING."""
    for node in tree.body:
        stack = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(current, ast.If) and "TYPE_CHECKING" in ast.unparse(current.test):
                continue
            if isinstance(current, ast.ImportFrom) and current.module:
                yield from (f"{current.module}.{alias.name}" for alias in current.names)
            elif isinstance(current, ast.Import):
                yield from (alias.name for alias in current.names)
            stack += ast.iter_child_nodes(current)


def part(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def test_imports_go_to_the_same_or_a_lower_floor():
    wrong = []
    for path in ROOT.rglob("*.py"):
        here = part(path)
        for name in module_level(ast.parse(path.read_text())):
            if not name.startswith("swift."):
                continue
            there = name.split(".")[1]
            if there not in FLOOR or there == here:
                continue
            allowed = any(name.startswith(f"swift.{known}") for known in TYPES_OF_LIGHT_FLOORS.get(here, ()))
            same_floor = FLOOR[there] == FLOOR[here] and FLOOR[here] != 0 and (here, there) not in SIBLINGS
            if (FLOOR[there] > FLOOR[here] or same_floor) and not allowed:
                wrong.append(f"{path.relative_to(ROOT)} (floor {FLOOR[here]}) imports {name} (floor {FLOOR[there]})")
    assert not wrong, "\n".join(wrong)


def test_every_file_has_a_floor():
    assert {part(path) for path in ROOT.rglob("*.py")} <= set(FLOOR)


def test_the_environment_is_read_in_five_files():
    allowed = {"cli/main.py", "dist.py", "logs.py", "hub.py", "models/options.py"}
    readers = {str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if "os.environ" in p.read_text() or "getenv" in p.read_text()}
    assert readers <= allowed | {"train/arguments.py"}  # which sets one variable that transformers reads

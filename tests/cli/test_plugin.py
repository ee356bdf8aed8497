"""Plugin files: run by path, once, with their own folder at hand; what fails names file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from swift import plugin
from swift.args.parse import parse
from swift.errors import PluginError, UsageError


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_files_of_the_same_name_are_different_plugins(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "math.py", "import pathlib\npathlib.Path(__file__).with_suffix('.ran').open('a').write('x')\n")
    plugin.load([tmp_path / "a" / "math.py", tmp_path / "b" / "math.py"])
    plugin.load(str(tmp_path / "a" / "math.py"))
    assert [(tmp_path / folder / "math.ran").read_text() for folder in ("a", "b")] == ["x", "x"]
    import math

    assert math.sqrt(4) == 2


def test_a_plugin_finds_its_siblings(tmp_path: Path) -> None:
    write(tmp_path / "sibling_of_plugin.py", "VALUE = 3\n")
    plugin.load(write(tmp_path / "main_plugin.py", "from sibling_of_plugin import VALUE\nassert VALUE == 3\n"))
    sys.modules.pop("sibling_of_plugin")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\n\nraise KeyError('gone')\n", 3, "KeyError: 'gone'"),
        ("def f():\n    1 / 0\nf()\n", 2, "ZeroDivisionError"),
        ("x = (\n", 1, "SyntaxError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
    ],
)
def test_a_failure_names_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = write(tmp_path / "broken.py", text)
    with pytest.raises(PluginError) as raised:
        plugin.load(file)
    assert str(raised.value).startswith(f"{file}:{line}: ") and message in str(raised.value)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        plugin.load(tmp_path / "gone.py")


def test_the_registries_are_attributes() -> None:
    from swift.plugin import chat_formats, datasets, models

    assert "qwen2_5" in chat_formats and "qwen2_5" in models and "swift/self-cognition" in datasets
    with pytest.raises(AttributeError):
        plugin.nothing  # noqa: B018


def test_custom_registrations_run_before_plugins(tmp_path: Path) -> None:
    log = tmp_path / "log"
    files = [write(tmp_path / name, f"open({str(log)!r}, 'a').write({name!r})\n") for name in ("second.py", "first.py")]
    parse("infer", ["--model", "a/b", "--external_plugins", str(files[0]), "--custom_register_path", str(files[1])])
    assert log.read_text() == "first.pysecond.py"

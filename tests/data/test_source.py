"""Words of --dataset, files of every kind, and what is said about files that cannot be read."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from swift.args.base import HubArgs
from swift.data.folder import files_of_subset
from swift.data.source import Item, find_files, is_path, parse_item, read_file
from swift.errors import DataError, UsageError
from swift.template.encoded import RowSkipped

ROWS: list[dict[str, Any]] = [{"query": "a", "response": "1"}, {"query": 'b, "c"\nd', "response": "二"}, {"query": "", "response": "3"}]


def rows_of(path: Path) -> list[Any]:
    return [values for values, _ in read_file(path)]


def lines_of(path: Path) -> list[int]:
    return [origin.line for _, origin in read_file(path)]


@pytest.mark.parametrize(
    ("word", "item"),
    [
        ("org/name", Item("org/name")),
        ("org/name#500", Item("org/name", (), 500)),
        ("org/name:sub", Item("org/name", ("sub",))),
        ("org/name:a/ b#10", Item("org/name", ("a", "b"), 10)),
        ("./x.jsonl#3", Item("./x.jsonl", (), 3)),
        ("a#b/c#2", Item("a#b/c", (), 2)),
    ],
)
def test_a_word_is_split_at_the_last_hash_and_the_first_colon(word: str, item: Item) -> None:
    assert parse_item(word) == item


def test_what_exists_is_a_name_whatever_it_looks_like(tmp_path: Path) -> None:
    odd = tmp_path / "a:b#3"
    odd.mkdir()
    assert parse_item(str(odd)) == Item(str(odd))
    assert parse_item(f"{odd}#7") == Item(str(odd), (), 7)


@pytest.mark.parametrize("word", ["org/name#0", "org/name#x", "org/name#"])
def test_a_count_must_be_a_number_above_zero(word: str) -> None:
    with pytest.raises(UsageError, match="whole number from 1 to"):
        parse_item(word)


@pytest.mark.parametrize(
    ("name", "path"),
    [("./a", True), ("/a/b", True), ("~/a", True), ("a/b.jsonl", True), ("b.csv.gz", True), ("org/name", False), ("org/v1.5", False)],
)
def test_names_that_are_paths_never_go_to_a_hub(name: str, path: bool) -> None:
    assert is_path(name) is path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def test_json_reads_lines_arrays_and_single_objects_alike(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.JSONL"):
        assert rows_of(write(tmp_path / name, ROWS)) == ROWS
    for name, indent in (("array.json", None), ("array2.json", 2), ("array3.jsonl", 1)):
        path = tmp_path / name
        path.write_text("\n" + json.dumps(ROWS, indent=indent), encoding="utf-8")
        assert rows_of(path) == ROWS
        assert lines_of(path) == [1, 2, 3]
    for indent in (None, 4):
        (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=indent))
        assert rows_of(tmp_path / "one.json") == ROWS[:1]


def test_rows_know_their_line_through_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"query": "a"}\r\n\n   \n{"query": "b"}')
    assert rows_of(path) == [{"query": "a"}, {"query": "b"}]
    assert lines_of(path) == [2, 5]


def test_csv_keeps_missing_cells_as_empty_strings(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('system,query,response\n,"two\nlines, and ""quotes""",NA\n\nx,y\n', encoding="utf-8-sig")
    assert rows_of(path) == [
        {"system": "", "query": 'two\nlines, and "quotes"', "response": "NA"},
        {"system": "x", "query": "y", "response": ""},
    ]
    assert lines_of(path) == [3, 5]


def test_a_csv_row_with_too_many_cells_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("query,response\na,b\nc,d,e\n")
    good, bad = rows_of(path)
    assert good == {"query": "a", "response": "b"}
    assert isinstance(bad, RowSkipped) and "3 cells" in bad.detail


def test_long_csv_cells_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "x" * 300_000 + "\n")
    assert len(rows_of(path)[0]["text"]) == 300_000


def test_txt_gives_a_row_a_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("first line\n\nsecond line", encoding="utf-8")
    assert rows_of(path) == [{"text": "first line"}, {"text": "second line"}]
    assert lines_of(path) == [1, 3]


def test_parquet_reads_rows_in_order(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = [{"query": str(n), "response": "r", "tools": [{"name": "f"}]} for n in range(2500)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert rows_of(tmp_path / "rows.parquet") == rows
    assert lines_of(tmp_path / "rows.parquet")[-1] == 2500


BROKEN: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"a": 1}\n' * 811 + b'{"a": 1,}\n' + b'{"a": 1}\n', r"a\.jsonl line 812: not JSON"),
    ("a.jsonl", b'{"a": 1}\n{"a": "unfinished', r"line 2: not JSON: Unterminated string"),
    ("a.jsonl", b'{"a": 1,\n{"a": 2}\n', r"line 1: not JSON"),
    ("a.json", b'[{"a": 1},\n{"a": 2},\n{"a" 3}]', r"line 3: not JSON"),
    ("a.json", b'[{"a": 1}]\n[{"a": 2}]', r"line 2: not JSON: Extra data"),
    ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', r"line 2: not UTF-8 \(byte 8 of the line is 0xe9\)"),
    ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
    ("a.jsonl", b"[" * 100_000, "cannot be read as JSON"),
    ("a.jsonl", b'{"a":' * 100_000, "line 1: cannot be read as JSON"),
    ("a.csv", b"a,a\n1,2\n", "column 'a' twice"),
    ("a.csv", b"a,b\n1,\xff\n", "line 2: not UTF-8"),
    ("a.jsonl", b"", "empty"),
    ("a.csv", b"query,response\n", "empty"),
    ("a.json", b"[]", "empty"),
    ("a.txt", b"\n\n", "empty"),
    ("a.txt", b"<|0|>\n<|1|>\n", "token"),
    ("a.json", b'{"x": {"file": 1}, "y": {"file": 2}}', "2 objects under names"),
    ("a.json", b'{"data": [{"query": "q"}]}', "key 'data'"),
    ("a.jsonl.gz", b"not gzip", "gz file is broken"),
    ("a.jsonl.gz", gzip.compress(random.Random(0).randbytes(1000).hex().encode())[:-20], "gz"),
    ("a.parquet", b"not parquet", "parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_names_itself_and_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)


def test_rows_that_are_no_objects_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a"}\n"text"\n3\n')
    assert [type(values) for values in rows_of(path)] == [dict, RowSkipped, RowSkipped]


def files(word: str) -> list[str]:
    return [path.name for path in find_files(parse_item(word), HubArgs())]


def test_a_missing_file_is_said_with_what_is_near(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError, match=r"trian\.jsonl: no such file.*train\.jsonl"):
        files(f"{tmp_path}/trian.jsonl")
    with pytest.raises(DataError, match=r"folder .* does not exist"):
        files(f"{tmp_path}/nowhere/x.jsonl#4")
    with pytest.raises(DataError, match="neither a file"):
        files("wordwithoutslash")


def test_a_file_has_no_subsets_and_must_be_of_a_known_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no subset"):
        files(f"{write(tmp_path / 'a.jsonl', ROWS)}:sub")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(DataError, match="jsonl, json, csv"):
        files(str(tmp_path / "a.xlsx"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in (
        "main/train-00000-of-00002.jsonl",
        "main/train-00001-of-00002.jsonl",
        "main/test-00000-of-00001.jsonl",
        "other/rows.jsonl",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, ROWS)
    (root / "README.md").write_text("notes")
    (root / "requirements.txt").write_text("torch")
    (root / "dataset_infos.json").write_text("{}")
    (root / ".cache").mkdir()
    write(root / ".cache" / "x.jsonl", ROWS)
    return root


def test_a_folder_gives_its_training_files_and_is_left_untouched(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert files(str(folder)) == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "rows.jsonl"]
    assert sorted(folder.rglob("*")) == before


def test_subsets_are_folders_or_files(folder: Path) -> None:
    assert files(f"{folder}:other") == ["rows.jsonl"]
    assert files(f"{folder}:main#5") == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert files(f"{folder}:test") == ["test-00000-of-00001.jsonl"]
    assert files(f"{folder}:other/main") == ["rows.jsonl", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert files(f"{folder}:all") == files(str(folder))
    with pytest.raises(DataError, match="did you mean 'main'"):
        files(f"{folder}:mian")


# What a folder says of itself

README = """---
license: mit
configs:
- config_name: en
  data_files:
  - split: train
    path: data/en-*.jsonl
  - split: test
    path: [data/test_en.jsonl]
- config_name: zh
  data_files: "data/zh/**"
- config_name: gone
  data_files: {train: nowhere.jsonl}
- config_name: far
  data_files: hf://datasets/org/other/x.jsonl
- config_name: pictures
  data_files: images.zip
- config_name: whole
  data_dir: data/zh
---
# A data set
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    root = tmp_path / "described"
    for name in ("data/en-00000.jsonl", "data/en-00001.jsonl", "data/test_en.jsonl", "data/zh/a.jsonl", "data/zh/b.jsonl", "stray.jsonl"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, ROWS)
    (root / "README.md").write_text(README)
    (root / "images.zip").touch()
    return root


def test_the_head_of_a_readme_says_what_the_subsets_are(described: Path) -> None:
    assert files(f"{described}:en") == ["en-00000.jsonl", "en-00001.jsonl"]
    assert files(f"{described}:zh/en") == ["a.jsonl", "b.jsonl", "en-00000.jsonl", "en-00001.jsonl"]
    assert files(f"{described}:whole") == ["a.jsonl", "b.jsonl"]
    assert files(f"{described}:test_en") == ["test_en.jsonl"]  # no subset, but a file of that name
    for word, message in {
        f"{described}:gone": r"names nowhere\.jsonl, and no such file is in the folder",
        f"{described}:far": "lie outside its folder",
        f"{described}:pictures": r"files such as images\.zip cannot be read",
        f"{described}:zhh": "did you mean 'zh'",
    }.items():
        with pytest.raises(DataError, match=message):
            files(word)
    with pytest.raises(UsageError, match=r"several subsets: en, zh, .* Choose with .*described:en, or .*described:all"):
        files(str(described))


@pytest.mark.parametrize(("marked", "expected"), [("en", "en-00000.jsonl"), ("zh", "a.jsonl")])
def test_a_readme_may_say_which_subset_is_meant(described: Path, marked: str, expected: str) -> None:
    readme = described / "README.md"
    readme.write_text(README.replace(f"- config_name: {marked}\n", f"- config_name: {marked}\n  default: true\n"))
    assert files(str(described))[0] == expected


def test_all_of_a_readme_s_subsets_in_order(described: Path) -> None:
    text = README[: README.index("- config_name: gone")] + "---\n"
    (described / "README.md").write_text(text)
    assert files(f"{described}:all") == ["en-00000.jsonl", "en-00001.jsonl", "a.jsonl", "b.jsonl"]


def test_the_registered_splits_are_read_from_the_readme(described: Path) -> None:
    names = [path.name for path in files_of_subset(described, "x", "en", ("test", "train"))]
    assert names == ["test_en.jsonl", "en-00000.jsonl", "en-00001.jsonl"]
    assert len(files_of_subset(described, "x", "zh", ("train",))) == 2
    with pytest.raises(DataError, match="no split dev; there are train, test"):
        files_of_subset(described, "x", "en", ("dev",))


@pytest.mark.parametrize("head", ["---\nconfigs: [\n---\n", "---\nconfigs: 3\n---\n", "---\nlicense: mit\n---\n", "configs:\n", "\xff"])
def test_a_readme_that_says_nothing_changes_nothing(folder: Path, head: str) -> None:
    before = files(str(folder))
    (folder / "README.md").write_text(head, encoding="latin-1")
    assert files(str(folder)) == before


def test_a_description_of_modelscope_is_not_read_as_rows(tmp_path: Path) -> None:
    root = tmp_path / "ms"
    root.mkdir()
    for name in ("first.csv", "second.jsonl", "dev.jsonl"):
        (root / name).write_text("query,response\na,b\n" if name.endswith("csv") else '{"query": "a"}\n')
    splits = {"train": {"meta": "second.jsonl", "file": ""}, "validation": {"meta": "dev.jsonl", "file": ""}}
    (root / "ms.json").write_text(json.dumps({"default": splits, "other": {"test": {"meta": "first.csv", "file": "a.zip"}}}))
    assert files(str(root)) == ["second.jsonl"]
    assert files(f"{root}:other") == ["first.csv"]  # it has no other split
    assert [path.name for path in files_of_subset(root, "x", "default", ("train", "validation"))] == ["second.jsonl", "dev.jsonl"]


def test_a_folder_without_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file"):
        files(str(tmp_path))

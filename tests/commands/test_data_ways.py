"""Rows reach training the same whether encoded before, on access or from a stream; what is wrong with them is said in each way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import swift
from swift.errors import SwiftError
from tests import tiny

QUICK = dict(
    max_length=64, split_dataset_ratio=0.0, logging_steps=1, save_strategy="no", report_to=["none"], train_sampling_strategy="sequential"
)
WAYS = [dict(), dict(dataset_num_proc=2), dict(lazy_tokenize=True), dict(streaming=True), dict(streaming=True, shuffle_buffer_size=1)]


def losses(folder: Path, data: Path, out: Path, **options: Any) -> list[float]:
    record = swift.sft(model=str(folder), dataset=[str(data)], output_dir=str(out), **(QUICK | options))
    return [entry["loss"] for entry in record["log_history"] if "loss" in entry]


@pytest.mark.parametrize("packing", [False, True])
def test_a_stream_without_max_steps_trains_as_rows_in_memory(packing: bool, folder: Path, rows: Path, tmp_path: Path) -> None:
    settings = dict(num_train_epochs=2, per_device_train_batch_size=5, gradient_accumulation_steps=2)
    streamed = losses(folder, rows, tmp_path / "streamed", streaming=True, packing=packing, **settings)
    if packing:  # packs of a buffer, which here is the whole file: in another order than those of rows in memory
        assert len(streamed) == len(losses(folder, rows, tmp_path / "whole", packing=True, **settings))
    else:
        assert streamed == losses(folder, rows, tmp_path / "whole", **settings) and len(streamed) == 6


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_faulty_row_stops_a_strict_run_with_its_place(way: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    good = {"query": "say hello", "response": "hello"}
    for name, bad in (("read", {"messages": []}), ("encoded", {"query": "say hello", "response": "hello " * 200})):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in (good, good, bad, good)))
        with pytest.raises(SwiftError, match=rf"{name}\.jsonl row 3: .*\n.*--strict false"):
            losses(folder, data, tmp_path / "out", strict=True, **way)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_row_is_accounted_for(
    way: dict[str, Any], workers: int, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "mixed.jsonl"
    rows = [{"query": "say hello", "response": "hello"}, {"messages": []}, {"query": "say hello", "response": "hello " * 200}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 4))
    losses(folder, data, tmp_path / "out", dataloader_num_workers=workers, num_train_epochs=2, **way)
    said = capsys.readouterr().err
    assert "rows: 12 read, 8 kept, 4 skipped" in said and "mixed.jsonl row 2, 5, 8, …" in said
    assert ": 8 read, 4 kept, 4 skipped" in said and "4  longer than max_length 64 (" in said and "mixed.jsonl row 3, 6, 9, …" in said


@pytest.mark.parametrize("way", [dict(lazy_tokenize=True), dict(streaming=True)], ids=str)
def test_a_cache_that_would_keep_nothing_is_said(way: dict[str, Any], folder: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    losses(folder, rows, tmp_path / "out", enable_cache=True, max_steps=1, **way)
    assert f"--enable_cache has no effect with --{next(iter(way))} true" in capsys.readouterr().err


def test_a_data_set_from_the_cache_of_the_hub_is_read_again_when_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--download_mode reaches the hub in eager and streamed runs alike."""
    forced: list[bool] = []
    (tmp_path / "rows").mkdir()
    data = tiny.chat_rows(tmp_path / "rows" / "train.jsonl")

    def download(name: str, kind: str, hub: Any, *, force: bool = False, **_: Any) -> Path:
        forced.append(force)
        return data.parent

    monkeypatch.setattr("swift.hub.download", download)
    for way in (dict(), dict(streaming=True)):
        for mode, force in (("force_redownload", True), ("reuse_dataset_if_exists", False)):
            settings = QUICK | dict(max_steps=1, download_mode=mode, **way)
            swift.sft(model=str(folder), dataset=["org/rows"], output_dir=str(tmp_path / "out"), **settings)
            assert forced == [force]
            forced.clear()

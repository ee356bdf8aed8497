"""Bad input: one clear message that says what, where and how to mend it; the exit code; and nothing written."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from swift.cli.main import main
from tests import tiny


def refused(capsys, tmp_path, *words, code=1):
    """Run the command in this process; its message. Nothing may be left behind under `out`."""
    out = tmp_path / "out"
    words = [str(word) for word in words]
    if "--output_dir" not in words:
        words += ["--output_dir", str(out)]
    assert main(["sft", "--split_dataset_ratio", "0", "--report_to", "none", *words]) == code
    assert not out.exists()
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


def row(*messages, **more):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages], **more}) + "\n"


GOOD = row(("user", "hi"), ("assistant", "hello"))


def test_a_missing_file_is_named_with_a_near_one(folder, rows, tmp_path, capsys):
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", tmp_path / "trian.jsonl", code=2)
    assert "trian.jsonl is not there" in message and "train.jsonl" in message


def test_an_empty_file(folder, tmp_path, capsys):
    data = tmp_path / "empty.jsonl"
    data.write_text("")
    assert "empty" in refused(capsys, tmp_path, "--model", folder, "--dataset", data)


def test_broken_json_names_the_line(folder, tmp_path, capsys):
    data = tmp_path / "broken.jsonl"
    data.write_text(GOOD * 811 + '{"messages": [{"role": "user", \n' + GOOD)
    assert "812" in refused(capsys, tmp_path, "--model", folder, "--dataset", data)


def test_a_wrong_role_in_every_row(folder, tmp_path, capsys):
    data = tmp_path / "roles.jsonl"
    data.write_text(row(("user", "hi"), ("robot", "hello")) * 3)
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", data)
    assert "robot" in message and "roles.jsonl" in message and "3" in message


def test_empty_answers(folder, tmp_path, capsys):
    data = tmp_path / "answers.jsonl"
    data.write_text(row(("user", "hi"), ("assistant", "")) * 5)
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", data)
    assert "empty" in message and "5" in message


def test_every_row_too_long(folder, rows, tmp_path, capsys):
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--max_length", 3)
    assert "longer than max_length 3" in message and "24" in message


def test_a_model_folder_without_weights(folder, rows, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((folder / name).read_bytes())
    assert "weights" in refused(capsys, tmp_path, "--model", bare, "--dataset", rows)


def test_an_adapter_of_another_model(folder, rows, tmp_path, capsys):
    import swift

    other = tiny.save(tmp_path / "wider", hidden_size=48)
    record = swift.sft(
        model=str(other), dataset=[str(rows)], output_dir=str(tmp_path / "other"), split_dataset_ratio=0, report_to="none", max_steps=1
    )
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--adapters", record["last_model_checkpoint"])
    assert "trained on another" in message


def test_resuming_from_a_folder_that_is_no_checkpoint(folder, rows, tmp_path, capsys):
    assert "is no adapter checkpoint" in refused(
        capsys, tmp_path, "--model", folder, "--dataset", rows, "--resume_from_checkpoint", tmp_path, code=2
    )


def test_an_output_folder_that_is_a_file(folder, rows, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--output_dir", blocked / "out", code=2)
    assert "is a file" in message


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB, or a skip where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_without_room_for_one_checkpoint(folder, rows, tmp_path, small_disk, capsys):
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--output_dir", small_disk / "run", "--train_type", "full")
    assert "MiB free" in message
    assert list(small_disk.iterdir()) == []


def test_an_output_folder_that_cannot_be_written(folder, rows, tmp_path, small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--output_dir", small_disk / "run", code=2)
    assert "cannot be written" in message


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    """A whole LoRA checkpoint after step 1."""
    import swift

    here = tmp_path_factory.mktemp("run")
    rows = str(tiny.chat_rows(here / "train.jsonl"))
    record = swift.sft(model=str(folder), dataset=[rows], output_dir=str(here), split_dataset_ratio=0, report_to="none", max_steps=1)
    return Path(record["last_model_checkpoint"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["--lr_scheduler_kwargs", '{"foo": 1}'], "unexpected keyword argument 'foo'"),
        (["--lr_scheduler_type", "cosine_with_min_lr"], "min_lr"),
        (["--adam_beta2", "2"], "Invalid beta"),
        (["--optim_args", "foo"], "cannot be used"),
        (["--accelerator_config", '{"foo": true}'], "'foo'"),
        (["--load_best_model_at_end", "true"], "load_best_model_at_end"),
        (["--metric_for_best_model", "rouge-l"], "evaluation gives loss and token_acc"),
    ],
)
def test_what_the_trainer_refuses_is_said_before_anything_is_written(words, said, folder, rows, tmp_path, capsys):
    assert said in refused(capsys, tmp_path, "--model", folder, "--dataset", rows, *words, code=2)


@pytest.mark.parametrize("way", ["--lazy_tokenize", "--streaming"])
def test_rows_that_are_read_while_training_must_train_something_too(way, folder, rows, tmp_path, capsys):
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--max_length", 3, "--max_steps", 2, way, "true")
    assert "none of 24 rows" in message and "longer than max_length 3" in message


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_config.json"])
def test_a_checkpoint_with_a_file_cut_short_is_refused(file, checkpoint, folder, rows, tmp_path, capsys):
    broken = tmp_path / "checkpoint-1"
    shutil.copytree(checkpoint, broken)
    (broken / file).write_bytes((broken / file).read_bytes()[:-30])
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, "--max_steps", 2, "--resume_from_checkpoint", broken)
    assert file in message and "broken or cut short" in message


@pytest.mark.parametrize("goal", [("--max_steps", 1), ("--num_train_epochs", 0.02)])
def test_a_run_that_is_at_its_end_is_not_resumed(goal, checkpoint, folder, rows, tmp_path, capsys):
    message = refused(capsys, tmp_path, "--model", folder, "--dataset", rows, *goal, "--resume_from_checkpoint", checkpoint, code=2)
    assert "stands at step 1" in message and "leaves nothing to do" in message

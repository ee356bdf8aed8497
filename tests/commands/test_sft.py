"""`swift sft` and `swift pt` end to end on tiny random models: what they write, and that they learn."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import swift

QUICK = dict(
    split_dataset_ratio=0, num_train_epochs=1, learning_rate=1e-2, report_to="none", logging_steps=1, save_steps=1000, max_length=128
)


def losses(record):
    return [entry["loss"] for entry in record["log_history"] if "loss" in entry]


def test_lora_learns_and_its_checkpoint_is_whole(folder, rows, tmp_path):
    record = swift.sft(
        model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"),
        **QUICK | dict(report_to=["tensorboard"], split_dataset_ratio=0.1, eval_steps=20, save_steps=20, create_checkpoint_symlink=True,
            lora_dropout=0.0, modules_to_save=["lm_head"], num_train_epochs=8),
    )  # fmt: skip
    found = losses(record)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    run, last = Path(record["last_model_checkpoint"]).parent, Path(record["last_model_checkpoint"])
    assert run.name.startswith("v0-") and last == run / "last" and (run / "best").is_symlink()
    assert {"args.json", "logging.jsonl", "val_dataset.jsonl", "runs", "images"} <= {path.name for path in run.iterdir()}
    assert (run / "images" / "train_loss.png").stat().st_size > 1000
    names = {path.name for path in last.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "args.json", "optimizer.pt", "scheduler.pt", "rng_state.pth",
            "trainer_state.json", "tokenizer.json", "chat_template.jinja"} <= names  # fmt: skip
    events = [json.loads(line) for line in (run / "logging.jsonl").read_text().splitlines()]
    assert list(events[0])[:4] == ["loss", "token_acc", "grad_norm", "learning_rate"]
    assert events[0]["global_step/max_steps"].startswith("1/") and events[-1]["last_model_checkpoint"] == str(last)
    saved_args = json.loads((last / "args.json").read_text())
    assert saved_args["output_dir"] == str(run) and saved_args["date"]
    assert 0 <= next(event["eval_token_acc"] for event in events if "eval_token_acc" in event) <= 1


def test_an_adapter_and_a_full_checkpoint_load_in_plain_libraries_with_the_logits_of_training(folder, rows, tmp_path):
    ids = torch.arange(3, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(folder)
    for train_type in ("lora", "full"):
        out = tmp_path / train_type
        record = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(out), train_type=train_type, add_version=False, **QUICK)
        last = record["last_model_checkpoint"]
        if train_type == "lora":
            plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), last).eval()
        else:
            plain = AutoModelForCausalLM.from_pretrained(last)
        assert not torch.allclose(plain(ids).logits, base(ids).logits, atol=1e-3)
        talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        trained, own = AutoTokenizer.from_pretrained(last), AutoTokenizer.from_pretrained(folder)
        assert trained.apply_chat_template(talk, return_dict=False) == own.apply_chat_template(talk, return_dict=False)


@pytest.mark.parametrize("option", [{"packing": True}, {"lazy_tokenize": True}, {"streaming": True, "max_steps": 6}, {"dataset_num_proc": 2},
                                    {"streaming": True, "packing": True, "max_steps": 3}, {"gradient_checkpointing": True}])  # fmt: skip
def test_every_way_to_rows_trains(option, folder, rows, tmp_path):
    record = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), **QUICK | option)
    assert record["global_step"] >= 3 and losses(record)[-1] < losses(record)[0]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("train_type", ["lora", "full"])
@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_computing_layers_again_changes_no_loss_and_no_gradient(train_type, reentrant, folder, rows, tmp_path):
    common = dict(model=str(folder), dataset=[str(rows)], train_type=train_type, **QUICK)
    plain = swift.sft(output_dir=str(tmp_path / "plain"), gradient_checkpointing=False, **common)
    again = swift.sft(
        output_dir=str(tmp_path / "again"),
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": reentrant},
        **common,
    )
    for name in ("loss", "grad_norm"):
        first, second = ([entry[name] for entry in record["log_history"] if "loss" in entry] for record in (plain, again))
        assert second == pytest.approx(first, rel=1e-5)


def test_weights_alone_are_taken_from_a_checkpoint_when_asked(folder, rows, tmp_path):
    common = dict(model=str(folder), dataset=[str(rows)], add_version=False, **QUICK | dict(save_steps=8))
    swift.sft(output_dir=str(tmp_path / "first"), **common)
    halfway = tmp_path / "first" / "checkpoint-8"
    record = swift.sft(output_dir=str(tmp_path / "second"), resume_from_checkpoint=str(halfway), resume_only_model=True, **common)
    assert record["global_step"] == 24 and record["log_history"][0]["step"] == 1
    untouched = swift.sft(output_dir=str(tmp_path / "third"), **common)
    assert losses(record)[0] != losses(untouched)[0]


def test_pre_training_learns_every_token_of_plain_text(folder, tmp_path):
    data = tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps({"text": f"one two three {n} " * 4}) + "\n" for n in range(20)))
    record = swift.pt(model=str(folder), dataset=[str(data)], output_dir=str(tmp_path / "out"), train_type="full", **QUICK)
    assert losses(record)[-1] < 0.8 * losses(record)[0]


def test_the_last_checkpoint_is_this_runs_and_can_be_read_by_everyone(folder, rows, tmp_path):
    common = dict(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), add_version=False, **QUICK)
    swift.sft(max_steps=4, **common)
    record = swift.sft(max_steps=2, **common)
    assert record["last_model_checkpoint"] == str(tmp_path / "out" / "checkpoint-2")
    assert len({path.stat().st_mode for path in (tmp_path / "out" / "checkpoint-2").iterdir()}) == 1


def test_a_log_line_for_each_epoch_has_its_accuracy(folder, rows, tmp_path):
    record = swift.sft(
        model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), logging_strategy="epoch", logging_first_step=False,
        **QUICK | dict(num_train_epochs=2),
    )  # fmt: skip
    assert ["token_acc" in entry for entry in record["log_history"] if "loss" in entry] == [True, True]


def test_a_run_without_checkpoints_ends_well(folder, rows, tmp_path):
    record = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), save_strategy="no", **QUICK)
    assert record["last_model_checkpoint"] is None


def test_resuming_by_the_command_ends_with_the_same_bits(folder, rows, tmp_path):
    from safetensors.torch import load_file

    settings = QUICK | dict(num_train_epochs=2, save_steps=7, add_version=False)
    for train_type in ("lora", "full"):
        weights = "adapter_model.safetensors" if train_type == "lora" else "model.safetensors"
        common = dict(model=str(folder), dataset=[str(rows)], train_type=train_type, **settings)
        whole = swift.sft(output_dir=str(tmp_path / train_type / "whole"), **common)
        halfway = tmp_path / train_type / "whole" / "checkpoint-7"
        again = swift.sft(output_dir=str(tmp_path / train_type / "again"), resume_from_checkpoint=str(halfway), **common)
        expected, found = (load_file(Path(record["last_model_checkpoint"]) / weights) for record in (whole, again))
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def command(*words, **environment):
    """The real command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "swift", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


FLAGS = ("--split_dataset_ratio", 0, "--report_to", "none", "--max_length", 64)


@pytest.mark.slow
def test_two_ranks_by_the_environment(folder, rows, tmp_path):
    out = tmp_path / "out"
    done = command("sft", "--model", folder, "--dataset", rows, "--output_dir", out, "--add_version", "false", "--num_train_epochs", 1, *FLAGS,
                   "--create_checkpoint_symlink", "true", NPROC_PER_NODE="2", MASTER_PORT="29617")  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["last_model_checkpoint"] == str(out / "last")
    assert (out / "last" / "rng_state_1.pth").is_file()
    assert done.stderr.count("step 1/12") <= 1 and "run sh:" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_exit_code_1(number, folder, rows, tmp_path):
    out = tmp_path / "out"
    words = ["sft", "--model", folder, "--dataset", rows, "--output_dir", out, "--add_version", "false", "--num_train_epochs", 1000, *FLAGS]
    process = subprocess.Popen([sys.executable, "-m", "swift", *map(str, words)], stderr=subprocess.PIPE, text=True)
    log = out / "logging.jsonl"
    deadline = time.time() + 120
    while not (log.is_file() and log.read_text()) and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors[-2000:]
    assert "Traceback" not in errors and f"stopped by {number.name}" in errors
    (saved,) = out.glob("checkpoint-*")
    done = command("sft", "--model", folder, "--dataset", rows, "--output_dir", out, "--add_version", "false", "--max_steps",
                   int(saved.name.rpartition("-")[2]) + 2, "--resume_from_checkpoint", saved, *FLAGS)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_rows_skipped_while_training_are_counted_at_the_end(folder, tmp_path, capsys):
    data = tmp_path / "mixed.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]})
    data.write_text("\n".join([good, '{"messages": []}', good.replace("hello", "hello " * 200)] * 4))
    swift.sft(model=str(folder), dataset=[str(data)], output_dir=str(tmp_path / "out"), **QUICK | dict(streaming=True, max_steps=6))
    said = capsys.readouterr().err
    assert "rows: 12 read, 8 kept, 4 skipped" in said and "4  no messages" in said
    assert "encoded rows: 8 read, 4 kept, 4 skipped" in said and "longer than max_length 128" in said


def test_each_source_has_its_counts(folder, rows, tmp_path, capsys):
    more = tmp_path / "more.jsonl"
    more.write_text('{"query": "a", "response": "b"}\n{"query": "a"}\n{"query": "a", "response": ""}\n')
    swift.sft(model=str(folder), dataset=[str(rows), str(more)], output_dir=str(tmp_path / "out"), **QUICK | dict(max_steps=1))
    said = capsys.readouterr().err
    assert f"{rows}: 24 read, 24 kept, 0 skipped" in said and f"{more}: 3 read, 2 kept, 1 skipped" in said
    assert "rows: 27 read, 26 kept, 1 skipped" in said and "training rows: 26 read, 25 kept, 1 skipped" in said


@pytest.mark.parametrize("more", [dict(), dict(lazy_tokenize=True), dict(streaming=True, per_device_train_batch_size=3)])
def test_reading_in_other_processes_changes_no_order(more, folder, rows, tmp_path):
    settings = dict(model=str(folder), dataset=[str(rows)], **QUICK | dict(max_steps=4) | more)
    here, elsewhere = (swift.sft(output_dir=str(tmp_path / f"out{n}"), dataloader_num_workers=n, **settings) for n in (0, 2))
    assert losses(here) == losses(elsewhere)


@pytest.mark.parametrize("field", [dict(ddp_backend="gloo"), dict(include_num_input_tokens_seen=True), dict(torch_empty_cache_steps=1)])
def test_fields_that_scripts_carry_do_no_harm(field, folder, rows, tmp_path):
    swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), **QUICK | dict(max_steps=1) | field)

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swift.args.parse import parse
from swift.commands.infer import infer
from swift.commands.infer_chat import Chat
from swift.data.sample import Sample
from swift.engines.engine import Chunk, Sampling
from swift.engines.text_metrics import acc, rouge
from swift.errors import DataError, UsageError
from tests.engines.checkpoints import adapter, checkpoint  # noqa: F401

# A conversation


class Parrot:
    """An engine that says back what it was asked; `asked` keeps every conversation."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []
        self.break_after: int | None = None

    def stream(self, samples, sampling):
        (sample,) = samples
        self.asked.append([(message.role, message.content) for message in sample.messages])
        if sample.messages[-1].content == "too long":
            raise DataError("longer than max_length")
        return self._chunks(f"you said {sample.messages[-1].content}".split(" "))

    def _chunks(self, words):
        for number, word in enumerate(words):
            if number == self.break_after:
                raise KeyboardInterrupt
            yield 0, Chunk((" " if number else "") + word, finish_reason="stop" if number == len(words) - 1 else None)


def talk(tmp_path: Path, *lines: str | BaseException, stream: bool = True, engine: Parrot | None = None):
    """Run the loop over typed lines (an exception is what the terminal raises); (engine, prompts, output, chat)."""
    engine, prompts, output, typed = engine or Parrot(), [], [], iter([*lines, EOFError()])

    def read(prompt: str) -> str:
        prompts.append(prompt)
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    def say(text: str = "", end: str = "\n", flush: bool = False) -> None:
        output.append(text + end)

    chat = Chat(engine, Sampling(), stream=stream, results=tmp_path / "turns.jsonl", read=read, say=say)
    chat.run()
    return engine, prompts, "".join(output), chat


def test_turns_build_a_history_until_it_is_cleared(tmp_path: Path) -> None:
    engine, prompts, output, chat = talk(tmp_path, "hi", "and?", "clear", "", "new", "quit", "never read")
    assert engine.asked == [
        [("user", "hi")],
        [("user", "hi"), ("assistant", "you said hi"), ("user", "and?")],
        [("user", "new")],
    ]
    assert set(prompts) == {"<<< "}
    assert output == "".join(f"you said {text}\n{'-' * 50}\n" for text in ("hi", "and?", "new"))
    lines = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text().splitlines()]
    assert lines == chat.records and list(lines[0]) == ["response", "messages", "images", "audios", "videos"]
    assert lines[1]["messages"][-1] == {"role": "user", "content": "and?"}


def test_the_system_text_is_set_taken_away_and_restored(tmp_path: Path) -> None:
    engine, prompts, _, _ = talk(
        tmp_path, "reset-system", "You are a tree.", "a", "clear", "b", "Reset-System ", "", "c", "reset-system", "default-system", "d"
    )
    assert engine.asked == [
        [("system", "You are a tree."), ("user", "a")],
        [("system", "You are a tree."), ("user", "b")],
        [("system", ""), ("user", "c")],
        [("user", "d")],
    ]
    assert prompts[:3] == ["<<< ", "<<<[S] ", "<<< "]


def test_a_new_system_text_ends_the_history(tmp_path: Path) -> None:
    engine, *_ = talk(tmp_path, "a", "reset-system", "new", "b")
    assert engine.asked[-1] == [("system", "new"), ("user", "b")]


def test_messages_of_several_lines_end_with_a_hash(tmp_path: Path) -> None:
    engine, prompts, _, _ = talk(
        tmp_path, "multi-line", "one", "two#", "clear#", "reset-system#", "be", "brief#", "x#", "single-line#", "y"
    )
    assert engine.asked[0] == [("user", "one\ntwo")]
    assert engine.asked[1] == [("system", "be\nbrief"), ("user", "x")]
    assert engine.asked[2][-1] == ("user", "y")
    assert prompts == ["<<< ", "<<<[M] ", "", "<<<[M] ", "<<<[M] ", "<<<[MS] ", "", "<<<[M] ", "<<<[M] ", "<<< ", "<<< "]


def test_exit_leaves_even_where_a_system_text_is_asked_for(tmp_path: Path) -> None:
    engine, prompts, *_ = talk(tmp_path, "reset-system", " EXIT ", "hi")
    assert engine.asked == [] and len(prompts) == 2


def test_a_tools_result_is_sent_as_one(tmp_path: Path) -> None:
    engine, *_ = talk(tmp_path, "hi", "tool:42")
    assert engine.asked[1][-1] == ("tool", "42")


def test_ctrl_c_stops_an_answer_and_nothing_else(tmp_path: Path) -> None:
    engine = Parrot()
    engine.break_after = 2
    _, _, output, chat = talk(tmp_path, "hi there", KeyboardInterrupt(), "again", engine=engine)
    assert [record["response"] for record in chat.records] == ["you said", "you said"]
    assert engine.asked[1] == [("user", "hi there"), ("assistant", "you said"), ("user", "again")]
    assert output.count("-" * 50) == 2


def test_what_cannot_be_asked_is_not_remembered(tmp_path: Path) -> None:
    engine, *_ = talk(tmp_path, "too long", "hi")
    assert engine.asked[1] == [("user", "hi")]


def test_whole_answers_are_those_of_a_stream(tmp_path: Path) -> None:
    assert talk(tmp_path, "hi", "x")[2] == talk(tmp_path, "hi", "x", stream=False)[2]


# A data set


def rows(path: Path, number: int = 7) -> Path:
    texts = [f"say {'please ' * (n % 4)}{n}" for n in range(number)]
    data = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"label {n}"}], "kind": n}
        for n, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return path


def run(checkpoint: Path, tmp_path: Path, *words: str) -> list[dict]:  # noqa: F811
    result = tmp_path / "out" / "result.jsonl"
    infer(
        parse("infer", ["--model", str(checkpoint), "--result_path", str(result), "--max_new_tokens", "10", "--temperature", "0", *words])
    )
    return [json.loads(line) for line in result.read_text().splitlines()]


def test_each_row_has_its_record(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl")
    records = run(checkpoint, tmp_path, "--val_dataset", str(data), "--remove_unused_columns", "false", "--max_batch_size", "3")
    assert [record["labels"] for record in records] == [f"label {n}" for n in range(7)]
    assert list(records[0]) == ["response", "labels", "logprobs", "messages", "kind"]
    assert records[3]["messages"] == [{"role": "user", "content": "say please please please 3"}] and records[3]["logprobs"] is None
    printed = re.search(r"\[rank-1\] (\{.*\})", capsys.readouterr().out)
    assert printed and "'num_samples': 7" in printed[1]
    assert all(name in printed[1] for name in ("num_prompt_tokens", "num_generated_tokens", "runtime", "samples/s", "tokens/s"))


def test_batches_and_streams_give_the_same_answers(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl")
    whole = run(checkpoint, tmp_path / "a", "--val_dataset", str(data))
    single = run(checkpoint, tmp_path / "b", "--val_dataset", str(data), "--max_batch_size", "1")
    capsys.readouterr()
    streamed = run(checkpoint, tmp_path / "c", "--val_dataset", str(data), "--stream", "true")
    assert whole == single
    assert streamed == [{name: value for name, value in record.items() if name != "logprobs"} for record in whole]
    printed = capsys.readouterr().out
    assert printed.count("[QUERY] say") == printed.count("[LABELS] label") == 7
    assert f"[RESPONSE] {whole[0]['response']}\n{'-' * 50}\n" in printed


def test_sampled_answers_do_not_depend_on_the_batch(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    data, settings = rows(tmp_path / "data.jsonl"), ("--temperature", "1", "--seed", "5")
    one = run(checkpoint, tmp_path / "a", "--val_dataset", str(data), *settings)
    assert one == run(checkpoint, tmp_path / "b", "--val_dataset", str(data), *settings, "--max_batch_size", "2")
    assert one != run(checkpoint, tmp_path / "c", "--val_dataset", str(data), "--temperature", "1", "--seed", "6")


def test_a_row_that_cannot_be_asked_is_recorded_with_the_reason(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl", 3)
    with data.open("a") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "very " * 100}]}) + "\n")
    for stream in ("false", "true"):
        records = run(checkpoint, tmp_path / stream, "--val_dataset", str(data), "--max_length", "60", "--stream", stream)
        assert [("error" in record, record["response"] is None) for record in records] == [(False, False)] * 3 + [(True, True)]
        assert "max_length" in records[3]["error"] and records[3]["labels"] is None


def test_acc_is_of_this_runs_rows_with_labels_only(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # noqa: F811
    answered = [
        record for record in run(checkpoint, tmp_path, "--val_dataset", str(rows(tmp_path / "data.jsonl"))) if record["response"].strip()
    ]
    (tmp_path / "out" / "result.jsonl").write_text('{"response": "of another run", "labels": "old"}\n')
    data, questions = tmp_path / "labelled.jsonl", [record["messages"][0] for record in answered[:4]]
    labels = [answered[0]["response"], "wrong", None, answered[3]["response"]]
    data.write_text("".join(
        json.dumps({"messages": [question, *([{"role": "assistant", "content": label}] if label is not None else [])]}) + "\n"
        for question, label in zip(questions, labels, strict=True)
    ))  # fmt: skip
    capsys.readouterr()
    records = run(checkpoint, tmp_path, "--val_dataset", str(data), "--metric", "acc")
    assert len(records) == 5  # behind what was there
    assert f"{{'acc': {2 / 3}}}" in capsys.readouterr().out


def test_a_sample_of_the_rows_is_drawn_without_repetition(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl")
    few = [record["labels"] for record in run(checkpoint, tmp_path / "a", "--val_dataset", str(data), "--val_dataset_sample", "4")]
    assert len(set(few)) == 4
    assert few == [record["labels"] for record in run(checkpoint, tmp_path / "b", "--val_dataset", str(data), "--val_dataset_sample", "4")]
    many = [record["labels"] for record in run(checkpoint, tmp_path / "c", "--val_dataset", str(data), "--val_dataset_sample", "16")]
    assert len(many) == 16 and all(many.count(label) in (2, 3) for label in set(many))


def test_an_adapter_brings_its_model_and_keeps_the_results(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl", 3)
    records = infer(parse("infer", ["--adapters", str(adapter), "--val_dataset", str(data), "--max_new_tokens", "8", "--temperature", "0"]))
    (path,) = (adapter / "infer_result").glob("*.jsonl")
    assert re.fullmatch(r"\d{8}-\d{6}\.jsonl", path.name)
    assert [json.loads(line) for line in path.read_text().splitlines()] == records
    base = run(checkpoint, tmp_path, "--val_dataset", str(data))
    assert [record["response"] for record in records] != [record["response"] for record in base]
    words = ["--adapters", str(adapter), "--merge_lora", "true", "--val_dataset", str(data), "--max_new_tokens", "8", "--temperature", "0"]
    merged = infer(parse("infer", [*words, "--result_path", str(tmp_path / "merged.jsonl")]))
    assert merged == records


def test_logprobs_are_in_the_record(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    (record,) = run(checkpoint, tmp_path, "--val_dataset", str(rows(tmp_path / "d.jsonl", 1)), "--logprobs", "true", "--top_logprobs", "2")
    assert len(record["logprobs"]["content"][0]["top_logprobs"]) == 2


@pytest.mark.parametrize(("words", "complaint"), [(["--merge_lora", "true"], "--adapters"), (["--metric", "acc"], "--val_dataset")])
def test_what_does_not_go_together_is_said_before_loading(checkpoint: Path, words: list[str], complaint: str) -> None:  # noqa: F811
    with pytest.raises(UsageError, match=complaint):
        infer(parse("infer", ["--model", str(checkpoint), *words]))


def test_a_data_set_too_small_to_split_is_said(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(DataError, match="--val_dataset"):
        run(checkpoint, tmp_path, "--dataset", str(rows(tmp_path / "d.jsonl", 3)))


SCRIPT = "import sys; from swift.llm import infer_main; infer_main(sys.argv[1:])"


def test_two_processes_write_what_one_writes(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    data = rows(tmp_path / "data.jsonl")
    one = run(checkpoint, tmp_path, "--val_dataset", str(data), "--temperature", "1")
    result = tmp_path / "two.jsonl"
    (tmp_path / "start.py").write_text(SCRIPT)
    words = [
        "--model",
        str(checkpoint),
        "--val_dataset",
        str(data),
        "--max_new_tokens",
        "10",
        "--temperature",
        "1",
        "--result_path",
        str(result),
        "--metric",
        "acc",
    ]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29641",
        str(tmp_path / "start.py"),
    ]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *words], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in result.read_text().splitlines()] == one
    assert "[rank0] {'num" in done.stdout and "[rank1] {'num" in done.stdout and done.stdout.count("'acc'") == 1
    assert not list(tmp_path.glob("*.part"))


SLOW_CHAT = """
import sys, time
from pathlib import Path
from swift.commands.infer_chat import Chat
from swift.engines.engine import Chunk, Sampling

class Slow:
    def stream(self, samples, sampling):
        for number in range(1000):
            yield 0, Chunk(f"word{number} ")
            time.sleep(0.05)

Chat(Slow(), Sampling(), stream=True, results=Path(sys.argv[1])).run()
"""


def test_a_terminal_session(tmp_path: Path) -> None:
    """Through a pseudo-terminal: an answer is stopped by Ctrl-C, the conversation goes on, Ctrl-D leaves with exit code 0."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_CHAT, str(tmp_path / "turns.jsonl")],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    os.close(theirs)
    seen = ""

    def wait_for(pattern: str, seconds: float = 90) -> None:
        nonlocal seen
        end = time.monotonic() + seconds
        while not re.search(pattern, seen, re.DOTALL):
            assert time.monotonic() < end, f"{pattern!r} not in {seen!r}"
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 4096).decode(errors="replace")

    try:
        wait_for("<<< ")
        os.write(ours, b"hello\n")
        wait_for("hello\r\nword0 word1 ")
        child.send_signal(signal.SIGINT)
        wait_for("-{50}\r\n<<< $")
        seen = ""
        os.write(ours, b"again\n")
        wait_for("again\r\nword0 ")
        child.send_signal(signal.SIGINT)
        wait_for("-{50}\r\n<<< $")
        os.write(ours, b"\x04")
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        os.close(ours)
    turns = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text().splitlines()]
    assert [turn["content"] for turn in turns[1]["messages"]] == ["hello", turns[0]["response"], "again"]
    assert turns[0]["response"].startswith("word0 word1 ")


# Metrics


def test_acc_is_the_share_of_equal_texts() -> None:
    assert acc([("a", "a"), ("b", "c")]) == {"acc": 0.5}
    assert acc([]) == {}


def test_rouge_of_equal_texts_is_whole_and_of_foreign_ones_nothing() -> None:
    same = rouge([("the cat sat on the mat", "the cat sat on the mat"), ("今天天气很好", "今天天气很好")])
    assert list(same) == ["rouge-1", "rouge-2", "rouge-l", "bleu-4"]
    assert all(value == pytest.approx(100, abs=1e-3) for value in same.values())
    foreign = rouge([("green leaves", "今天天气很好"), ("", "not counted")])
    assert foreign["rouge-1"] == foreign["rouge-l"] == 0 and foreign["bleu-4"] < 1


def test_samples_keep_their_answer() -> None:
    from swift.commands.infer_rows import split_answer

    sample = Sample.of(("user", "a"), ("assistant", "b"), ("assistant", "c"))
    asked, label = split_answer(sample)
    assert (len(asked.messages), label, len(sample.messages)) == (1, "bc", 3)

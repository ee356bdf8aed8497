"""swift deploy as a process of its own: signals, https, adapters, classifiers, ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import swift
from swift.args.parse import ArgumentErrors, parse
from swift.commands.deploy import deploy
from swift.errors import SwiftError, UsageError
from swift.llm import DeployArguments, InferArguments, InferClient, InferRequest, RequestConfig, run_deploy
from swift.serve import deployed
from swift.serve.ports import bind, is_loopback
from tests import tiny
from tests.engines.checkpoints import adapter, checkpoint, make_adapter  # noqa: F401

HI = {"messages": [{"role": "user", "content": "say 3 please"}], "temperature": 0, "max_tokens": 24}


def complete(url: str, model: str, **more: Any) -> str:
    response = httpx.post(f"{url}/chat/completions", json=HI | {"model": model} | more, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


@contextmanager
def started(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """(process, URL, its log) of `swift deploy` once it answers."""
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    log = folder / "log.txt"
    command = [sys.executable, "-m", "swift", "deploy", "--host", "127.0.0.1", "--port", str(port), "--log_interval", "1000", *words]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=folder, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        )
    try:
        deployed._wait_until_ready(process, f"http://127.0.0.1:{port}/health")
        yield process, f"http://127.0.0.1:{port}/v1", log
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_server_that_is_terminated_under_load_answers_or_refuses_every_request(tmp_path: Path) -> None:
    outcomes: list[str] = []
    with started(tmp_path, "--model", "swift/nano", "--verbose", "false") as (process, url, log):
        stop = threading.Event()

        def ask(number: int) -> None:
            body = {"model": "nano", "messages": [{"role": "user", "content": f"What is {number} + 1?"}], "stream": True, "max_tokens": 400}
            body |= {"temperature": 3}  # long answers
            while not stop.is_set():
                try:
                    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=120) as response:
                        text = "".join(response.iter_text())
                    whole = text.endswith("data: [DONE]\n\n") and '"error"' not in text
                    outcomes.append(str(response.status_code) if response.status_code != 200 or whole else "broken")
                except httpx.ConnectError:
                    outcomes.append("no connection")
                except httpx.TransportError as wrong:
                    outcomes.append(type(wrong).__name__)
                if outcomes[-1] != "200":
                    return

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        while outcomes.count("200") < 5 and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 0
        stop.set()
        for thread in threads:
            thread.join()
    assert set(outcomes) <= {"200", "503", "no connection"}, outcomes
    assert outcomes.count("200") > 5 and "running requests are finished first" in log.read_text()
    assert "Traceback" not in log.read_text() and "'num_samples'" in log.read_text()


@pytest.mark.slow
def test_adapters_are_served_beside_the_model(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:  # noqa: F811
    other = make_adapter(checkpoint, tmp_path / "other", seed=5)
    args = DeployArguments(
        model=str(checkpoint), adapters=[f"a={adapter}", f"b={other}"], served_model_name="base", verbose=False, log_interval=-1,
        result_path=str(tmp_path / "r.jsonl"), api_key="k",
    )  # fmt: skip
    local = swift.llm.PtEngine(str(checkpoint))
    wanted = {}
    config = RequestConfig(max_tokens=24, temperature=0)
    for name, one in (("base", None), ("a", swift.llm.AdapterRequest("a", str(adapter))), ("b", swift.llm.AdapterRequest("b", str(other)))):
        (answer,) = local.infer([InferRequest(HI["messages"])], config, adapter_request=one)  # type: ignore[arg-type]
        wanted[name] = answer.choices[0].message.content
    assert len(set(wanted.values())) == 3
    with run_deploy(args) as port:
        client = InferClient(port=port, api_key="k")
        assert client.models == ["base", "a", "b"]
        for _ in range(2):
            for name, text in wanted.items():
                (answer,) = client.infer([InferRequest(HI["messages"])], config, model=name)  # type: ignore[arg-type]
                assert answer.choices[0].message.content == text and answer.model == name
        with pytest.raises(Exception, match="not in the model_list"):
            client.infer([InferRequest(HI["messages"])], model="c")  # type: ignore[arg-type]
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 6
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0  # it is gone


@pytest.mark.slow
def test_a_classifier_is_served(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny-llama")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"say {n}"}], "label": n % 3}) + "\n" for n in range(12)))
    record = swift.sft(model=str(folder), dataset=[str(rows)], output_dir=str(tmp_path / "out"), num_labels=3, split_dataset_ratio=0, max_steps=2,
                       report_to="none", learning_rate=1e-2, max_length=64, add_version=False)  # fmt: skip
    trained = record["last_model_checkpoint"]
    with run_deploy(DeployArguments(adapters=[trained], served_model_name="judge", verbose=False), return_url=True) as url:
        client = InferClient(base_url=url)
        requests = [InferRequest([{"role": "user", "content": f"say {n}"}]) for n in range(9)]
        served = client.infer(requests, RequestConfig(logprobs=True), use_tqdm=False)
        local = swift.llm.PtEngine(str(folder), adapters=[trained]).infer(requests, RequestConfig(logprobs=True), use_tqdm=False)
        assert [one.choices[0].message.content for one in served] == [one.choices[0].message.content for one in local]
        got, own = served[0].choices[0].logprobs["content"], local[0].choices[0].logprobs["content"]
        assert got["index"] == own["index"] and got["logprob"] == pytest.approx(own["logprob"], abs=1e-5)
        assert complete(url, "judge") in ("0", "1", "2")
        body = {"model": "judge", "prompt": [1, 2]}
        assert httpx.post(f"{url}/completions", json=body).status_code == 400
    assert list((Path(trained) / "deploy_result").glob("*.jsonl"))


@pytest.mark.slow
def test_https_and_a_host_of_ones_own(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    if subprocess.run(["which", "openssl"], capture_output=True, check=False).returncode:
        pytest.skip("no openssl to make a certificate with")
    subprocess.run([*make, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    args = DeployArguments(model="swift/nano", ssl_keyfile=str(key), ssl_certfile=str(certificate), result_path=str(tmp_path / "r.jsonl"))
    with run_deploy(args, return_url=True) as url:
        assert url.startswith("https://127.0.0.1:")
        response = httpx.get(f"{url}/models", verify=__import__("ssl").create_default_context(cafile=str(certificate)))
        assert response.json()["data"][0]["id"] == "nano"


@pytest.mark.slow
def test_a_server_that_cannot_start_is_not_waited_for(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with pytest.raises(SwiftError, match="ended with exit code 1"), run_deploy(DeployArguments(model=str(broken))):
        pass
    with pytest.raises(UsageError, match="takes DeployArguments"), run_deploy({"model": "x"}):  # type: ignore[arg-type]
        pass


def test_arguments_of_other_commands_are_taken_where_deploy_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    real = subprocess.Popen

    def start(words: list[str], **_: Any) -> subprocess.Popen[bytes]:
        seen.append(json.loads(Path(words[2]).read_text()))
        return real([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(subprocess, "Popen", start)
    args = InferArguments(model="swift/nano", adapters=["x=org/a"], temperature=0.5)
    with pytest.raises(SwiftError, match="exit code 3"), run_deploy(args):
        pass
    port = seen[0].pop("port")
    assert 8000 <= port < 8100
    assert seen == [{"model": "swift/nano", "adapters": ["x=org/a"], "temperature": 0.5, "host": "127.0.0.1"}]


def test_a_taken_port_is_said_and_the_next_one_used(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            other = second.getsockname()[1]
            assert port < other < port + 100
            assert f"port {port} is taken; the server listens at {other}" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--host"):
        bind("no such host.", 8000)
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("192.168.0.1")


def problems(*words: str) -> list[str]:
    with pytest.raises(ArgumentErrors) as raised:
        parse("deploy", ["--model", "org/nano", *words])
    return raised.value.problems


def test_what_does_not_go_together_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    assert "belong together" in problems("--ssl_keyfile", str(_touched(tmp_path / "k")))[0]
    assert "cert.pem is not there" in problems("--ssl_certfile", "./cert.pem", "--ssl_keyfile", str(_touched(tmp_path / "k")))[0]
    assert "two models would be served as 'nano'" in problems("--adapters", "nano=org/a")[0]
    assert "two models would be served as 'x'" in problems("--adapters", "x=org/a", "x=org/b")[0]
    assert "no name before the '='" in problems("--adapters", "=org/a")[0]
    assert "one merged model" in problems("--merge_lora", "true", "--adapters", "x=org/a")[0]
    assert "more than --max_logprobs" in problems("--top_logprobs", "5", "--max_logprobs", "3")[0]
    notes = parse("deploy", ["--model", "org/nano", "--metric", "acc", "--stream", "true"]).notes
    assert len(notes) == 2 and all("no effect in swift deploy" in note for note in notes)
    assert parse("deploy", ["--model", "org/nano", "--top_logprobs", "5"]).generation.top_logprobs == 5


def _touched(path: Path) -> Path:
    path.touch()
    return path


SCRIPTS: dict[str, str] = {  # the flags of example scripts that start a server (specification, 10.1)
    "deploy/bert/server.sh": "host port adapters served_model_name infer_backend truncation_strategy max_length",
    "deploy/lora/server.sh": "host port adapters infer_backend",
    "deploy/reward_model/server.sh": "host port model infer_backend",
    "deploy/server/demo.sh": "model infer_backend served_model_name",
    "train/seq_cls/bert/deploy.sh": "adapters served_model_name truncation_strategy max_length",
    "train/seq_cls/qwen2_5/deploy.sh": "adapters",
}
VALUES = {
    "host": ["0.0.0.0"], "port": ["8000"], "adapters": ["lora1=org/a", "lora2=org/b"], "served_model_name": ["bert"], "infer_backend": ["pt"],
    "truncation_strategy": ["right"], "max_length": ["512"], "model": ["org/model"],
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_that_start_a_server_are_accepted(script: str) -> None:
    parse("deploy", [word for flag in SCRIPTS[script].split() for word in (f"--{flag}", *VALUES[flag])])


def test_the_parts_can_be_had_without_an_engine() -> None:
    model, template = swift.llm.prepare_model_template(DeployArguments(model="swift/nano", system="Be brief."))
    assert model.config.vocab_size and template.args.system == "Be brief."


def test_listening_for_everybody_without_a_key_is_said_loudly(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    served: list[tuple[str, int]] = []
    monkeypatch.setattr("swift.serve.server.serve", lambda door, listener, **_: served.append(listener.getsockname()))
    loud = "ANYBODY WHO REACHES PORT"
    for words, wanted in (([], True), (["--api_key", "k"], False), (["--host", "127.0.0.1"], False), (["--host", "localhost"], False)):
        deploy(parse("deploy", ["--model", "swift/nano", "--port", "0", "--result_path", str(tmp_path / "r.jsonl"), *words]))  # type: ignore[arg-type]
        told = capsys.readouterr().err
        assert (loud in told) is wanted and f":{served[-1][1]}/v1" in told and "model_list: ['nano']" in told, words


def test_a_missing_package_is_said_with_the_line_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(UsageError, match=r"swift deploy needs fastapi\. Install it with: pip install fastapi"):
        deploy(parse("deploy", ["--model", "swift/nano", "--port", "0"]))  # type: ignore[arg-type]


def test_deploy_starts_no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    from swift.cli import main as cli

    monkeypatch.setenv("NPROC_PER_NODE", "2")
    monkeypatch.setattr(cli, "execute", lambda args: {"exit_code": 5 if args.NAME == "deploy" else 6})
    assert cli.main(["deploy", "--model", "org/nano"]) == 5

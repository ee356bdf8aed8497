"""run_deploy: a server in a process of its own for as long as a block runs."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from swift import cli
from swift.args.commands import Command, DeployCommand
from swift.args.spec import specs
from swift.errors import SwiftError, UsageError
from swift.serve.ports import bind

POLL_SECONDS = 0.25
STOP_SECONDS = 30.0  # for the child to finish what runs; then it is killed


@contextmanager
def run_deploy(deploy_args: Command, return_url: bool = False) -> Iterator[Any]:
    """Start `swift deploy`, wait until it answers, give its port (or http://127.0.0.1:port/v1), and stop it when the block ends.

    Arguments of other commands may be given: those that swift deploy has are used. A host that was not chosen is this machine alone.
    Raises SwiftError where the server ends before it answers.
    """
    if not isinstance(deploy_args, Command):
        raise UsageError(f"run_deploy takes DeployArguments(…), not {type(deploy_args).__name__}")
    known = specs(DeployCommand)
    given = {name: value for name, value in deploy_args.given.items() if name in known and value is not None}
    given.setdefault("host", "127.0.0.1")
    with bind(given["host"], given.get("port", known["port"].default)) as free:
        given["port"] = free.getsockname()[1]
    scheme = "https" if given.get("ssl_certfile") else "http"
    host = "[::1]" if given["host"] in ("::", "::1") else "127.0.0.1" if given["host"] in ("0.0.0.0", "localhost") else given["host"]
    url = f"{scheme}://{host}:{given['port']}"
    with tempfile.TemporaryDirectory() as folder:  # nobody else can read it: there may be a key in it
        file = Path(folder) / "deploy.json"
        file.write_text(json.dumps(given, ensure_ascii=False), encoding="utf-8")
        script = Path(cli.__path__[0]) / "deploy.py"
        process = subprocess.Popen([sys.executable, str(script), str(file)], stdin=subprocess.DEVNULL)
        try:
            _wait_until_ready(process, f"{url}/health")
            yield f"{url}/v1" if return_url else given["port"]
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # a certificate of one's own; nothing secret is sent
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody))
    while True:
        if (code := process.poll()) is not None:
            raise SwiftError(f"swift deploy ended with exit code {code} before it answered; what it wrote above says why")
        try:
            with direct.open(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

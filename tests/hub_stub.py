"""A hub on loopback that speaks enough of Hugging Face's and ModelScope's protocols to serve one repository of each kind."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "0" * 39 + "1"


class Hub:
    """`files`: path in the repository → content. `requests` holds what was asked; `token`, where set, is demanded."""

    def __init__(self, files: dict[str, bytes], token: str | None = None) -> None:
        self.files, self.token = files, token
        self.requests: list[str] = []
        self.address = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
        parts = path.strip("/").split("/")
        if "missing" in path:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if path.startswith("/api/v1/") and parts[-1] in ("files", "tree"):
            listed = [
                {
                    "Name": name.rpartition("/")[2],
                    "Path": name,
                    "Type": "blob",
                    "Size": len(body),
                    "Sha256": hashlib.sha256(body).hexdigest(),
                    "Revision": COMMIT,
                }
                for name, body in self.files.items()
            ]
            return 200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed, "TotalCount": len(listed)}}).encode(), {}
        if path.startswith("/api/v1/") and parts[-1] == "repo":
            return self._file(query["FilePath"][0])
        if path.startswith("/api/") and "revision" in parts:
            siblings = [{"rfilename": name} for name in self.files]
            return 200, json.dumps({"id": "org/thing", "sha": COMMIT, "siblings": siblings}).encode(), {}
        if path.startswith("/api/") and "tree" in parts:
            oid = {name: hashlib.sha1(body).hexdigest() for name, body in self.files.items()}
            return 200, json.dumps([{"type": "file", "path": n, "size": len(b), "oid": oid[n]} for n, b in self.files.items()]).encode(), {}
        if "resolve" in parts:
            return self._file("/".join(parts[parts.index("resolve") + 2 :]))
        return 404, b"{}", {}

    def _file(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        body = self.files[unquote(name)]
        return 200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            hub.requests.append(f"{self.command} {unquote(self.path)}")
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                status, body, headers = 403, b"{}", {"X-Error-Code": "GatedRepo"}
            else:
                status, body, headers = hub.answer(url.path, parse_qs(url.query))
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

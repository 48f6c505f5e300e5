"""The audit against a service of our own that speaks OSV's protocol: what it knows, and what it cannot answer.

The real service cannot be had in a test: what it knows changes, and so would the test's answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KNOWN = {
    "id": "PYSEC-0000-1",
    "summary": "anybody may do anything",
    "details": "anybody may do anything",
    "published": "2026-01-01T00:00:00Z",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "numpy"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
    ],
}


class Service(ThreadingHTTPServer):
    """Answers each query, counting the packages it was asked about."""

    def __init__(self, vulnerable: str | None = None, refused: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.vulnerable, self.refused = vulnerable, refused
        self.asked: set[str] = set()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Service)
        query: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.server.asked.add(name)
        self.send_response(503 if name == self.server.refused else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [KNOWN]} if name == self.server.vulnerable else {}).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(service: Service) -> Iterator[str]:
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{service.server_address[1]}/v1/query"
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.audit"],
        cwd=ROOT,
        env={**os.environ, "STREAMD_OSV_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_everything_installed_is_looked_up_but_streamd() -> None:
    service = Service()
    with serving(service) as url:
        done = audit(url)
    assert done.returncode == 0, done.stderr
    assert {"numpy", "av", "pyzmq", "onnx", "pytest"} <= service.asked
    assert "streamd" not in service.asked
    assert f"audit: {len(service.asked)} packages looked up" in done.stdout


def test_a_known_vulnerability_fails() -> None:
    with serving(Service(vulnerable="numpy")) as url:
        done = audit(url)
    assert done.returncode != 0
    assert "PYSEC-0000-1" in done.stdout
    assert "audit: failed" in done.stderr


@pytest.mark.parametrize("refused", ["numpy", "nobody"])
def test_what_could_not_be_looked_up_fails(refused: str) -> None:
    with serving(Service(refused=refused)) as url:
        done = audit(url if refused == "numpy" else "http://127.0.0.1:9/v1/query")
    assert done.returncode != 0
    assert "audit: failed" in done.stderr

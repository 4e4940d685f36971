"""A ClickHouse engine of a test's own, as a process on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.support import eventually

MODULE = "tradetape.infra.embedded.clickhouse_server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Server:
    """The process and its address."""

    process: subprocess.Popen[bytes]
    port: int
    path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, body: bytes | None = None, headers: dict[str, str] | None = None, **params: str) -> Answer:
        """What curl would get: GET without a body, POST with one."""
        request = urllib.request.Request(f"{self.url}/?{urlencode(params)}", data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def command(path: Path, port: int) -> list[str]:
    return [sys.executable, "-m", MODULE, "--path", str(path), "--host", "127.0.0.1", "--port", str(port)]


@contextmanager
def serve(path: Path, port: int = 0) -> Iterator[Server]:
    """A server on ``path``, stopped at the end by SIGTERM; as in a home it works in the folder above."""
    port = port or free_port()
    with subprocess.Popen(command(path, port), stderr=subprocess.DEVNULL, cwd=path.parent) as process:
        server = Server(process, port, path)

        def pings() -> bool:
            assert process.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"{server.url}/ping", timeout=5) as response:
                    return bool(response.read() == b"Ok.\n")
            except (urllib.error.URLError, ConnectionError):
                return False

        try:
            eventually(pings, 60, "the server answers")
            yield server
        finally:
            process.terminate()
            process.wait(30)

"""Processes that are started again and again, forked from one that has imported what they run.

Most of what such a process costs is its imports and generating its codecs. A forked one is as much a process of its
own: it has its pid, its environment and its files, runs ``main()`` from the beginning, and a SIGKILL ends it where it
stands.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module, reload
from pathlib import Path
from shutil import rmtree
from socket import AF_UNIX, SOCK_STREAM, socket
from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer
from types import TracebackType
from typing import Any, Self

from tests.support import eventually

from tradetape.schemas import codec, generated
from tradetape.schemas.catalogue import OUTPUTS, event_types, output_schema

CLI, TABLES = "tradetape.infra.cli.main", "tests.integration.connect_tables"
COMMANDS = (
    CLI,
    TABLES,
    *(f"tradetape.infra.{name}" for name in ("completeness", "connect_file", "fleet", "reconcile", "replay", "report")),
    "tradetape.infra.embedded.lifecycle",
    "tradetape.producers.bridge.orders",
    "tradetape.producers.emitter",
    "tradetape.producers.gateway.main",
    "tradetape.sinks.queries",
)
"""The command line, and what most of its commands import."""

START_SECONDS = 60.0


class Process:
    """One process, as ``subprocess.Popen`` has it; any thread may ask."""

    def __init__(self, connection: socket) -> None:
        self.returncode: int | None = None
        self._connection = connection
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has one; raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM, while it runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, while it runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, number)

    def _wait(self) -> None:
        """Take its exit code; only then its parent forgets it, so that its pid stays its own."""
        code = int(self._answers.readline())
        with self._lock:
            self.returncode = code
            self._answers.close()
            self._connection.close()
        self._ended.set()


class Forks:
    """Starts processes that run ``main()`` of one of ``modules``."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._folder = tempfile.mkdtemp()
        self._path = f"{self._folder}/forks"
        self._server = subprocess.Popen([sys.executable, "-m", "tests.forks", self._path, *modules])

    def __enter__(self) -> Self:
        eventually(lambda: self._server.poll() is not None or Path(self._path).exists(), START_SECONDS, "the imports")
        assert self._server.poll() is None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.terminate()
        self._server.wait()
        rmtree(self._folder)

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        stdin: Path | None = None,
        errors: Path | None = None,
    ) -> Process:
        """A process in ``env`` that says what it says into ``log``; what is wrong into ``errors``, if that is given."""
        log.touch()
        connection = socket(AF_UNIX, SOCK_STREAM)
        connection.connect(self._path)
        files = [str(path) for path in (stdin or os.devnull, log, errors or log)]
        request = {"module": module, "arguments": list(arguments), "env": dict(env), "files": files}
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Process(connection)

    def run(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], stdin: bytes = b"", seconds: float = 240.0
    ) -> subprocess.CompletedProcess[bytes]:
        """What a process came to in the end, as ``subprocess.run`` has it with its output captured."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            for file, content in zip(files, (stdin, b"", b""), strict=True):
                file.write_bytes(content)
            process = self.start(module, arguments, env, files[1], stdin=files[0], errors=files[2])
            try:
                code = process.wait(seconds)
            finally:
                process.kill()
            return subprocess.CompletedProcess([module, *arguments], code, *(file.read_bytes() for file in files[1:]))


class _Server(ForkingMixIn, UnixStreamServer):
    request_queue_size = 16
    max_children = 1000
    tests = os.getppid()

    def service_actions(self) -> None:
        """Do not outlive the tests."""
        super().service_actions()
        if os.getppid() != self.tests:
            sys.exit()


class _Keeper(StreamRequestHandler):
    """In a process of its own: starts the one that is asked for, and tells its pid and how it ended."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        pid = os.fork()
        if pid == 0:
            self.connection.close()
            _run(**request)
        self.wfile.write(b"%d\n" % pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        with suppress(OSError):  # the tests may have ended first
            self.wfile.write(b"%d\n" % code)
            self.rfile.read()
        os.waitpid(pid, 0)


def _run(module: str, arguments: list[str], env: dict[str, str], files: list[str]) -> None:
    """Be the process; does not return."""
    code: Any = 1
    try:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(files[0], os.O_RDONLY), 0)
        for number, file in enumerate(files[1:], 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), number)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = [module, *arguments]
        reload(import_module("tradetape.schemas.crashpoints"))
        code = import_module(module).main() or 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            code = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def generate_codecs() -> None:
    """Code that reads and writes our records: a process that comes from here finds it generated."""
    for schema in (*(each.schema for each in event_types().values()), *map(output_schema, OUTPUTS)):
        generated.encoder(json.dumps(schema))
        generated.decoder(json.dumps(codec.strip_times(schema)))


def main(path: str, *modules: str) -> None:
    """Import ``modules``, and serve at ``path`` until SIGTERM."""
    for module in modules:
        import_module(module)
    generate_codecs()
    with _Server(f"{path}.new", _Keeper) as server:
        Path(f"{path}.new").rename(path)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The ClickHouse engine of this process: one connection per request, so that no setting outlives its request.

A connection costs 0.2 ms, connections run in parallel, and the engine releases the interpreter while it works. One
more connection stays open from start to close: the engine ends with its last connection.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chdb.state.sqlitelike import Connection

from tradetape.infra.embedded.clickhouse_statement import Statement
from tradetape.schemas.errors import TradetapeError

_CODE = re.compile(r"Code: (\d+)\. ")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
UNKNOWN_SETTING = 115


class EngineError(Exception):
    """The engine refused a statement: ClickHouse's own code and message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        found = _CODE.search(message)
        self.code = int(found.group(1)) if found else 1002
        start = found.start() if found else 0
        self.message = message[start:]


@dataclass(slots=True)
class Summary:
    """What a finished statement read and wrote, in rows and bytes."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    result_rows: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A statement with everything that applies to it alone; ``readonly`` is ClickHouse's 0, 1 or 2."""

    statement: Statement
    database: str = ""
    settings: Mapping[str, str] | None = None
    params: Mapping[str, str] | None = None
    readonly: int = 0


class Result:
    """The chunks of an answer; ``summary`` is complete when they are exhausted."""

    def __init__(self, chunks: Iterator[bytes], summary: Summary) -> None:
        self.chunks = chunks
        self.summary = summary


class Engine:
    """The engine on ``path``. Raises TradetapeError where the path cannot be opened or another process has it."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _claim(path)
        except OSError as error:
            raise TradetapeError(f"cannot create {path}: {error.strerror}", hint="choose another --path") from error
        self._path = str(path)
        try:
            self._anchor = Connection(self._path)
            self.version = self._anchor.query("SELECT version()", "TSVRaw").data().strip()
            self.timezone = self._anchor.query("SELECT timezone()", "TSVRaw").data().strip()
        except RuntimeError as error:
            os.close(self._lock)
            text = " ".join(str(error).split())
            raise TradetapeError(f"cannot open {path}: {text[:300]}", hint="check the disk and its rights") from error

    def close(self) -> None:
        """End the engine: what was acknowledged is on disk, its files are closed."""
        self._anchor.close()
        os.close(self._lock)

    def execute(self, request: Request) -> Result:
        """Run ``request``. Blocks until the first chunk is there. Raises EngineError.

        The caller exhausts or closes ``chunks``, which may raise EngineError too.
        """
        summary = Summary()
        chunks = self._run(request, summary)
        first = next(chunks, b"")
        return Result(_chain(first, chunks), summary)

    def _run(self, request: Request, summary: Summary) -> Iterator[bytes]:
        try:
            with self._connection(request) as connection, _data_file(request.statement) as sql:
                if request.statement.stream:
                    yield from _streamed(connection, request, sql, summary)
                else:
                    yield _materialised(connection, request, sql, summary)
        except RuntimeError as error:
            raise EngineError(" ".join(str(error).split("\x00"))) from None

    @contextmanager
    def _connection(self, request: Request) -> Iterator[Connection]:
        connection = Connection(self._path)
        try:
            if request.settings:
                connection.query("SET " + ", ".join(_assignment(k, v) for k, v in request.settings.items()))
            if request.database:
                connection.query(f"USE {_identifier(request.database)}")
            if request.readonly:
                connection.query(f"SET readonly = {request.readonly}")
            yield connection
        finally:
            connection.close()


def _claim(path: Path) -> int:
    """The lock that one process holds on ``path``; the kernel frees it however that process ends."""
    descriptor = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise TradetapeError(
            f"{path} is in use by another ClickHouse engine", hint="stop that process or choose another --path"
        ) from error
    return descriptor


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _materialised(connection: Connection, request: Request, sql: str, summary: Summary) -> bytes:
    result = connection.query(sql, request.statement.output_format, params=dict(request.params or {}))
    summary.read_rows = result.storage_rows_read()
    summary.read_bytes = result.storage_bytes_read()
    summary.written_rows = result.rows_written()
    summary.result_rows = result.rows_read()
    return bytes(result.bytes())


def _streamed(connection: Connection, request: Request, sql: str, summary: Summary) -> Iterator[bytes]:
    params = dict(request.params or {})
    stream = connection.send_query(sql, request.statement.output_format, params=params)
    try:
        for chunk in stream:
            summary.result_rows += chunk.rows_read()
            summary.read_rows = max(summary.read_rows, chunk.storage_rows_read())
            summary.read_bytes = max(summary.read_bytes, chunk.storage_bytes_read())
            yield bytes(chunk.bytes())
    finally:
        stream.close()


@contextmanager
def _data_file(statement: Statement) -> Iterator[str]:
    """The statement's text, its data in a file in memory that goes with the statement."""
    if statement.data is None:
        yield statement.sql
        return
    descriptor = os.memfd_create("clickhouse-insert")
    try:
        view = memoryview(statement.data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield statement.with_file(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _assignment(name: str, value: str) -> str:
    if not _SETTING.match(name):
        raise EngineError(f"Code: {UNKNOWN_SETTING}. DB::Exception: {name!r} is no setting. (UNKNOWN_SETTING)")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name} = '{escaped}'"


def _identifier(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"

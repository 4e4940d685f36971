"""ClickHouse as the sink and the read side use it: a thin layer over clickhouse-connect.

The same statements run on the embedded engine and on a server (design, Stack). What may be retried, what the data
cannot pass and what a person must put right are three different errors here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import orjson
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from urllib3.exceptions import HTTPError

from tradetape.schemas.catalogue import Schema
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.container import Container
from tradetape.sinks.ledger import Position
from tradetape.sinks.tables import ARCHIVE_RUNS, SENTINEL_VALUE, Table, plan

# They log every failed request, with tracebacks; each of them reaches the caller as one of the errors below.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

CONNECT_SECONDS = 5
ANSWER_SECONDS = 120

# One insert must be one block: with several, a retry under one token doubles some rows and loses others. A batch has
# at most 50,000 rows and 32 MB, or one record of up to 32 MB; these bounds lie far above both.
_ONE_BLOCK: Mapping[str, Any] = {
    "max_insert_threads": 1,
    "max_block_size": 1_000_000,
    "max_insert_block_size": 1_000_000,
    "min_insert_block_size_rows": 1_000_000,
    "min_insert_block_size_bytes": 1_000_000_000,
}

_END = b"\x04" + SENTINEL_VALUE.encode()
"""The sentinel as an Avro string."""

# ClickHouse's codes for data that cannot be read or stored as it is.
_DATA_CODES = frozenset(
    {6, 26, 27, 32, 33, 34, 38, 41, 53, 69, 70, 72, 117, 128, 130, 131, 173, 190, 321, 349, 376, 395, 407, 441, 467}
    | {542, 562, 568, 636, 748}
)
# Codes that no retry and no other data would change: the store is not what this code expects, or refuses it.
_SETUP_CODES = frozenset({8, 10, 16, 36, 44, 46, 47, 60, 62, 73, 81, 115, 164, 192, 193, 194, 195, 497, 516})


UNKNOWN_TABLES = frozenset({60, 81})
"""ClickHouse's codes for a table or database that is not there: the sink has not run yet."""


class StoreUnavailable(TradetapeError):
    """ClickHouse does not answer, or cannot take it now: try again later."""


class BatchRefused(Exception):
    """ClickHouse cannot store these rows; none of them landed. ``message`` is its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class QueryRefused(TradetapeError):
    """ClickHouse answers that the statement is wrong; ``code`` is its own."""

    def __init__(self, code: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Store:
    """ClickHouse at ``url`` (``http[s]://[user:password@]host:port``), connected on first use.

    Every method raises StoreUnavailable where ClickHouse does not answer and QueryRefused where it refuses the
    statement. Not thread-safe.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Client | None = None
        self._containers: dict[int, tuple[Schema, Container, dict[str, str]]] = {}

    def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def command(self, sql: str, settings: Mapping[str, Any] | None = None) -> None:
        """Run a statement without a result."""
        with self._errors():
            self._connected().command(sql, settings=dict(settings or {}))

    def query(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """The rows of a read; ``params`` fill ``{name:Type}``."""
        with self._errors():
            result = self._connected().query(sql, parameters=dict(params or {}), settings=dict(settings or {}))
            return [tuple(row) for row in result.result_rows]

    def raw(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        output_format: str = "JSONEachRow",
    ) -> Iterator[bytes]:
        """The answer of a read in ClickHouse's own ``output_format``, in pieces as they arrive."""
        with self._errors():
            stream = self._connected().raw_stream(
                sql, parameters=dict(params or {}), settings=dict(settings or {}), fmt=output_format
            )
            with stream:
                while piece := stream.read(1 << 18):
                    yield piece

    def insert(self, table: Table, schema: Schema, bodies: Sequence[bytes], token: str, comment: str = "") -> None:
        """Land undecoded ``bodies``, written with ``schema``, in ``table``: all of them, or none.

        The same ``token`` again lands nothing; ``comment`` names the statement while it runs. Raises BatchRefused where
        the rows cannot be stored as they are.
        """
        if not bodies[-1].endswith(_END):
            # The reader stops behind the last row, so bytes left over there would pass unseen.
            raise BatchRefused(0, "the last row does not end with its sentinel")
        container, statements = self._layout(schema)
        statement = statements.get(table.name)
        if statement is None:
            statement = statements[table.name] = plan(table, schema)
        settings = {
            **_ONE_BLOCK,
            "insert_deduplication_token": token,
            "use_structure_from_insertion_table_in_table_functions": 0,
            # On a cluster: an answer means that the shard has it.
            "distributed_foreground_insert": 1,
            # What is there already still goes on to the views, which may have missed it when ClickHouse died.
            "deduplicate_blocks_in_dependent_materialized_views": 1,
            "log_comment": comment,
        }
        try:
            # A view goes out as it is; bytes would be copied, and decoded to guess whether the statement reads.
            self._insert(statement, memoryview(container.pack(bodies)), "Avro", settings)
        except QueryRefused as error:
            if error.code in _DATA_CODES:
                raise BatchRefused(error.code, error.message) from error
            raise

    def insert_json(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert ``rows`` of plain values into ``table`` (its full name)."""
        self._insert(table, b"\n".join(map(orjson.dumps, rows)), "JSONEachRow")

    def insert_binary(self, table: str, columns: Sequence[str], rows: bytes, token: str) -> None:
        """Land ``rows``, written as RowBinary of ``columns``, in ``table``; the same ``token`` again lands nothing."""
        settings = {**_ONE_BLOCK, "insert_deduplication_token": token}
        self._insert(f"{table} ({', '.join(columns)})", rows, "RowBinary", settings)

    def _insert(
        self, target: str, data: bytes | memoryview, data_format: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        settings = {**(settings or {}), "async_insert": 0}
        with self._errors():
            self._connected().raw_insert(target, insert_block=data, settings=settings, fmt=data_format)

    def is_inserting(self, word: str) -> bool:
        """Whether an insert whose comment has this ``word`` is running on the server that answers."""
        sql = "SELECT count() FROM system.processes WHERE has(splitByChar(' ', Settings['log_comment']), {word:String})"
        return bool(self.query(sql, {"word": word})[0][0])

    def copy(self, table: Table, target: str, raw_partition: int, first_offset: int, last_offset: int) -> None:
        """Insert the rows of ``table`` between two offsets (both included) into ``target`` (its full name), which has
        the same columns and keeps one of equal rows.
        """
        self.command(
            f"INSERT INTO {target} SELECT * FROM {table.full_name} WHERE raw_partition = {raw_partition:d} "
            f"AND raw_offset BETWEEN {first_offset:d} AND {last_offset:d}"
        )

    def stored(
        self, sources: Sequence[tuple[Table, str]], raw_partition: int, first_offset: int, last_offset: int
    ) -> set[Position]:
        """Which positions of ``raw_partition`` between two offsets (both included) are stored or archived.

        ``sources`` are tables, each with the condition on its rows that count; what is archived counts anyway.
        """
        found = self.query(
            " UNION ALL ".join(
                [
                    *(
                        f"SELECT raw_offset, derived_seq FROM {table.full_name} WHERE {condition} "
                        "AND raw_partition = {raw_partition:Int32} "
                        "AND raw_offset BETWEEN {first:Int64} AND {last:Int64}"
                        for table, condition in sources
                    ),
                    "SELECT arrayJoin(range(greatest(first, {first:Int64}), least(last, {last:Int64}) + 1)) AS offset, "
                    f"derived_seq FROM {ARCHIVE_RUNS} WHERE table_name IN {{tables:Array(String)}} "
                    "AND raw_partition = {raw_partition:Int32} AND first <= {last:Int64} AND last >= {first:Int64}",
                ]
            ),
            {
                "raw_partition": raw_partition,
                "first": first_offset,
                "last": last_offset,
                "tables": [table.name for table, _ in sources],
            },
        )
        return {Position(int(row[0]), int(row[1])) for row in found}

    def high_water(self, sources: Sequence[tuple[Table, str]]) -> dict[int, Position]:
        """The last position stored or archived, by raw partition; ``sources`` as in ``stored``."""
        found = self.query(
            "SELECT raw_partition, max(position) FROM ("
            + " UNION ALL ".join(
                f"SELECT raw_partition, max((raw_offset, derived_seq)) AS position FROM {table.full_name} "
                f"WHERE {condition} GROUP BY raw_partition"
                for table, condition in sources
            )
            + f" UNION ALL SELECT raw_partition, max((last, derived_seq)) AS position FROM {ARCHIVE_RUNS} "
            "WHERE table_name IN {tables:Array(String)} GROUP BY raw_partition) GROUP BY raw_partition",
            {"tables": [table.name for table, _ in sources]},
        )
        return {int(row[0]): Position(int(row[1][0]), int(row[1][1])) for row in found}

    def _layout(self, schema: Schema) -> tuple[Container, dict[str, str]]:
        # By identity: schemas come from caches that keep them; the entry keeps this one alive.
        entry = self._containers.get(id(schema))
        if entry is None:
            entry = self._containers[id(schema)] = (schema, Container(schema), {})
        return entry[1], entry[2]

    def _connected(self) -> Client:
        if self._client is None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise TradetapeError(
                    f"{self.url!r} is no ClickHouse address", hint="set TRADETAPE_CLICKHOUSE_URL to http://host:port"
                )
            self._client = clickhouse_connect.get_client(
                host=parts.hostname,
                port=parts.port or (8443 if parts.scheme == "https" else 8123),
                secure=parts.scheme == "https",
                username=unquote(parts.username or "default"),
                password=unquote(parts.password or ""),
                connect_timeout=CONNECT_SECONDS,
                send_receive_timeout=ANSWER_SECONDS,
                autogenerate_session_id=False,
                show_clickhouse_errors="scrub",
                query_retries=0,
            )
        return self._client

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, HTTPError) as error:
            raise self._unavailable(error) from error
        except DatabaseError as error:
            if error.code is None:
                raise self._unavailable(error) from error
            message = " ".join(str(error).partition("server response: ")[2].split()) or str(error)
            if error.code in _DATA_CODES or error.code in _SETUP_CODES or error.code in _QUERY_CODES:
                raise QueryRefused(error.code, message) from error
            raise self._unavailable(error) from error
        except ClickHouseError as error:
            raise QueryRefused(0, " ".join(str(error).split())) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        # A broken connection must not be used again.
        self.close()
        reason = str(error).partition("server response: ")[2] or str(_root(error))
        return StoreUnavailable(
            f"ClickHouse at {_without_password(self.url)} does not answer: {' '.join(reason.split())[:300]}",
            hint="check that it is up (`tradetape status`) and that TRADETAPE_CLICKHOUSE_URL is right",
        )


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


# A read that is wrong by itself, or of a file that is not there, not allowed or none; while inserting these cannot come
# up with statements that are derived.
_QUERY_CODES = frozenset({20, 42, 43, 50, 184, 215, 386, 403, 456, 457, 158, 307, 396} | {107, 291, 636})

__all__ = ["UNKNOWN_TABLES", "BatchRefused", "QueryRefused", "Store", "StoreUnavailable"]

"""The store as the API reads it: read-only, within bounds, stopped when nobody waits for the answer any more."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.queries import READ_ONLY
from tradetape.sinks.store import QueryRefused, Store, StoreUnavailable

MOST_MEMORY = 4 * 1024 * 1024 * 1024
"""Bytes that ClickHouse may use for one statement."""

SORT_IN_MEMORY = 256 * 1024 * 1024
"""Bytes to sort before ClickHouse goes on on disk."""

_TOO_LONG, _TOO_LARGE = frozenset({159, 160}), frozenset({158, 241, 307, 396})
"""ClickHouse's codes for a statement that met its bounds."""


class TooHeavy(TradetapeError):
    """A statement met the bounds of time or memory."""


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


class Reader(Store):
    """One request's reads at a time; ``begin`` sets their bounds. ``clock`` is in seconds and never goes back.

    ClickHouse refuses everything but reads on its connection.

    ``query`` and ``raw`` raise TooHeavy and Abandoned besides what those of Store raise. ``abandon`` alone may be
    called by another thread.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url)
        self._clock = clock
        self.begin(0)

    def begin(self, seconds: float, filters: Mapping[str, str] | None = None) -> None:
        """For the next request: all it reads takes at most ``seconds``, under the settings ``filters`` (Scope)."""
        self._seconds = seconds
        self._until = self._clock() + seconds
        self._filters = dict(filters or {})
        self._tag = f"tradetape-api-{uuid.uuid4()}"
        self._abandoned = False

    def abandon(self) -> None:
        """Stop what is being read. Where ClickHouse cannot be told, the statement's bounds end it."""
        self._abandoned = True
        other = Store(self.url)
        with suppress(TradetapeError):
            other.command(f"KILL QUERY WHERE Settings['log_comment'] = '{self._tag}' ASYNC")
        other.close()

    def query(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """The rows of a read, as Store.query gives them."""
        with self._bounds():
            return super().query(sql, params, self._within(settings))

    def raw(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        output_format: str = "JSONEachRow",
    ) -> Iterator[bytes]:
        """The answer of a read, as Store.raw gives it."""
        with self._bounds():
            for piece in super().raw(sql, params, self._within(settings), output_format):
                yield piece
                self._check()

    def _connected(self) -> Client:
        client = super()._connected()
        for name, value in READ_ONLY.items():
            client.set_client_setting(name, value)
        return client

    def _within(self, settings: Mapping[str, Any] | None) -> dict[str, Any]:
        self._check()
        return {
            **(settings or {}),
            **self._filters,
            **READ_ONLY,
            "max_execution_time": max(1, math.ceil(self._until - self._clock())),
            "max_memory_usage": MOST_MEMORY,
            "max_bytes_before_external_sort": SORT_IN_MEMORY,
            "cancel_http_readonly_queries_on_client_close": 1,
            "log_comment": self._tag,
        }

    def _check(self) -> None:
        if self._abandoned:
            raise Abandoned
        if self._clock() > self._until:
            raise TooHeavy(f"not answered within {self._seconds:g} s")

    @contextmanager
    def _bounds(self) -> Iterator[None]:
        try:
            yield
        except (StoreUnavailable, QueryRefused) as error:
            if self._abandoned:
                raise Abandoned from error
            code = error.__cause__.code if isinstance(error.__cause__, DatabaseError) else None
            if code in _TOO_LONG:
                raise TooHeavy(f"not answered within {self._seconds:g} s") from error
            if code in _TOO_LARGE:
                raise TooHeavy(f"more than {MOST_MEMORY >> 30} GiB of memory are needed") from error
            raise

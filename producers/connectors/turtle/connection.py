"""A connection to Postgres on which a server that hangs is an error, and no wait without end.

The kernel finds a machine that is gone (keepalives, unacknowledged bytes); ``Connection`` a server that holds the
connection and says nothing; the server itself ends a statement that never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

CONNECT_SECONDS = 5
SILENT_SECONDS = 30.0
"""Without a byte from the server while it owes an answer."""
SCAN_SECONDS = 600.0
"""What one statement may take: a look through a big table is silent until its first row is found."""

T = TypeVar("T")


class Silent(psycopg.OperationalError):
    """The server did not answer; the connection is closed."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits ``SILENT_SECONDS`` for the next byte of an answer, then raises Silent."""

    _patience = 0.0

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """In here an answer may take SCAN_SECONDS longer: the server ends the statement before that."""
        self._patience = SCAN_SECONDS
        try:
            yield
        finally:
            self._patience = 0.0

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """As psycopg's, which asks ``gen`` some times a second whether it goes on."""
        return super().wait(self._impatient(gen), *args, **kwargs)

    def _impatient(self, gen: PQGen[T]) -> PQGen[T]:
        heard = monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = monotonic()
                elif monotonic() - heard > (seconds := SILENT_SECONDS + self._patience):
                    self.close()
                    raise Silent(f"nothing came for {seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as ended:
            result: T = ended.value
            return result


def connect(location: str) -> Connection:
    """Open ``location`` (a Postgres address), each statement a transaction of its own. Raises psycopg.Error."""
    return Connection.connect(
        location,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        client_encoding="utf8",
        application_name="tradetape",
        keepalives=1,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=4,
        tcp_user_timeout=int(SILENT_SECONDS * 1000),
    )

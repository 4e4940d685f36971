"""A real Postgres and a real Valkey for the tests that read native stores: one of each for the whole run.

``postgres.database()`` and ``valkey.database()`` give each test an empty one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tradetape.infra.embedded import stores


class Server:
    """One store; ``url`` is its default database (Postgres: superuser ``postgres``)."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._name = name
        self._numbers = count(1)
        self.url = stores.start(home, [name])[name].url
        self.password = urlsplit(self.url).password or ""

    def kill(self) -> None:
        """kill -9, as the crash tests need it; ``restart`` brings it back with its data, on the same port."""
        process = stores.find(self._home, self._name)
        assert process is not None
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Start it where it was killed or stopped."""
        assert stores.start(self._home, [self._name])[self._name].url == self.url

    def stop(self) -> None:
        """End it as `tradetape down` does."""
        stores.stop(self._home, [self._name])


class Postgres(Server):
    """A Postgres 18."""

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url.removesuffix("/postgres") + f"/{name}"


class Valkey(Server):
    """A Valkey with append-only persistence."""

    def database(self) -> str:
        """The URL of an empty database (of 999)."""
        return self.url.removesuffix("/0") + f"/{next(self._numbers)}"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real Postgres (about a second to start)."""
    found = Postgres(tmp_path_factory.mktemp("postgres"), stores.POSTGRES)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real Valkey."""
    found = Valkey(tmp_path_factory.mktemp("valkey"), stores.VALKEY)
    yield found
    found.stop()

"""The real Postgres and Valkey of the fleet: start, stop, kill, start again with everything that was in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tradetape.infra.embedded import lifecycle, ports, processes, stores
from tradetape.infra.embedded.stores import POSTGRES, VALKEY
from tradetape.infra.files import read_json
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("home")
    yield found
    stores.stop(found)


def scalar(url: str, statement: bytes) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


def keep(home: Path, text: str) -> None:
    """Put ``text`` into both stores."""
    found = stores.addresses(home)
    with psycopg.connect(found[POSTGRES].url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (what text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [text])
    with redis.Redis.from_url(found[VALKEY].url) as client:
        client.xadd("kept", {"what": text})
        client.execute_command("WAITAOF", 1, 0, 5000)


def kept(home: Path) -> tuple[list[str], list[str]]:
    """What both stores hold."""
    found = stores.addresses(home)
    with psycopg.connect(found[POSTGRES].url) as connection:
        rows = [what for (what,) in connection.execute("SELECT what FROM kept ORDER BY what")]
    with redis.Redis.from_url(found[VALKEY].url) as client:
        entries = [fields[b"what"].decode() for _, fields in client.xrange("kept")]
    return rows, entries


def test_both_are_real_and_come_back_with_their_data_on_the_same_ports(home: Path) -> None:
    assert stores.addresses(home) == {}
    started = stores.start(home)
    assert started.keys() == {POSTGRES, VALKEY}
    assert str(scalar(started[POSTGRES].url, b"SHOW server_version")).startswith("18")
    assert scalar(started[POSTGRES].url, b"SHOW timezone") == "UTC"
    running = [stores.find(home, name) for name in stores.NAMES]
    assert stores.start(home) == started == stores.addresses(home)
    assert [stores.find(home, name) for name in stores.NAMES] == running
    keep(home, "stopped")

    assert stores.stop(home) == 2
    assert stores.stop(home) == 0
    assert stores.addresses(home) == {}
    assert all(ports.is_free(address.port) for address in started.values())

    assert stores.start(home) == started
    keep(home, "killed")
    for name in stores.NAMES:
        process = stores.find(home, name)
        assert process is not None
        process.kill()
        process.wait()
    assert stores.start(home) == started
    assert kept(home) == (["killed", "stopped"], ["stopped", "killed"])


def test_a_stop_does_not_wait_for_clients(home: Path) -> None:
    url = stores.start(home)[POSTGRES].url
    with psycopg.connect(url):
        assert stores.stop(home, [POSTGRES]) == 1
    assert "fast shutdown request" in processes.log_tail(processes.log_path(home / "fleet", POSTGRES), 40)


def test_down_stops_them_too(home: Path) -> None:
    stores.start(home)
    assert lifecycle.down(home) == 2
    assert stores.addresses(home) == {}


def test_without_the_password_nobody_gets_in(home: Path) -> None:
    found = stores.start(home)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{found[POSTGRES].port}/postgres", connect_timeout=5)
    at_once = Retry(NoBackoff(), 0)
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=found[VALKEY].port, retry=at_once) as client:
        client.ping()
    assert (home / "fleet").stat().st_mode & 0o077 == 0


def test_one_may_be_started_alone_and_homes_do_not_meet(home: Path, tmp_path: Path) -> None:
    here = stores.start(home)
    try:
        there = stores.start(tmp_path, [VALKEY])
        assert there.keys() == {VALKEY}
        assert there[VALKEY].port != here[VALKEY].port
    finally:
        stores.stop(tmp_path)
    assert stores.addresses(home) == here


def test_a_start_that_fails_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "fleet" / VALKEY / "appendonlydir").mkdir(parents=True)
    (tmp_path / "fleet" / VALKEY / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest")
    with pytest.raises(TradetapeError, match=r"valkey ended: .*; see .*valkey\.log"):
        stores.start(tmp_path, [VALKEY])
    assert stores.addresses(tmp_path) == {}
    recorded = read_json(tmp_path / "fleet" / "stores.json")
    assert recorded is not None
    assert ports.is_free(recorded[VALKEY])

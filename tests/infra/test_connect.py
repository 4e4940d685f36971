"""Configured sources: who the bot is, one reader per store, what is told of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.producers.support import Listed
from tests.producers.tables import Table, positions, table

from tradetape.infra import connect, connect_status
from tradetape.infra.connect import KINDS, Kind, SourceConfig
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import Kafka
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import AWAY, FAILED, FOLLOWING, Status
from tradetape.schemas.errors import TradetapeError


@pytest.fixture
def origins(monkeypatch: pytest.MonkeyPatch) -> list[Origin]:
    """A kind ``table`` that reads the small SQLite table of the runner's tests: the origins it was opened with."""
    seen: list[Origin] = []

    def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> Table:
        seen.append(origin)
        return Table(Path(location), saved)

    module = ModuleType("table")
    module.open_source = open_source  # type: ignore[attr-defined]
    module.fingerprint = lambda location: Path(location).stem  # type: ignore[attr-defined]
    module.DEFAULTS = {"connector_name": "alpaca", "quote": "USD"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tradetape.producers.connectors.table", module)
    monkeypatch.setattr(connect, "KINDS", {**KINDS, "table": Kind("table", "tabler")})
    return seen


@contextmanager
def connected(emitter: Listed, home: Path) -> Iterator[Kafka]:
    yield Kafka(emitter, Checkpoints.for_cluster(home, emitter.cluster_id()))


def take(home: Path, sources: list[SourceConfig], emitter: Listed) -> list[Summary | TradetapeError]:
    """Take ``sources`` in to their ends, with the reports that a person gets."""
    return connect.run(
        home,
        sources,
        lambda: connected(emitter, home),
        follow=False,
        stop=threading.Event(),
        interval=1.0,
        on_report=connect_status.Reports(home, lambda _: None),
        on_warning=lambda _: None,
    )


class TestOrigin:
    def test_what_was_said_goes_to_the_adapter(self, origins: list[Origin], tmp_path: Path) -> None:
        path = table(tmp_path / "a.db", 2)
        said = SourceConfig(
            "table",
            str(path),
            instance="bot-1",
            producer="trader",
            connector="bitget",
            account="main",
            environment="paper",
            owner="desk",
            source_id="a",
            quote="EUR",
            legacy=False,
            instruments={"QQQ": "QQQ-USD"},
        )
        take(tmp_path, [said], Listed())
        (origin,) = origins
        assert origin.instance_name == "bot-1"
        assert (origin.producer, origin.connector_name, origin.account) == ("trader", "bitget", "main")
        assert (origin.environment, origin.owner, origin.source_id) == ("paper", "desk", "a")
        assert (origin.legacy, origin.ingest_source, origin.location) == (False, "table", str(path))
        assert origin.instruments.pair("QQQ") == "QQQ-USD"
        assert origin.instruments.pair("SPY") == "SPY-EUR"

    def test_where_nothing_was_said_the_connector_and_the_location_say_it(
        self, origins: list[Origin], tmp_path: Path
    ) -> None:
        take(tmp_path, [SourceConfig("table", str(table(tmp_path / "bot-7.db", 1)))], Listed())
        (origin,) = origins
        assert (origin.instance_name, origin.producer, origin.connector_name) == ("bot-7", "tabler", "alpaca")
        assert (origin.source_id, origin.legacy, origin.environment, origin.owner) == ("bot-7", True, "", None)
        assert origin.instruments.pair("SPY") == "SPY-USD"

    @pytest.mark.parametrize(
        ("location", "shown", "bot"),
        [
            ("postgresql://u:SEC%40RET@db:5432/turtle", "postgresql://u@db:5432/turtle", "turtle"),
            ("postgresql://u@db/turtle?password=SECRET&sslmode=off", "postgresql://u@db/turtle", "turtle"),
            ("postgresql://u@db/t%2Fa?sslpassword=SECRET", "postgresql://u@db/t%2Fa", "t/a"),
            ("host=db dbname=t password=SECRET user=u", "postgresql://u@db/t", "t"),
            ("host=db dbname=t password='SEC RET' user=u", "postgresql://u@db/t", "t"),
            ("host=db password = 'SECRET' user=u@azure", "postgresql://u%40azure@db", "db"),
            ("host=/run/pg hostaddr='' password=SECRET", "postgresql://%2Frun%2Fpg", "pg"),
            ("postgresql://[::1]:5432,db2:5433/t", "postgresql://[::1]:5432,db2:5433/t", "t"),
            ("postgresql://[::1]:5432/t", "postgresql://[::1]:5432/t", "t"),
            ("postgresql://db", "postgresql://db", "db"),
            # What was not escaped is read as something else: nothing of it is shown.
            ("postgresql://u:SEC/RET@h/db", "", "turtle"),
            ("postgresql://u:12/SECRET@h/db", "", "turtle"),
            ("postgres://u:SE@CRET@h/db", "", "turtle"),
            ("password=SEC RET host=db", "", "turtle"),
            ("SECRET", "", "turtle"),
        ],
    )
    def test_a_postgres_password_is_neither_recorded_nor_a_name(self, location: str, shown: str, bot: str) -> None:
        source = SourceConfig("turtle", location)
        assert (source.origin("s", {}).location, source.instance_name, source.label) == (shown, bot, bot)

    @pytest.mark.parametrize(
        ("location", "shown", "bot"),
        [
            ("redis://:SECRET@h:6379/0", "redis://h:6379/0", "h"),
            ("redis://u:SECRET@h", "redis://u@h", "h"),
            ("rediss://h:6379/3?password=SECRET&rate_limit=a.b:20", "rediss://h:6379/3?rate_limit=a.b:20", "h-3"),
            ("unix:///run/r.sock?db=2&password=SECRET", "unix:///run/r.sock?db=2", "r.sock-2"),
            ("redis://:SEC/RET@h:6379/0", "", "quantum"),
            ("redis://u:12/SECRET@h/0", "", "quantum"),
            ("unix://u:12/SECRET@/run/r.sock", "", "quantum"),
            ("SECRET", "", "quantum"),
        ],
    )
    def test_a_redis_password_is_neither_recorded_nor_a_name(self, location: str, shown: str, bot: str) -> None:
        source = SourceConfig("quantum", location)
        assert (source.origin("s", {}).location, source.instance_name) == (shown, bot)

    def test_variables_of_the_environment_keep_secrets_out_of_files(self) -> None:
        assert connect.expand("redis://:${PW}@h/${DB}", {"PW": "x", "DB": "1"}) == "redis://:x@h/1"
        with pytest.raises(TradetapeError, match="variable PW is not set; export PW"):
            connect.expand("redis://:${PW}@h", {})


class TestOneReaderPerStore:
    def test_it_resumes_where_it_was(self, origins: list[Origin], tmp_path: Path) -> None:
        path = table(tmp_path / "a.db", 3)
        emitter = Listed()
        take(tmp_path, [SourceConfig("table", str(path))], emitter)
        table(path, 2, first=False)
        (result,) = take(tmp_path, [SourceConfig("table", str(path))], emitter)
        assert positions(emitter.acknowledged, "a") == [1, 2, 3, 4, 5]
        assert isinstance(result, Summary)
        assert result.events == {"order_status": 3}  # the two, and the end

    def test_a_store_that_another_process_takes_in_is_refused_until_that_one_ends(
        self, origins: list[Origin], tmp_path: Path
    ) -> None:
        path = table(tmp_path / "a.db", 3)
        hold = (
            "import sys; from pathlib import Path; from tradetape.infra.files import try_lock;"
            f"lock = try_lock(Path({str(tmp_path)!r}) / 'connect' / 'locks' / 'a.lock');"
            "print('held' if lock else 'not', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            (refused,) = take(tmp_path, [SourceConfig("table", str(path))], Listed())
            other.kill()
        assert isinstance(refused, TradetapeError)
        assert refused.message == "a is taken in by another `tradetape connect` (source a)"
        assert isinstance(take(tmp_path, [SourceConfig("table", str(path))], Listed())[0], Summary)

    def test_a_source_that_does_not_open_leaves_no_lock(self, origins: list[Origin], tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        missing = tmp_path / "none" / "a.db"
        for _ in range(3):
            with pytest.raises(TradetapeError, match="unable to open"):
                raise take(tmp_path, [SourceConfig("table", str(missing))], Listed())[0]  # type: ignore[misc]
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208

    def test_sources_that_cannot_be_told_apart_are_refused(self, origins: list[Origin], tmp_path: Path) -> None:
        one, two = SourceConfig("table", "x/events.db"), SourceConfig("table", "y/events.db")
        with pytest.raises(TradetapeError, match="several sources are called events; give each a name, or an inst"):
            connect.jobs(tmp_path, [one, two])
        named = [SourceConfig("table", "x/events.db", name="x"), SourceConfig("table", "y/events.db", name="y")]
        with pytest.raises(TradetapeError, match="several sources would be the bot events; give each an instance"):
            connect.jobs(tmp_path, named)
        of_one_bot = [SourceConfig("table", f"{n}/events.db", name=n, instance="bot-1") for n in ("x", "y")]
        assert [job.name for job in connect.jobs(tmp_path, of_one_bot)] == ["x", "y"]

    def test_what_is_not_installed_is_named_with_the_extra(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def missing(name: str) -> ModuleType:
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

        monkeypatch.setattr(connect.importlib, "import_module", missing)
        with pytest.raises(TradetapeError, match=r"turtle needs psycopg.*; install tradetape\[postgres\]"):
            connect.jobs(tmp_path, [SourceConfig("turtle", "postgresql://h/d")])


class TestStatus:
    def test_a_line_where_something_changed_and_a_file_always(self, tmp_path: Path) -> None:
        said: list[str] = []
        now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        reports = connect_status.Reports(tmp_path, said.append, clock=lambda: now)
        a = Status("bots/a", "id-a", FOLLOWING, 1200, Lag(3, 1.25), "")
        b = Status("b", "id-b", AWAY, 0, Lag(None, None), "b cannot be read; wait")
        reports([a, b])
        now = datetime(2026, 1, 2, 3, 4, 15, tzinfo=UTC)
        reports([a, Status("b", "id-b", FOLLOWING, 7, Lag(None, 2.0), "")])
        assert said == [
            "bots/a: 1,200 events, 3 records behind (1.2 s)",
            "b: 0 events; away: b cannot be read; wait",
            "b: 7 events, 2.0 s behind",
        ]
        assert json.loads((tmp_path / "connect" / "bots%2Fa.json").read_text()) == {
            "name": "bots/a",
            "source_id": "id-a",
            "state": "following",
            "events": 1200,
            "lag_records": 3,
            "lag_seconds": 1.25,
            "last_error": "",
            "updated": "2026-01-02T03:04:15+00:00",
            "pid": os.getpid(),
        }

    def test_a_process_that_is_gone_is_shown_as_stopped(self, tmp_path: Path) -> None:
        connect_status.Reports(tmp_path, lambda _: None)([Status("a", "id", FOLLOWING, 1, Lag(0, None), "")])
        (running,) = connect_status.read(tmp_path)
        assert running["state"] == "following"
        ended = subprocess.Popen(["true"])
        ended.wait()
        path = tmp_path / "connect" / "a.json"
        path.write_text(json.dumps({**running, "pid": ended.pid}))
        (stopped,) = connect_status.read(tmp_path)
        assert stopped["state"] == "stopped"

    def test_a_process_that_is_refused_does_not_speak_for_the_one_that_runs(self, tmp_path: Path) -> None:
        reports = connect_status.Reports(tmp_path, lambda _: None)
        reports([Status("a", "id", FOLLOWING, 9, Lag(0, None), "")])
        path = tmp_path / "connect" / "a.json"
        other = subprocess.Popen(["sleep", "60"])
        try:
            path.write_text(json.dumps({**json.loads(path.read_text()), "pid": other.pid}))
            refused = Status("a", "", FAILED, 0, Lag(None, None), "a is taken in by another")
            reports([refused])
            assert connect_status.read(tmp_path)[0]["events"] == 9
        finally:
            other.kill()
            other.wait()
        reports([refused])
        assert connect_status.read(tmp_path)[0]["state"] == "failed"

    def test_a_run_leaves_the_status_of_every_source(self, origins: list[Origin], tmp_path: Path) -> None:
        take(
            tmp_path,
            [SourceConfig("table", str(table(tmp_path / "a.db", 2))), SourceConfig("table", str(tmp_path / "b.db"))],
            Listed(),
        )
        a, b = connect_status.read(tmp_path)
        assert (a["name"], a["state"], a["events"], a["last_error"]) == ("a", "ended", 3, "")
        assert (b["name"], b["state"], b["events"]) == ("b", "failed", 0)
        assert "no such table" in b["last_error"]

"""Old rows out of the store and into files: nothing lost, nothing twice, whatever stops it; backup and restore."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.integration.clickhouse import Server, serve
from tests.sinks.rows import audited, land, record, schema_by_id

from tradetape.infra import archive as archives
from tradetape.infra import backup
from tradetape.infra.cli.main import run
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import archive as steps
from tradetape.sinks import cluster, migrate, queries, raws, retention, stored, travel, views
from tradetape.sinks.archive import LEFT, Archive, NotVerified
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.landing import Landing
from tradetape.sinks.ledger import Position
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS, RISK, TABLES

pytestmark = pytest.mark.integration

ODD = "a/b *'{x}\\é"
BEFORE = "2026-01-03"
DAY_1, DAY_2, LATE = (int(datetime(2026, 1, day, 12, tzinfo=UTC).timestamp()) * 1_000_000 for day in (1, 2, 5))
"""Noon, so that the class 1h has expired on BEFORE; rows of LATE are too young."""

AUDITED = STREAMS[topics.AUDITED]


def verdict(offset: int, when: int, event_type: str, **fields: Any) -> dict[str, Any]:
    return audited(offset, ingest_ts_utc=when + offset, event_type=event_type, **fields)


ROWS = [
    verdict(0, DAY_1, "market_price", payload={"price": "1.000000000000000001"}, raw=b"\x00\xff\xfe"),
    verdict(1, DAY_1, "market_price", disposition="duplicate"),
    verdict(2, DAY_1, "order_created"),
    verdict(3, DAY_1, "market_price", instance_name=ODD, dry_run=True, sequence=7),
    verdict(4, DAY_1, "never_heard_of", disposition="rejected", reasons=["unknown_type"]),
    verdict(5, DAY_1, "heartbeat"),
    verdict(6, DAY_1, "market_price"),
    verdict(7, DAY_1, "signal_generated"),
    verdict(8, DAY_2, "market_price"),
    verdict(9, LATE, "market_price"),
]
GONE = {EVENTS.name: {0, 3, 5, 6, 8}, "quarantine": {1}, RISK.name: {0}}
"""Offsets whose class has expired by BEFORE; of the figures at 0 and 6 the last one stays."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("home") / "clickhouse") as running:
        migrate.migrate(Store(running.url))
        yield running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    """A store with ROWS and two figures."""
    connected = Store(server.url)
    for name in (*(table.full_name for table in TABLES.values()), views.LEDGER, LEFT, "tradetape.risk_latest"):
        connected.command(f"TRUNCATE TABLE {name}")
    land(connected, [record("audited", row) for row in ROWS])
    for offset in (0, 6):
        connected.command(
            "INSERT INTO tradetape.risk (raw_partition, raw_offset, derived_seq, event_type, ingest_ts_utc, "
            f"core_version, instance_name, fees) SELECT 0, {offset}, 1, 'market_price', "
            f"fromUnixTimestamp64Micro({DAY_1 + offset}, 'UTC'), 'core-1', 'bot1', map('USDT', toDecimal128('0.1', 18))"
        )
    yield connected
    connected.close()


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Archive:
    return Archive(store, tmp_path, str(tmp_path))


def positions(store: Store, table: str) -> list[tuple[int, int]]:
    return [
        (int(a), int(b)) for a, b in store.query(f"SELECT raw_offset, derived_seq FROM tradetape.{table} ORDER BY ALL")
    ]


def completeness(store: Store) -> dict[str, Any]:
    (line,) = b"".join(queries.run(store, "completeness")).splitlines()
    row: dict[str, Any] = json.loads(line)
    return row


def check_whole(store: Store, before: list[stored.Stored]) -> None:
    """Every row is there once, with every value that it had, stored or archived."""
    assert list(stored.read(store, 0, 0, 100)) == before
    assert len(positions(store, "risk_all")) == 2
    row = completeness(store)
    assert (row["rows"], row["offsets"], row["holes"], row["doubles"]) == (len(ROWS), len(ROWS), 0, 0)
    assert (row["accepted"], row["duplicates"], row["rejected"]) == (8, 1, 1)
    assert raws.holes(store) == {}


def check_gone(store: Store) -> None:
    """What has expired left the tables, and nothing else did."""
    for table, offsets in GONE.items():
        assert not {offset for offset, _ in positions(store, table)} & offsets
    assert len(positions(store, "events")) == 8 - len(GONE["events"])
    assert [offset for offset, _ in positions(store, "quarantine")] == [4]
    assert positions(store, "risk") == [(6, 1)]


@pytest.mark.req("S1-10", "S4-02")
def test_what_has_expired_leaves_and_is_still_there_to_ask(store: Store, archive: Archive, tmp_path: Path) -> None:
    before = list(stored.read(store, 0, 0, 100))
    counted = b"".join(queries.run(store, "counts"))
    planned = Counter({(g.table, g.day, g.instance_name): g.rows for g in archive.plan(BEFORE)})
    assert planned == {
        ("events", "2026-01-01", "bot1"): 3,
        ("events", "2026-01-01", ODD): 1,
        ("events", "2026-01-02", "bot1"): 1,
        ("quarantine", "2026-01-01", "bot1"): 1,
        ("risk", "2026-01-01", "bot1"): 1,
    }
    done = archive.run(BEFORE)
    assert Counter({(m.table, m.day, m.instance_name): m.rows for m in done}) == planned
    check_gone(store)
    check_whole(store, before)
    assert completeness(store)["archived"] == 6
    assert {row["trace"] for row in queries.rows(store, "immutability")} == {"statement"}
    (odd,) = travel.instance_at(store, lambda _: None, ODD)["found"]
    assert odd["judged_by"] == ["test"]
    assert b"".join(queries.run(store, "counts")) != counted
    assert b"".join(queries.run(store, "counts", archived=True)) == counted
    assert b"".join(queries.run(store, "completeness", archived=True)) == b"".join(queries.run(store, "completeness"))
    (price,) = store.query("SELECT toString(price), hex(raw), retention FROM tradetape.events_all WHERE raw_offset = 0")
    assert price == ("1.000000000000000001", "00FFFE", "1h")
    # The sums and versions are those of the rows, and a run with nothing to do does nothing.
    assert {m.core_versions for m in done} == {("test",), ("core-1",)}
    assert archive.verify() == []
    assert archive.run(BEFORE) == []
    # Later more of the same day and instance expires: a second file beside the first.
    (later,) = [m for m in archive.run("2027-02-01") if (m.table, m.day) == ("events", "2026-01-01")]
    assert later.path.endswith("date=2026-01-01/instance_name=bot1/part-0002.parquet")
    assert {retention_class for (retention_class,) in store.query("SELECT retention FROM tradetape.events")} == {
        "permanent"
    }
    assert archive.verify() == []


@pytest.mark.req("S1-10", "P-06")
@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("after_file", 2),
        ("after_verify", 1),
        ("before_ledger", 3),
        ("after_ledger", 2),
        ("before_delete", 2),
        ("after_delete", 1),
        ("after_left", 1),
    ],
)
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    store: Store, archive: Archive, monkeypatch: pytest.MonkeyPatch, point: str, count: int
) -> None:
    before = list(stored.read(store, 0, 0, 100))
    left = count

    def die(name: str) -> None:
        nonlocal left
        left -= name == f"archive.{point}"
        if left == 0 and name == f"archive.{point}":
            raise KeyboardInterrupt(name)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            archive.run(BEFORE)
    check_whole(store, before)
    archive.run(BEFORE)
    check_gone(store)
    check_whole(store, before)
    assert (archive.verify(), archive.strays()) == ([], [])
    assert completeness(store)["archived"] == 6


@pytest.mark.req("S1-10")
def test_many_rows_are_several_files(store: Store, tmp_path: Path) -> None:
    before = list(stored.read(store, 0, 0, 100))
    done = Archive(store, tmp_path, str(tmp_path), file_rows=2).run(BEFORE)
    assert [m.rows for m in done if (m.table, m.day, m.instance_name) == ("events", "2026-01-01", "bot1")] == [2, 1]
    check_gone(store)
    check_whole(store, before)


@pytest.mark.req("S1-10")
def test_rows_that_another_archive_took_are_not_looked_for_for_ever(
    store: Store, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = archive.plan(BEFORE)[0]
    monkeypatch.setattr(Archive, "_groups", lambda *_: [replace(group, rows=group.rows + 1)])
    with pytest.raises(NotVerified, match=r"have left tradetape\.events meanwhile"):
        archive.run(BEFORE)


@pytest.mark.req("S1-10")
def test_a_changed_file_is_found_and_its_rows_stay(
    store: Store, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        if name == "archive.before_delete":
            raise KeyboardInterrupt(name)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            archive.run(BEFORE)
    manifest = archive.manifests()[0]
    file = tmp_path / manifest.path
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (problem,) = archive.verify()
    assert (problem.path, problem.what) == (manifest.path, "its bytes are not those that were archived")
    with pytest.raises(NotVerified, match="its rows are still in the store"):
        archive.run(BEFORE)
    assert len(positions(store, "events")) == 8
    file.unlink()
    assert "it is not there" in [problem.what for problem in archive.verify()]
    with pytest.raises(NotVerified, match="move all of it"):
        Archive(store, tmp_path / "elsewhere", str(tmp_path / "elsewhere")).run(BEFORE)
    file.write_bytes(whole)
    archive.run(BEFORE)
    check_gone(store)


@pytest.mark.req("S1-10")
def test_a_folder_that_clickhouse_does_not_see_keeps_the_rows(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotVerified, match=r"ClickHouse cannot read .*; does it see"):
        Archive(store, tmp_path, str(tmp_path / "other")).run(BEFORE)
    assert len(positions(store, "events")) == 8
    assert store.query(f"SELECT count() FROM {views.LEDGER}") == [(0,)]


@pytest.mark.req("S4-02", "P-03")
def test_the_sink_takes_what_is_archived_for_stored(store: Store, archive: Archive) -> None:
    archive.run("2027-02-01")
    assert store.high_water(AUDITED.sources) == {0: Position(9, 0)}
    assert store.stored(AUDITED.sources, 0, 5, 7) == {Position(5, 0), Position(6, 0), Position(7, 0)}
    again = land(store, [record("audited", row) for row in ROWS[3:]])
    assert (again.landed, again.present) == (0, 7)
    new = land(store, [record("audited", audited(10))])
    assert new.landed == 1
    Landing(store, schema_by_id).insert(AUDITED, {0: [record("audited", audited(13))]})
    assert raws.holes(store) == {0: [(11, 12)]}
    assert completeness(store)["holes"] == 2


@pytest.mark.req("S4-02")
def test_every_class_is_a_view_and_a_new_catalogue_holds_for_old_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        name: [offset for offset, _ in positions(store, f"events_{name}")]
        for name in retention.classes()
        if positions(store, f"events_{name}")
    }
    assert found == {"1h": [0, 3, 6, 8, 9], "24h": [5], "365d": [7], "permanent": [2]}
    with monkeypatch.context() as patched:
        patched.setattr(retention, "expression", lambda _: "'24h'")
        views.refresh(store)
        assert len(positions(store, "events_24h")) == 8
    views.refresh(store)
    assert len(positions(store, "events_24h")) == 1


@pytest.mark.req("S1-09")
def test_statements_for_servers_that_are_not_here_have_clickhouses_syntax(server: Server) -> None:
    statements = [
        statement for migration in migrate.available() for statement in cluster.render(migration.sql, "fleet")
    ]
    roles = {entry.name: entry.read_text() for entry in files("tradetape.sinks").joinpath("roles").iterdir()}
    assert set(roles) == {"owner.sql", "writer.sql", "reader.sql", "archivist.sql"}
    granted = [part.strip() for text in roles.values() for part in text.split(";") if part.strip()]
    parser = Store(server.url)
    for statement in [*statements, *granted]:
        assert parser.query(f"SELECT formatQuery({views.quoted(statement)})")
    with pytest.raises(TradetapeError, match="Syntax error"):
        parser.query(f"SELECT formatQuery({views.quoted(granted[-1].replace(' TO ', ' AT '))})")
    for name, text in roles.items():
        assert ("DELETE" in text) == (name == "archivist.sql")
        assert not {"UPDATE", "TRUNCATE", "DROP TABLE", "DROP COLUMN"} & set(_pairs(text))


@pytest.mark.req("S1-10")
def test_the_command(
    server: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRADETAPE_CLICKHOUSE_URL", server.url)

    def archive(*words: str) -> tuple[int, str]:
        code = run(["--home", str(tmp_path), "archive", "--to", str(tmp_path / "files"), *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = archive("--before", BEFORE, "--dry-run")
    assert (code, said.count("2026-01-01")) == (0, 4)
    assert archive("--list") == (0, "no rows\n")
    code, said = archive("--before", BEFORE)
    assert code == 0
    assert "7 rows left the store, in 5 files below" in said
    assert archive("--before", BEFORE) == (0, "nothing has expired\n")
    code, said = archive("--list", "--output", "json")
    listed = [json.loads(line) for line in said.splitlines()]
    assert sum(line["rows"] for line in listed) == 7
    assert archive("--verify") == (0, "0 problems in 5 files\n")
    (tmp_path / "files" / listed[0]["path"]).write_bytes(b"")
    code, said = archive("--verify")
    assert code == 1
    assert listed[0]["path"] in said
    assert "has not begun" in archive("--before", "2999-01-01")[1]
    assert "give one of" in archive("--list", "--verify")[1]


@pytest.mark.req("S3-08")
def test_an_instance_and_a_day_are_read_to_the_granule(store: Store) -> None:
    granule = 8192
    store.command(
        "INSERT INTO tradetape.events (raw_offset, ingest_ts_utc, ts_utc, instance_name, payload) "
        "SELECT 100 + number, toDateTime64('2026-01-01', 6, 'UTC') + number * 10 AS at, at, "
        "concat('bot', toString(cityHash64(number) % 10)), '{}' FROM numbers(200000)"
    )
    wanted = "instance_name = 'bot7' AND ts_utc >= toDateTime64('2026-01-16', 6, 'UTC') AND ts_utc < '2026-01-17'"
    ((matching,),) = store.query(f"SELECT count() FROM tradetape.events WHERE {wanted}")
    # EXPLAIN ESTIMATE: database, table, parts, rows, marks.
    ((_, _, parts, rows, _),) = store.query(f"EXPLAIN ESTIMATE SELECT payload FROM tradetape.events WHERE {wanted}")
    assert 0 < matching < granule
    assert rows <= matching + 2 * granule * parts


@pytest.mark.req("P-11")
def test_a_restored_home_gives_the_same_answers(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "elsewhere/other"
    home.mkdir()

    def answers(store: Store) -> list[Any]:
        found = [
            b"".join(queries.run(store, name, archived=True)) for name in ("counts", "completeness", "invalid_schema")
        ]
        return [*found, list(stored.read(store, 0, 0, 100))]

    with serve(home / "clickhouse") as running:
        store = Store(running.url)
        migrate.migrate(store)
        land(store, [record("audited", row) for row in ROWS])
        opened, root = archives.open_archive(store, home)
        assert opened.run(BEFORE)
        assert root == home / "archive"
        before = answers(store)
        store.close()
    backup.backup(home, tmp_path / "b.tar.zst", datetime.now(UTC))
    backup.restore(tmp_path / "b.tar.zst", other)
    with serve(other / "clickhouse") as running:
        store = Store(running.url)
        assert answers(store) == before
        opened, root = archives.open_archive(store, other)
        assert (root, opened.verify()) == (other / "archive", [])
        assert not migrate.migrate(store)
        store.close()


def _pairs(text: str) -> list[str]:
    words = text.replace(",", " ").split()
    return [*words, *(f"{one} {two}" for one, two in pairwise(words))]

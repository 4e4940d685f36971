"""The sink's half that talks to ClickHouse: migrations, inserts, deduplication, recovery and quarantine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.integration.clickhouse import Server, free_port, serve
from tests.sinks.rows import audited, body, encode, land, record, risk, schema_by_id
from tests.support import eventually

from tradetape.schemas import topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import HEADER
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import intents, landing, migrate, raws
from tradetape.sinks.batch import STREAMS, Record, token
from tradetape.sinks.landing import Batch, Landing, Reached
from tradetape.sinks.ledger import Hole, Identity, Position
from tradetape.sinks.store import BatchRefused, QueryRefused, Store, StoreUnavailable
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK, RISK_LATEST, TABLES, columns

pytestmark = pytest.mark.integration

AUDITED = STREAMS[topics.AUDITED]
SCHEMA = output_schema("audited")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    connected = Store(server.url)
    migrate.migrate(connected)
    for table in TABLES.values():
        connected.command(f"TRUNCATE TABLE {table.full_name}")
    yield connected
    connected.close()


def verdicts(*offsets: int, **fields: object) -> list[Record]:
    """Every third one a duplicate, every fifth rejected."""
    return [
        record(
            "audited", audited(n, disposition="duplicate" if n % 3 == 2 else "rejected" if n % 5 == 4 else "accepted")
        )
        for n in offsets
    ]


def stored_offsets(store: Store) -> list[int]:
    rows = store.query(
        "SELECT raw_offset FROM (SELECT raw_offset FROM tradetape.events UNION ALL "
        "SELECT raw_offset FROM tradetape.quarantine) ORDER BY raw_offset"
    )
    return [row[0] for row in rows]


def count(store: Store, table: str) -> int:
    return int(store.query(f"SELECT count() FROM tradetape.{table}")[0][0])


@pytest.mark.req("S3-07")
def test_migrated_tables_are_what_the_schemas_declare(store: Store) -> None:
    for table in TABLES.values():
        found = store.query(
            "SELECT name, type FROM system.columns WHERE database = 'tradetape' AND table = {table:String} "
            "AND default_kind = '' ORDER BY position",
            {"table": table.name},
        )
        assert dict(found) == columns(table), table.name
    extra = store.query(
        "SELECT table, name FROM system.columns WHERE database = 'tradetape' AND default_kind IN ('DEFAULT', "
        "'MATERIALIZED') AND table IN {tables:Array(String)} ORDER BY table, position",
        {"tables": list(TABLES)},
    )
    hot = ("order_id", "side", "price", "quantity", "fee_asset", "fee_amount")
    assert list(extra) == [
        ("events", "schema_validation_status"),
        *(("events", name) for name in hot),
        ("quarantine", "schema_validation_status"),
    ]
    kept = store.query(
        "SELECT table FROM system.columns WHERE database = 'tradetape' AND default_kind = 'ALIAS' "
        "AND name = 'retention' ORDER BY table"
    )
    assert [row[0] for row in kept] == sorted(TABLES)


@pytest.mark.req("P-02")
def test_the_latest_figures_have_the_columns_of_the_history_and_its_last_rows(store: Store) -> None:
    described = [
        store.query(
            f"SELECT name, type FROM system.columns WHERE table = '{t}' AND default_kind = '' ORDER BY position"
        )
        for t in ("risk", "risk_latest")
    ]
    assert described[0] == described[1]
    store.command(f"TRUNCATE TABLE {RISK_LATEST}")
    figures = [record("risk", risk(n, trading_pair=pair)) for n, pair in enumerate(("A-B", "C-D", "A-B", "A-B"))]
    landing = Landing(store, schema_by_id)
    for batch in (figures[:3], figures[1:], figures[:1]):
        landing.insert(STREAMS[topics.RISK], {0: batch})
    latest = f"SELECT trading_pair, raw_offset FROM {RISK_LATEST} FINAL ORDER BY trading_pair"
    assert store.query(latest) == [("A-B", 3), ("C-D", 1)]
    # ClickHouse dies between history and latest: the same insert again, dropped by its token, still goes on.
    store.command(f"TRUNCATE TABLE {RISK_LATEST}")
    rows = count(store, "risk")
    for batch in (figures[:3], figures[1:]):
        landing.insert(STREAMS[topics.RISK], {0: batch})
    assert count(store, "risk") == rows
    assert store.query(latest) == [("A-B", 3), ("C-D", 1)]


@pytest.mark.req("P-06")
def test_a_running_insert_is_found_by_its_comment(store: Store, server: Server) -> None:
    assert not store.is_inserting("slow-2")
    slow = Store(server.url)
    statement = "SELECT sleepEachRow(1) FROM numbers(5) SETTINGS max_block_size = 1, log_comment = 'the slow-1 slow-2'"
    runner = threading.Thread(target=slow.query, args=(statement,))
    runner.start()
    eventually(lambda: store.is_inserting("slow-2"), 10, "the statement runs")
    assert not store.is_inserting("slow-")
    runner.join()
    assert not store.is_inserting("slow-2")


@pytest.mark.req("P-03", "P-11")
def test_a_batch_that_is_landing_has_no_holes(store: Store, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, landed = threading.Event(), threading.Event()
    found: list[tuple[object, object]] = []

    def wait(_: float) -> None:
        waits.set()
        assert landed.wait(60)

    def look() -> None:
        other = Store(server.url)
        found.append((raws.last_stored(other), raws.holes(other)))
        other.close()

    looking = threading.Thread(target=look)

    def between(point: str) -> None:
        if point == "sink.between_inserts":
            # The accepted ones are there, 2, 4 and 5 are not.
            assert stored_offsets(store) == [0, 1, 3, 6]
            looking.start()
            assert waits.wait(60), "half a batch passed for all of it"

    monkeypatch.setattr(raws, "sleep", wait)
    monkeypatch.setattr(landing, "reach", between)
    land(store, verdicts(*range(7)))
    landed.set()
    looking.join()
    assert found == [({0: 6}, {})]


@pytest.mark.req("P-03", "P-08")
def test_what_is_no_longer_ours_does_not_go_to_quarantine_either(store: Store) -> None:
    class Gone(Exception):
        pass

    def gone() -> None:
        raise Gone

    with pytest.raises(Gone):
        Landing(store, schema_by_id).insert(AUDITED, {0: [Record(Identity(0, 0, 0), b"no record", 0)]}, hold=gone)
    assert count(store, "quarantine") == 0


def test_migrations_run_once_and_two_may_run_at_once(server: Server, store: Store) -> None:
    assert not migrate.migrate(store)
    stores = [Store(server.url) for _ in range(3)]
    runners = [threading.Thread(target=migrate.migrate, args=(each,)) for each in stores]
    store.command("TRUNCATE TABLE tradetape.migrations")
    store.command("DROP TABLE tradetape.alerts SYNC")
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    applied = store.query("SELECT version, count() FROM tradetape.migrations GROUP BY version ORDER BY version")
    assert [row[0] for row in applied] == [migration.version for migration in migrate.available()]
    assert not store.query("SELECT * FROM tradetape.alerts")


def test_a_changed_migration_and_a_newer_store_are_refused(store: Store) -> None:
    known = list(migrate.available())
    changed = migrate.Migration(known[0].version, known[0].name, known[0].sql + " ")
    with pytest.raises(TradetapeError, match=r"0001_events\.sql changed after it was applied"):
        migrate.migrate(store, [changed, *known[1:]])
    with pytest.raises(TradetapeError, match="does not know; upgrade"):
        migrate.migrate(store, known[:-1])


@pytest.mark.req("S3-06", "S3-07")
def test_hot_numbers_are_exact_and_unknown_keys_are_queryable(store: Store) -> None:
    payload = {
        "client_order_id": "o1",
        "side": "buy",
        "fill_price": "0.000000065200000001",
        "fill_qty_base": "12345678901234567890.000000000000000001",
        "fee_asset": "USDT",
        "fee_amount": "-0.1",
        "my_own_key": {"deep": [1, 2]},
    }
    land(store, [record("audited", audited(0, payload=payload, dry_run=True, sequence=7))])
    row = store.query(
        "SELECT order_id, side, toString(price), toString(quantity), fee_asset, toString(fee_amount), "
        "JSONExtractInt(payload, 'my_own_key', 'deep', 2), schema_validation_status, dry_run, sequence, ingest_source, "
        "raw FROM tradetape.events",
        settings={"output_format_decimal_trailing_zeros": 0},
    )
    assert row[0][:6] == ("o1", "buy", payload["fill_price"], payload["fill_qty_base"], "USDT", "-0.1")
    assert row[0][6:11] == (2, "ok", True, 7, "test")
    text = row[0][11]
    assert (text.encode("latin-1") if isinstance(text, str) else text) == b"\x00\x00\x00\x00\x07raw"


@pytest.mark.req("P-03", "S3-05")
def test_verdicts_go_to_their_tables_once(store: Store) -> None:
    reached = Reached()
    landed = land(store, verdicts(*range(30)), reached)
    assert (landed.landed, landed.repeats, landed.present) == (30, 0, 0)
    assert stored_offsets(store) == list(range(30))
    found = store.query("SELECT disposition, schema_validation_status, count() FROM tradetape.quarantine GROUP BY ALL")
    assert sorted(found) == [("duplicate", "duplicate", 10), ("rejected", "rejected", 4)]
    again = land(store, verdicts(*range(20, 40)), reached)
    assert (again.landed, again.repeats) == (10, 10)
    assert stored_offsets(store) == list(range(40))


@pytest.mark.req("P-06")
def test_a_token_counts_once(store: Store) -> None:
    records = [record("audited", audited(n)) for n in range(200)]
    name = token(EVENTS, topics.AUDITED, records)
    assert name != token(EVENTS, topics.AUDITED, records[:-1])
    for _ in range(3):
        store.insert(EVENTS, SCHEMA, [each.body for each in records], name)
    assert count(store, "events") == 200


@pytest.mark.req("P-06")
def test_a_full_batch_is_one_block(store: Store) -> None:
    bodies = [body("audited", audited(n, raw=bytes(300))) for n in range(50_000)]
    for _ in range(2):
        store.insert(EVENTS, SCHEMA, bodies, "one")
    assert store.query("SELECT count(), uniqExact(raw_offset) FROM tradetape.events") == [(50_000, 50_000)]
    assert store.query("SELECT uniqExact(_part) FROM tradetape.events") == [(1,)]


@pytest.mark.req("P-08")
@pytest.mark.parametrize("damage", range(7))
def test_damaged_bytes_land_nothing(store: Store, damage: int) -> None:
    good = body("audited", audited(1))
    bad = [
        good[:-1],
        good + b"x",
        good[:40] + b"\x99" + good[40:],
        good[:40] + good[41:],
        b"",
        b"\xff" * 60,
        good[:-2] + b"TT",
    ][damage]
    with pytest.raises(BatchRefused):
        store.insert(
            EVENTS, SCHEMA, [body("audited", audited(0)), bad, body("audited", audited(2))], f"damage {damage}"
        )
    assert count(store, "events") == 0


@pytest.mark.req("P-03", "P-08")
def test_only_the_bad_record_goes_to_quarantine(store: Store) -> None:
    records = [record("audited", audited(n)) for n in range(100)]
    whole = encode("audited", audited(70))
    records[13] = record("audited", audited(13, event_id="no uuid", payload={"client_order_id": "o13"}))
    records[70] = Record(Identity(0, 70, 0), whole[:60] + whole[61:], 5_000_000)
    records[71] = Record(Identity(0, 71, 0), b"\x00", 5_000_000)
    records[99] = Record(Identity(0, 99, 0), encode("audited", audited(99)) + b"left over", 5_000_000)
    reached = Reached()
    landed = land(store, records, reached)
    assert (landed.landed, landed.unstorable) == (96, 4)
    assert stored_offsets(store) == list(range(100))
    found = store.query(
        "SELECT raw_offset, disposition, reasons, event_id, hex(raw), toUnixTimestamp64Micro(ingest_ts_utc) "
        "FROM tradetape.quarantine ORDER BY raw_offset"
    )
    assert [row[0] for row in found] == [13, 70, 71, 99]
    assert {(row[1], tuple(row[2])) for row in found} == {("rejected", ("unstorable",))}
    assert found[0][3] == "no uuid"
    assert bytes.fromhex(found[0][4]) == b"\x00\x00\x00\x00\x07raw"
    assert [bytes.fromhex(row[4]) for row in found[1:]] == [records[n].value for n in (70, 71, 99)]
    assert found[1][5] == 5_000_000
    # The same again, as after a crash before the commit.
    assert land(store, records).landed == 0
    assert stored_offsets(store) == list(range(100))


@pytest.mark.req("P-08")
def test_an_output_that_fits_nowhere_is_kept_beside_its_event(store: Store) -> None:
    land(store, [record("audited", audited(0))])
    bad = Record(Identity(0, 0, 1), encode("risk", risk(0))[:-9], 5_000_000)
    landed = land(store, [bad, record("risk", risk(1)), record("risk", risk(2))], topic=topics.RISK)
    assert (landed.landed, landed.unstorable) == (2, 1)
    assert count(store, "risk") == 2
    assert land(store, [bad, record("risk", risk(1))], topic=topics.RISK).present == 2
    assert store.high_water(AUDITED.sources) == {0: Position(0, 0)}


@pytest.mark.req("P-03", "P-06")
@pytest.mark.parametrize("landed_table", [EVENTS, QUARANTINE])
def test_a_kill_between_the_inserts_loses_and_doubles_nothing(store: Store, landed_table: object) -> None:
    before = Reached()
    land(store, verdicts(*range(10)), before)
    # What a killed run left: of offsets 10…29 only the rows of one table.
    half = [each for each in verdicts(*range(10, 30)) if AUDITED.route(each.value) is landed_table]
    store.insert(landed_table, SCHEMA, [each.body for each in half], "killed")  # type: ignore[arg-type]
    after = Reached()
    # The new run reads from the commit, cuts otherwise, and reads on.
    for first, last in ((5, 13), (13, 14), (14, 27), (27, 60)):
        land(store, verdicts(*range(first, last)), after)
    assert stored_offsets(store) == list(range(60))


def of_partition(partition: int, *offsets: int) -> list[Record]:
    """Every third one goes to the quarantine."""
    dispositions = ("accepted", "accepted", "duplicate")
    return [record("audited", audited(n, partition=partition, disposition=dispositions[n % 3])) for n in offsets]


def meant(**records: Sequence[Record]) -> list[Batch]:
    """Batches that land together: of the partitions p0, p1 and so on."""
    numbered = {int(name[1:]): given for name, given in records.items()}
    found = intents.together(topics.AUDITED, {number: intents.of(given) for number, given in numbered.items()})
    return [Batch(number, given, found[number], Reached()) for number, given in numbered.items()]


def stored_counts(store: Store) -> list[tuple[int, int, int]]:
    """Of each raw partition: rows, different offsets, the last offset."""
    return store.query(  # type: ignore[return-value]
        "SELECT raw_partition, count(), uniqExact(raw_offset), max(raw_offset) FROM ("
        "SELECT raw_partition, raw_offset FROM tradetape.events UNION ALL "
        "SELECT raw_partition, raw_offset FROM tradetape.quarantine) GROUP BY 1 ORDER BY 1"
    )


@pytest.mark.req("P-03", "P-06")
def test_batches_of_a_topic_share_their_inserts(store: Store) -> None:
    landing = Landing(store, schema_by_id)
    batches = meant(p0=of_partition(0, *range(30)), p1=of_partition(1, *range(7)), p3=of_partition(3, 0))
    assert [landed.landed for landed in landing.land(AUDITED, batches)] == [30, 7, 1]
    assert [batch.reached.last for batch in batches] == [{0: Position(29, 0)}, {1: Position(6, 0)}, {3: Position(0, 0)}]
    assert stored_counts(store) == [(0, 30, 30, 29), (1, 7, 7, 6), (3, 1, 1, 0)]
    parts = "SELECT uniqExact(_part) FROM tradetape."
    assert [store.query(parts + table) for table in ("events", "quarantine")] == [[(1,)], [(1,)]]
    # As after an answer that was lost: the same batches again.
    for batch in batches:
        batch.reached.last = {}
    assert [landed.landed for landed in landing.land(AUDITED, batches)] == [30, 7, 1]
    assert stored_counts(store) == [(0, 30, 30, 29), (1, 7, 7, 6), (3, 1, 1, 0)]


@pytest.mark.req("P-03", "P-06")
@pytest.mark.parametrize("owners", [(0, 1), (1, 0), (0,), (1,), ()], ids=str)
@pytest.mark.parametrize("at", [1, 2])
def test_a_frozen_sink_and_the_next_owners_of_its_batches_land_each_row_once(
    store: Store, at: int, owners: tuple[int, ...]
) -> None:
    batches = meant(p0=of_partition(0, *range(20)), p1=of_partition(1, *range(30)))
    holds = 0

    def finish(number: int) -> None:
        """Another sink has the partition now."""
        batch = batches[number]._replace(reached=Reached(), pending=True)
        Landing(store, schema_by_id).land(AUDITED, [batch])
        assert stored_counts(store)[number if len(stored_counts(store)) > 1 else 0][1:3] == (len(batch.records),) * 2

    def hold() -> None:
        nonlocal holds
        holds += 1
        if holds == at:  # frozen between the question to Kafka and its insert, for as long as others need
            for number in owners:
                finish(number)

    Landing(store, schema_by_id).land(AUDITED, batches, hold=hold)
    assert holds == 2
    for number in {0, 1} - set(owners):
        finish(number)
    assert stored_counts(store) == [(0, 20, 20, 19), (1, 30, 30, 29)]


@pytest.mark.req("P-03", "P-08")
def test_what_is_refused_together_is_landed_one_by_one(store: Store) -> None:
    bad = of_partition(1, *range(30))
    bad[13] = record("audited", audited(13, partition=1, event_id="no uuid"))
    batches = meant(p0=of_partition(0, *range(20)), p1=bad, p2=of_partition(2, *range(5)))
    with pytest.raises(BatchRefused):
        Landing(store, schema_by_id).land(AUDITED, batches)
    landed = [Landing(store, schema_by_id).land(AUDITED, [batch._replace(pending=True)])[0] for batch in batches]
    assert [(one.landed, one.unstorable) for one in landed] == [(20, 0), (29, 1), (5, 0)]
    assert stored_counts(store) == [(0, 20, 20, 19), (1, 30, 30, 29), (2, 5, 5, 4)]


@pytest.mark.req("P-03")
def test_holes_are_found(store: Store) -> None:
    with pytest.raises(Hole, match="offset 0 is missing, found 3"):
        land(store, verdicts(3))
    reached = Reached()
    land(store, verdicts(0, 1, 2), reached)
    with pytest.raises(Hole, match="offset 3 is missing, found 4"):
        land(store, verdicts(4), reached)
    with pytest.raises(Hole, match="offset 3 is missing, found 5"):
        land(store, verdicts(5))
    assert stored_offsets(store) == [0, 1, 2]


def test_marks_and_ranges(store: Store) -> None:
    land(store, verdicts(*range(20)))
    land(store, [record("audited", audited(0, partition=3))], partition=3)
    assert store.high_water(AUDITED.sources) == {0: Position(19, 0), 3: Position(0, 0)}
    assert store.stored(AUDITED.sources, 0, 5, 7) == {Position(5, 0), Position(6, 0), Position(7, 0)}
    assert store.stored(AUDITED.sources, 1, 0, 100) == set()
    assert store.high_water(((RISK, "1"), (ALERTS, "1"))) == {}


def test_clickhouse_down_is_told_apart_from_a_wrong_statement(store: Store, tmp_path: Path) -> None:
    down = Store(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="Connection refused; check that it is up"):
        down.query("SELECT 1")
    with pytest.raises(QueryRefused, match="Code: 60"):
        store.query("SELECT * FROM tradetape.nope")
    with pytest.raises(TradetapeError, match="is no ClickHouse address"):
        Store("localhost:8123").query("SELECT 1")


@pytest.mark.req("P-06")
def test_a_connection_that_was_killed_is_replaced(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path / "db", port) as server:
        store = Store(server.url)
        migrate.migrate(store)
        land(store, verdicts(*range(10)))
        server.kill()
        with pytest.raises(StoreUnavailable):
            land(store, verdicts(*range(10, 20)))
    with serve(tmp_path / "db", port):
        land(store, verdicts(*range(5, 20)))
        assert stored_offsets(store) == list(range(20))
        store.close()


def test_the_frame_of_a_value_is_five_bytes() -> None:
    value = encode("audited", audited(0))
    assert AUDITED.route(value) is EVENTS
    assert value[HEADER.size :] == body("audited", audited(0))
    assert AUDITED.route(b"") is None

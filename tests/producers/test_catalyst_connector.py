"""A Catalyst event store read while its bot writes: nothing lost, nothing twice, whatever happens to the file."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.folding import fold
from tests.producers.catalyst_rows import START, Database, drain, origin, positions, prices, row, uuid
from tests.producers.support import Listed

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.catalyst import source as catalyst
from tradetape.producers.connectors.catalyst.place import ANCHORS, Place
from tradetape.producers.connectors.catalyst.source import Catalyst
from tradetape.producers.events import Event
from tradetape.producers.simulator.catalyst.log import MIGRATION_DDL, STORE_DDL
from tradetape.schemas.errors import TradetapeError

SUBMITTED = {"order_id": "o-1", "ticker": "AAPL", "side": "buy", "quantity": 100, "order_type": "market"}
FILLED = {"order_id": "o-1", "filled_quantity": 100, "filled_price": 150.25}


@pytest.fixture
def store(tmp_path: Path) -> Database:
    return Database(tmp_path / "events.db")


def gaps(events: list[Event]) -> list[tuple[str, str]]:
    return [(e["payload"]["reason"], e["payload"]["first"]) for e in events if e["event_type"] == "system_gap"]


def snapshot(store: Database, name: str, number: int, *, created_at: int | None = None, replace: bool = True) -> None:
    values = (f"snap-{name}-{number}", "position", name, f'{{"n":{number}}}', uuid(number), number)
    made = created_at or START + number
    if replace:
        store.run("INSERT OR REPLACE INTO event_snapshots VALUES (?,?,?,?,?,?,?)", *values, made)
    else:
        store.run(
            "UPDATE event_snapshots SET state = ?, last_sequence_number = ?, created_at = ? WHERE aggregate_id = ?",
            values[3],
            number,
            made,
            name,
        )


def versions(events: list[Event]) -> list[tuple[str, int]]:
    return [(e["aggregate_id"], e["payload"]["last_sequence"]) for e in events if e["event_type"] == "entity_snapshot"]


@pytest.mark.req("S1-01", "S1-02")
@pytest.mark.parametrize("ddl", [MIGRATION_DDL, STORE_DDL], ids=["migration", "own"])
@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_rows_come_in_their_order_and_new_ones_once(tmp_path: Path, ddl: str, wal: bool) -> None:
    store = Database(tmp_path / "events.db", ddl, wal=wal)
    store.prices(5)
    source = store.open()
    assert prices(drain(source, limit=2)) == [1, 2, 3, 4, 5]
    assert source.poll(100) == []
    store.prices(2)
    assert positions(drain(source)) == [6, 7]
    assert drain(store.open(source.state())) == []
    assert source.lag() == (0, 0.0)
    store.prices(1)
    assert source.lag() == (1, 0.001)


def test_the_bot_writes_while_a_transaction_of_ours_is_long_over(store: Database) -> None:
    store.prices(3)
    source = store.open()
    assert len(source.poll(2)) == 2
    with closing(sqlite3.connect(store.path, timeout=0)) as bot:
        bot.execute("BEGIN EXCLUSIVE")
        bot.rollback()


def test_a_write_ahead_log_that_was_never_checkpointed_is_read(tmp_path: Path) -> None:
    store = Database(tmp_path / "events.db", wal=True)
    code = (
        "import sqlite3, os, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute(\"INSERT INTO event_log VALUES ('e','ALERT_SKIPPED','alert','a','{}',NULL,1730000000000,1)\")\n"
        "c.commit()\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.path)], check=False).returncode == 9
    assert (tmp_path / "events.db-wal").stat().st_size > 0
    assert [event["event_type"] for event in drain(store.open())] == ["alert_skipped"]


def test_a_locked_store_is_told_and_read_later(store: Database) -> None:
    store.prices(1)
    source = store.open()
    with closing(sqlite3.connect(store.path)) as bot:
        bot.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TradetapeError, match="locked"):
            source.poll(10)
    assert prices(drain(source)) == [1]


@pytest.mark.req("S1-01")
def test_a_fill_gets_its_instrument_from_its_order_however_far_the_reading_got(store: Database) -> None:
    store.append(row("ORDER_SUBMITTED", SUBMITTED))
    store.prices(3)
    store.append(row("ORDER_FILLED", FILLED, sequence_number=2))
    whole = drain(store.open())
    source = store.open()
    source.poll(3)
    assert drain(store.open(source.state())) == whole[3:]
    assert (whole[-1]["trading_pair"], whole[-1]["payload"]["side"]) == ("AAPL-USD", "buy")


def test_an_order_that_is_submitted_after_its_fill_does_not_explain_it(store: Database) -> None:
    store.append(row("ORDER_FILLED", FILLED, sequence_number=1))
    first = drain(store.open())
    store.append(row("ORDER_SUBMITTED", SUBMITTED, sequence_number=2))
    store.append(row("ORDER_FILLED", FILLED, event_id=uuid("again"), sequence_number=3))
    assert drain(store.open())[:1] == first
    assert [event["event_type"] for event in drain(store.open())] == [
        "unmapped_record",
        "order_created",
        "order_filled",
    ]


def test_positions_are_told_by_their_opening_and_the_memory_of_them_is_bounded(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradetape.producers.connectors.catalyst.opened.Openings.__init__.__defaults__", (2,))
    opened = {"side": "long", "quantity": 1, "entry_price": 10}
    for number, ticker in enumerate(("AAPL", "NVDA", "AMC", "PLTR")):
        name = {"aggregate_id": ticker}
        store.append(row("POSITION_OPENED", opened | {"ticker": ticker}, event_id=uuid(("o", number)), **name))
    for number, ticker in enumerate(("AAPL", "NVDA", "AMC", "PLTR", "AAPL", "NVDA")):
        columns = {"event_id": uuid(("p", number)), "aggregate_id": ticker, "sequence_number": 2 + number}
        store.append(row("POSITION_PRICE_UPDATED", {"new_price": 1}, **columns))
    pairs = [event["trading_pair"] for event in drain(store.open())[4:]]
    assert pairs == ["AAPL-USD", "NVDA-USD", "AMC-USD", "PLTR-USD", "AAPL-USD", "NVDA-USD"]


@pytest.mark.req("S1-07")
def test_each_version_of_a_snapshot_that_can_be_seen_goes_out_once(store: Database) -> None:
    store.prices(1)
    snapshot(store, "p-1", 1)
    source = store.open()
    assert versions(drain(source)) == [("p-1", 1)]
    snapshot(store, "p-2", 2)
    snapshot(store, "p-1", 3)
    assert versions(drain(source)) == [("p-2", 2), ("p-1", 3)]
    snapshot(store, "p-2", 4, replace=False)
    snapshot(store, "p-3", 5)
    assert versions(drain(source)) == [("p-2", 4), ("p-3", 5)]
    snapshot(store, "p-1", 6, created_at=START + 5, replace=False)
    assert versions(drain(source)) == [("p-1", 6)]
    assert drain(store.open(source.state())) == []
    assert {event["source_stream"] for event in drain(store.open()) if event["payload"].get("state")} == {
        "event_snapshots"
    }


@pytest.mark.req("S1-07")
def test_snapshots_come_page_by_page_and_after_the_events_they_include(store: Database) -> None:
    store.prices(3)
    for number in range(1, 8):
        snapshot(store, f"p-{number}", number)
    source = store.open()
    kinds = [event["event_type"] for event in drain(source, limit=2)]
    assert kinds == ["position_priced"] * 3 + ["entity_snapshot"] * 7
    for number in range(1, 8):
        snapshot(store, f"p-{number}", 10 + number, replace=False)
    assert versions(drain(source, limit=2)) == [(f"p-{number}", 10 + number) for number in range(1, 8)]


@pytest.mark.parametrize("deleted", [[2], [1, 2, 5], [8, 9, 10]])
def test_vacuum_after_deletions_renumbers_and_nothing_is_skipped_or_double(store: Database, deleted: list[int]) -> None:
    store.prices(10)
    source = store.open()
    before = drain(source)
    for number in deleted:
        store.run("DELETE FROM event_log WHERE event_id = ?", uuid(number))
    store.run("VACUUM")
    store.prices(4)
    again = store.open(source.state())
    after = drain(again)
    assert prices(after) == [11, 12, 13, 14]
    assert positions(before + after) == list(range(1, 15))
    assert gaps(after) == [("removed", str(number)) for number in deleted]
    assert drain(again) == []
    listed = Listed()
    for event in before + after:
        listed.emit(event, event["event_type"])
    assert all(output.audited["disposition"] == "accepted" for output in fold(before + after))


@pytest.mark.req("S1-09")
def test_the_last_row_deleted_and_its_number_taken_by_another_is_found(store: Database) -> None:
    store.prices(3)
    source = store.open()
    drain(source)
    store.run("DELETE FROM event_log WHERE rowid >= 2")
    store.prices(3)
    after = drain(source)
    assert prices(after) == [4, 5, 6]
    assert positions(after) == [4, 5, 6]
    assert gaps(after) == [("removed", "2"), ("removed", "3")]


def test_more_rows_deleted_than_are_remembered(store: Database) -> None:
    store.prices(ANCHORS + 20)
    source = store.open()
    drain(source)
    store.run("DELETE FROM event_log WHERE rowid > 15")
    store.prices(40)
    after = drain(source)
    assert gaps(after)[:ANCHORS] == [("removed", str(number)) for number in range(21, ANCHORS + 21)]
    assert gaps(after)[ANCHORS:] == [("removed", "16")]
    assert prices(after) == list(range(ANCHORS + 21, ANCHORS + 61))
    assert positions(after) == prices(after)


@pytest.mark.req("P-06")
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("left", [1, 2, 50, 137, 299])
def test_an_older_backup_put_back_loses_no_new_row_and_repeats_none(
    store: Database, tmp_path: Path, left: int, *, restarts: bool
) -> None:
    store.prices(left)
    shutil.copy(store.path, tmp_path / "backup.db")
    store.prices(400 - left)
    source = store.open()
    before = drain(source)
    shutil.copy(tmp_path / "backup.db", store.path)
    if restarts:
        source = store.open(source.state())
        assert prices(drain(source)) == []
        source = store.open(source.state())
        assert source.lag() == (0, 0.0)
    store.prices(200)
    after = drain(source)
    assert prices(after) == list(range(401, 601))
    assert positions(after) == list(range(401, 601))
    assert ("removed", str(left + 1)) in gaps(before + after) or restarts
    assert {output.audited["disposition"] for output in fold(before + after)} == {"accepted"}
    assert source.lag() == (0, 0.0)
    assert drain(store.open(source.state())) == []


@pytest.mark.parametrize(("earlier", "taken"), [(0, 10), (1, 9)])
def test_what_cannot_be_told_apart_after_a_cut_is_told(store: Database, earlier: int, taken: int) -> None:
    def write(number: int, created_at: int) -> None:
        columns = {"event_id": uuid(number), "sequence_number": number, "created_at": created_at}
        store.append(row("POSITION_PRICE_UPDATED", {"new_price": 100}, **columns))

    for number in range(1, 101):
        write(number, START)
    source = store.open()
    drain(source)
    store.run("DELETE FROM event_log WHERE rowid > 50")
    for number in range(101, 111):
        write(number, START - earlier)
    after = drain(source)
    assert len(prices(after)) == taken
    detail = [event["payload"].get("detail", "") for event in after][ANCHORS]
    assert ("rows 51 to 51 say an earlier time" in detail) == bool(earlier)


def test_the_rows_that_are_remembered_are_few(store: Database) -> None:
    place = Place()
    for first in range(1, 20_000, 7):
        place = place.after([(rowid, row("ALERT_SKIPPED", event_id=uuid(rowid))) for rowid in range(first, first + 7)])
    assert ANCHORS < len(place.anchors) < ANCHORS * 6
    numbers = [anchor.rowid for anchor in place.anchors]
    assert numbers == sorted(set(numbers))
    assert numbers[-ANCHORS:] == list(range(place.rowid - ANCHORS + 1, place.rowid + 1))
    assert all(after - before <= max(1, (place.rowid - before) // 8) for before, after in pairwise(numbers))
    assert Place.of(place.saved()) == place


@pytest.mark.req("S1-09")
def test_a_row_that_is_changed_after_it_was_taken_is_told_once(store: Database) -> None:
    store.prices(3)
    source = store.open()
    drain(source)
    store.run("UPDATE event_log SET payload = '{\"new_price\": 1}' WHERE rowid = 2")
    assert gaps(drain(source)) == [("changed", "2")]
    store.prices(1)
    assert gaps(drain(store.open(source.state()))) == []
    store.run("ALTER TABLE event_log ADD COLUMN trace TEXT")
    assert drain(store.open(source.state())) == drain(source)[:1]


def test_a_row_that_is_written_again_under_its_id_goes_out_again(store: Database) -> None:
    store.prices(3)
    source = store.open()
    drain(source)
    again = row("POSITION_PRICE_UPDATED", {"new_price": 177}, event_id=uuid(2), sequence_number=9)
    store.run("DELETE FROM event_log WHERE event_id = ?", uuid(2))
    store.append(again)
    assert prices(drain(source)) == [77]


def test_a_copy_is_the_same_source_and_another_database_is_not(store: Database, tmp_path: Path) -> None:
    store.prices(3)
    shutil.copy(store.path, tmp_path / "copy.db")
    other = Database(tmp_path / "other.db")
    other.append(row("ALERT_SKIPPED", created_at=START + 1))
    name = catalyst.fingerprint(str(store.path))
    assert catalyst.fingerprint(str(tmp_path / "copy.db")) == name
    assert catalyst.fingerprint(str(other.path)) != name
    store.prices(1)
    store.run("VACUUM")
    assert catalyst.fingerprint(str(store.path)) == name


def test_a_file_put_in_its_place_is_not_read_as_the_same_store(store: Database, tmp_path: Path) -> None:
    store.prices(3)
    source = store.open()
    drain(source)
    other = Database(tmp_path / "other.db")
    other.append(row("ALERT_SKIPPED"))
    other.path.replace(store.path)
    with pytest.raises(TradetapeError, match="replaced"):
        source.poll(10)
    with pytest.raises(TradetapeError, match="none of the events") as raised:
        store.open(source.state()).poll(10)
    assert "--source-id" in str(raised.value.hint)


def test_a_restored_copy_goes_on_where_it_ends(store: Database, tmp_path: Path) -> None:
    store.prices(3)
    shutil.copy(store.path, tmp_path / "backup.db")
    store.prices(2)
    source = store.open()
    drain(source)
    (tmp_path / "backup.db").replace(store.path)
    store.prices(2)
    after = drain(store.open(source.state()))
    assert (prices(after), positions(after)) == ([6, 7], [6, 7])


def test_an_emptied_log_is_another_source(store: Database) -> None:
    store.prices(3)
    source = store.open()
    drain(source)
    store.run("DELETE FROM event_log")
    with pytest.raises(TradetapeError, match="none of the events"):
        source.poll(10)


def test_old_rows_may_be_archived_away(store: Database) -> None:
    store.prices(100)
    source = store.open()
    drain(source)
    store.run("DELETE FROM event_log WHERE rowid <= 60")
    store.run("VACUUM")
    store.prices(2)
    after = drain(store.open(source.state()))
    assert (prices(after), positions(after), gaps(after)) == ([101, 102], [101, 102], [])


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "does not exist"), (b"", "is empty"), (b"text, and longer than a header", "not an SQLite database")],
)
def test_no_database_is_told_with_a_hint(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "events.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TradetapeError, match=said) as raised:
        catalyst.fingerprint(str(path))
    assert raised.value.hint


@pytest.mark.parametrize("name", ["a\0b.db", "x" * 300])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(TradetapeError, match="cannot be read") as raised:
        catalyst.fingerprint(str(tmp_path / name))
    assert raised.value.hint


def test_a_store_that_goes_away_is_told_with_a_hint(store: Database) -> None:
    store.prices(1)
    source = store.open()
    store.path.unlink()
    with pytest.raises(TradetapeError, match="cannot be read") as raised:
        source.poll(10)
    assert raised.value.hint


def test_a_foreign_database_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError, match="table event_log missing"):
        Database(tmp_path / "a.db", "CREATE TABLE x (y)").open()
    with pytest.raises(TradetapeError, match=r"column event_log\.payload"):
        Database(tmp_path / "b.db", "CREATE TABLE event_log (event_id TEXT, event_type TEXT)").open()


def test_a_damaged_database_is_told_with_a_hint(store: Database) -> None:
    store.prices(400)
    with store.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\x5a" * 16_384)
    with pytest.raises(TradetapeError) as raised:
        drain(store.open())
    assert raised.value.hint


def test_an_empty_log_has_no_name_yet_but_can_be_followed_under_a_given_one(store: Database) -> None:
    with pytest.raises(TradetapeError, match="no event yet") as raised:
        catalyst.fingerprint(str(store.path))
    assert "--source-id" in str(raised.value.hint)
    source = store.open()
    assert source.poll(10) == []
    assert source.lag() == (0, None)
    assert source.ended() == []
    store.prices(1)
    assert prices(drain(source)) == [1]


@pytest.mark.req("P-08")
def test_foreign_content_is_evidence_and_stops_nothing(tmp_path: Path) -> None:
    ddl = "CREATE TABLE event_log (event_id, event_type, aggregate_type, aggregate_id, payload, created_at, note)"
    store = Database(tmp_path / "events.db", ddl)
    store.run("INSERT INTO event_log VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL)")
    store.run("INSERT INTO event_log VALUES (x'ff', x'00', 1.5, x'ff', x'ff', 'now', 'more')")
    store.run("INSERT INTO event_log VALUES ('e', 'ORDER_FILLED', 'order', CAST(x'ff' AS TEXT), '{}', 1, 1)")
    store.run("INSERT INTO event_log VALUES ('e', 'ALERT_SKIPPED', 'alert', 'a', '{}', 1730000000000, 1)")
    source = store.open()
    events = drain(source, limit=1)
    assert [event["event_type"] for event in events] == ["unmapped_record"] * 3 + ["alert_skipped"]
    assert b'"note":"more"' in events[1]["native"]
    store.run("INSERT INTO event_log VALUES ('f', 'ALERT_SKIPPED', 'alert', 'a', '{}', 1730000000000, 1)")
    assert positions(drain(store.open(source.state()))) == [5]


@pytest.mark.req("S3-09", "N-03")
def test_the_end_is_told_once_with_what_the_store_holds(store: Database, tmp_path: Path) -> None:
    store.prices(3)
    snapshot(store, "p-1", 1)
    emitter, checkpoints = Listed(), Checkpoints(tmp_path / "checkpoints")
    runner.run(store.open(), emitter, checkpoints)
    (end,) = emitter.of("source_ended")
    assert end["payload"] == {
        "rows": {"event_log": 3, "event_snapshots": 1},
        "events": {"position_priced": 3, "entity_snapshot": 1},
    }
    again = runner.run(store.open(checkpoints.load("store-1")), Listed(), checkpoints)
    assert (again.sent, again.already_ingested) == (0, True)


def test_a_big_page_is_cut_by_its_bytes(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradetape.producers.connectors.catalyst.store.PAGE_BYTES", 1000)
    store.prices(20)
    snapshot(store, "p-1", 1)
    source = store.open()
    first = source.poll(100)
    assert 0 < len(first) < 20
    rest = drain(source)
    assert prices([*first, *rest]) == list(range(1, 21))
    assert [*first, *rest][-1]["event_type"] == "entity_snapshot"


@pytest.mark.req("S1-07", "P-06")
def test_more_versions_of_one_moment_than_a_page_holds_go_out_once(store: Database) -> None:
    for number in range(1, 301):
        snapshot(store, f"p-{number}", number, created_at=START)
    source = store.open()
    assert sorted(number for _, number in versions(drain(source, limit=70))) == list(range(1, 301))
    assert source.poll(70) == []
    source = store.open(source.state())
    assert source.poll(70) == []
    snapshot(store, "p-3", 301, created_at=START, replace=False)
    snapshot(store, "p-301", 302, created_at=START)
    assert versions(drain(source, limit=70)) == [("p-3", 301), ("p-301", 302)]


def test_versions_that_were_seen_and_fill_a_page_hide_no_new_one(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradetape.producers.connectors.catalyst.store.PAGE_BYTES", 1000)
    for number in range(1, 41):
        snapshot(store, f"p-{number}", number, created_at=START)
    source = store.open()
    assert len(versions(drain(source))) == 40
    snapshot(store, "p-41", 41, created_at=START)
    assert versions(drain(source)) == [("p-41", 41)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("poll"), st.integers(1, 5)),
        st.tuples(st.just("save"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("vacuum"), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.req("P-06", "S1-11")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_killed_anywhere_every_row_is_accepted_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    store = Database(tmp_path_factory.mktemp("killed") / "events.db")
    sent: list[Event] = []
    saved: dict[str, Any] | None = None
    source: Catalyst = store.open()
    for step, number in [*steps, ("poll", 1000)]:
        match step:
            case "write":
                store.prices(number)
            case "poll":
                sent += source.poll(number)
            case "save":
                saved = source.state()
                source.acknowledge()
            case "kill" | "forget":
                saved = saved if step == "kill" else None
                source.close()
                source = store.open(saved)
            case "vacuum":
                store.run("VACUUM")
    sent += drain(source)
    outputs = fold(sent)
    accepted = [
        event for event, output in zip(sent, outputs, strict=True) if output.audited["disposition"] == "accepted"
    ]
    assert prices(accepted) == list(range(1, store.written + 1))
    assert {output.audited["disposition"] for output in outputs} <= {"accepted", "duplicate"}
    by_position = {event["source_position"]: event["event_id"] for event in sent}
    assert all(by_position[event["source_position"]] == event["event_id"] for event in sent)


def test_the_origin_says_who_the_bot_is(store: Database) -> None:
    store.prices(1)
    source = catalyst.open_source(str(store.path), origin(account="main", owner="kim"), {"form": "another"})
    (event,) = drain(source)
    assert (event["account"], event["owner"], event["source_id"]) == ("main", "kim", "store-1")
    assert (event["source_system"], event["adapter"], event["legacy"]) == ("catalyst", "catalyst@1", True)

"""The store as of any time, verified, stepped through and asked what if, on rows that are known (S1-06 to S1-08)."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.folding import SCHEMAS
from tests.integration.clickhouse import Server, serve
from tests.processors.logs import log

from tradetape.infra import verification
from tradetape.infra.cli import main as cli
from tradetape.infra.settings import Settings
from tradetape.processors.control import limits
from tradetape.processors.core import ACCEPTED
from tradetape.processors.emission import Emitted
from tradetape.processors.portfolio import books
from tradetape.processors.portfolio.order import book_of
from tradetape.processors.replay import Replay
from tradetape.processors.risk import Figures
from tradetape.processors.state import PartitionState
from tradetape.processors.views import instances
from tradetape.processors.views.instances import Shown
from tradetape.processors.views.look import Look
from tradetape.processors.views.plain import plain
from tradetape.schemas import codec, times, topics
from tradetape.schemas.catalogue import event_types, output_schema
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import (
    migrate,
    portfolio_travel,
    raws,
    snapshots,
    steps,
    stored,
    strays,
    travel,
    views,
    what_if,
)
from tradetape.sinks.archive import LEFT, Archive
from tradetape.sinks.portfolio_check import PortfolioCheck
from tradetape.sinks.reconciliation import stored as reconciled
from tradetape.sinks.store import Store
from tradetape.sinks.tables import ALERTS, PORTFOLIOS, QUARANTINE, RISK, RISK_LATEST, TABLES, Table
from tradetape.sinks.travel import When

pytestmark = pytest.mark.integration

PARTITIONS = 2
LOG = log(1, PARTITIONS)
CUT = LOG[0][60].timestamp
"""A time by which part of the record was taken in."""

_tokens = count(1)


@cache
def judged() -> list[Emitted]:
    folds = [(Replay(partition, SCHEMAS.get), records) for partition, records in LOG.items()]
    return [sent for replay, records in folds for raw in records for sent in replay.fold(raw)]


def figures_of_portfolios(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the stage makes of the deltas, shuffled as partitions that race."""
    rng = random.Random("race")
    left = {n: [delta for delta in deltas if delta["raw_partition"] == n] for n in range(PARTITIONS)}
    state = PartitionState(0, {})
    made = []
    while any(left.values()):
        queue = left[rng.choice([n for n, queue in left.items() if queue])]
        figure = books.fold(queue.pop(0), state)
        assert figure is not None
        made.append(figure)
    return made


def fill(store: Store) -> None:
    sent = judged()
    rows = [(stored.table_of(each.topic, each.record), each.record) for each in sent if each.topic != topics.PORTFOLIO]
    deltas = [each.record for each in sent if each.topic == topics.PORTFOLIO]
    rows += [(PORTFOLIOS, figure) for figure in figures_of_portfolios(deltas)]
    for table in TABLES.values():
        land(store, table, [record for where, record in rows if where is table])


def land(store: Store, table: Table, records: list[dict[str, Any]]) -> None:
    encode = codec.Encoder(output_schema(table.record), 0).encode
    bodies = [encode(record)[codec.HEADER.size :] for record in records]
    store.insert(table, output_schema(table.record), bodies, f"travel-{next(_tokens)}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as running:
        store = Store(running.url)
        migrate.migrate(store)
        fill(store)
        store.close()
        yield running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    connected = Store(server.url)
    yield connected
    connected.command("TRUNCATE TABLE tradetape.snapshots")
    connected.close()


def last_figure(known_at: int | None = None) -> dict[str, Any]:
    """The last figure that was shown by then, of the instance with most figures."""
    figures = [sent.record for sent in judged() if sent.topic == topics.RISK]
    figures = [each for each in figures if known_at is None or each["ingest_ts_utc"] <= known_at]
    names = [each["instance_name"] for each in figures if each["instance_name"] != "bot1"]
    return [each for each in figures if each["instance_name"] == max(names, key=names.count)][-1]


@pytest.mark.req("N-05", "S1-06", "S1-07")
@pytest.mark.parametrize("known_at", [None, CUT])
def test_as_known_at_a_time_is_what_was_shown_then_with_and_without_a_snapshot(
    store: Store, known_at: int | None
) -> None:
    figure = last_figure(known_at)
    name = figure["instance_name"]
    whole = travel.instance_at(store, SCHEMAS.get, name, When(known_at=known_at), environment=figure["environment"])
    (found,) = whole["found"]
    assert {field: found["figures"][0][field] for field in Figures._fields} == {
        field: plain(figure[field], field) for field in Figures._fields
    }
    assert found["snapshot"] is None
    assert found["judged_by"] == [figure["core_version"]]
    for partition, last in raws.known(store, CUT).items():
        for offset in (last // 2, last):
            written = snapshots.write(store, partition, offset, SCHEMAS.get)
            assert written is not None
            assert (written.last.raw_partition, written.last.raw_offset) == (partition, offset)
    assert snapshots.write(store, 0, last_known(store, CUT, 0), SCHEMAS.get) is None
    begun = travel.instance_at(store, SCHEMAS.get, name, When(known_at=known_at), environment=figure["environment"])
    snapshot = begun["found"][0].pop("snapshot")
    del found["snapshot"]
    assert snapshot["raw_offset"] == last_known(store, CUT, figure["raw_partition"])
    assert begun == whole


def last_known(store: Store, known_at: int, partition: int) -> int:
    return raws.known(store, known_at)[partition]


@pytest.mark.req("S1-06", "N-05")
def test_at_a_time_counts_the_events_that_had_happened(store: Store) -> None:
    figure = last_figure()
    name, partition = figure["instance_name"], figure["raw_partition"]
    owner = (figure["environment"], figure["account"], name)
    sent = [each for each in judged() if each.record["raw_partition"] == partition]
    accepted = {
        each.record["raw_offset"]: each.record["ts_utc"]
        for each in sent
        if (each.record["derived_seq"], each.record.get("disposition")) == (0, ACCEPTED)
    }
    own = sorted(
        each.record["ts_utc"] for each in sent if each.topic == topics.RISK and each.record["instance_name"] == name
    )
    moment = own[len(own) // 2]
    assert 0 < sum(ts_utc <= moment for ts_utc in accepted.values()) < len(accepted)
    replay = Replay(partition, SCHEMAS.get, contiguous=False)
    shown = None
    for raw in LOG[partition]:
        if accepted.get(raw.offset, moment + 1) <= moment:
            for each in replay.fold(raw):
                if each.topic == topics.RISK and owner == tuple(each.record[key] for key in KEY):
                    shown = Shown(*(each.record[key] for key in ("ts_utc", "connector_name", "trading_pair")))
    expected = plain(instances.instance(Look.at(replay), owner, shown))
    (found,) = travel.instance_at(store, SCHEMAS.get, name, When(at=moment), environment=owner[0])["found"]
    assert {key: found[key] for key in expected} == expected
    assert expected["figures"]
    rows = travel.position_timeline(store, SCHEMAS.get, name, expected["figures"][0]["trading_pair"], When(at=moment))
    assert rows[-1]["ts_utc"] <= times.text(moment)


KEY = ("environment", "account", "instance_name")


@pytest.mark.req("S1-06")
def test_orders_positions_their_timeline_and_portfolios(store: Store) -> None:
    figure = last_figure()
    name, pair = figure["instance_name"], figure["trading_pair"]
    (position,) = travel.position_at(store, SCHEMAS.get, name, pair)["found"]
    for field in ("net_base", "avg_cost", "realised_quote", "realised_fifo_quote", "mark_price", "unrealised_quote"):
        assert position[field] == plain(figure[field]), field
    shown = travel.position_timeline(store, SCHEMAS.get, name, pair)
    assert shown[-1]["raw_offset"] == figure["raw_offset"]
    folded = travel.position_timeline(store, SCHEMAS.get, name, pair, When(at=times.LATEST - 1))
    assert [{**row, "fees": dict(sorted(row["fees"].items()))} for row in folded] == [
        {**row, "fees": dict(sorted(row["fees"].items()))} for row in shown
    ]
    filled = store.query("SELECT order_id FROM tradetape.events WHERE event_type = 'order_filled' LIMIT 1")[0][0]
    assert travel.order_at(store, SCHEMAS.get, filled)["found"][0]["client_order_id"] == filled
    # Partitions raced, and what follows from the way there (a peak, a day) is what was shown all the same.
    portfolio = portfolio_travel.portfolio_at(store, SCHEMAS.get, "all", environment=figure["environment"])
    made = figures_of_portfolios([sent.record for sent in judged() if sent.topic == topics.PORTFOLIO])
    shown_last = {book_of(each): each for each in made}
    assert portfolio["found"]
    for found in portfolio["found"]:
        assert found == plain(stored.as_row(PORTFOLIOS, shown_last[book_of(found)]))


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Iterator[Archive]:
    """An archive of the store; afterwards everything is in the tables again."""
    yield Archive(store, tmp_path, str(tmp_path))
    for name in (*(table.full_name for table in TABLES.values()), RISK_LATEST, views.LEDGER, LEFT):
        store.command(f"TRUNCATE TABLE {name}")
    views.refresh(store, "")
    fill(store)


def passing_figure() -> dict[str, Any]:
    """A figure that was the last one of its position for a while, after an event that is not kept for good."""
    figures = [sent.record for sent in judged() if sent.topic == topics.RISK]
    for number, each in enumerate(figures):
        position = [each[key] for key in (*KEY, "connector_name", "trading_pair", "raw_partition")]
        later = [
            [other[key] for key in (*KEY, "connector_name", "trading_pair", "raw_partition")]
            for other in figures[number + 1 :]
        ]
        if event_types()[each["event_type"]].retention != "permanent" and position in later:
            return each
    raise AssertionError("no such figure")


def told(store: Store) -> dict[str, Any]:
    """What is said of an instance as of several times, event by event, and to reconcile what there is."""
    figure = passing_figure()
    name, pair, at = figure["instance_name"], figure["trading_pair"], figure["ingest_ts_utc"]
    rows = [(record.event_id, record.fields) for record in reconciled.rows(store, {"", "crash-1"})]
    return {
        "instance": travel.instance_at(store, SCHEMAS.get, name, When(known_at=at)),
        "happened": travel.instance_at(store, SCHEMAS.get, name, When(at=figure["ts_utc"])),
        "timeline": travel.position_timeline(store, SCHEMAS.get, name, pair),
        "steps": list(steps.walk(store, SCHEMAS.get, name)[1]),
        "rows": sorted(rows, key=lambda row: row[0]),
        **{query: reconciled.named(store, query) for query in ("portfolio_parts", "portfolio_figures")},
    }


@pytest.mark.req("S1-10", "S1-06", "S1-08", "S3-11", "P-06")
@pytest.mark.usefixtures("our_schemas")
def test_archived_rows_are_still_seen(store: Store, archive: Archive) -> None:
    beyond = some(RISK) | {"raw_offset": 100_000, "event_type": "market_price", "trading_pair": "A-B"}
    land(store, RISK, [beyond, beyond | {"raw_offset": 100_001}])
    before = told(store)
    assert {manifest.table for manifest in archive.run("2999-01-01")} == {table.name for table in TABLES.values()}
    assert told(store) == before
    verdict = verify(store)
    assert all(outcome.agrees for outcome in verdict.outcomes)
    # Nor do rows hide there that stand where no record is.
    assert {found.place for found in verdict.others} == {
        f"{beyond['raw_partition']}:{offset}:{beyond['derived_seq']}" for offset in (100_000, 100_001)
    }


@pytest.mark.req("P-06")
def test_rows_on_their_way_are_no_strays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    last = raws.last_stored(store)
    numbers = count(last[0] + 1)

    def come_in(*_: object) -> None:
        """A figure before its verdict, as on a stack that runs."""
        land(store, RISK, [some(RISK) | {"raw_partition": 0, "raw_offset": next(numbers)}])

    looks = count(last[0])
    come_in()
    monkeypatch.setattr(strays, "sleep", come_in)
    monkeypatch.setattr(raws, "last_stored", lambda *_: last | {0: next(looks)})
    try:
        assert strays.find(store) == []
    finally:
        gone = f"ALTER TABLE tradetape.risk DELETE WHERE raw_partition = 0 AND raw_offset > {last[0]}"
        store.command(gone, {"mutations_sync": 1})


@pytest.mark.req("S2-03")
def test_a_trading_state_is_the_one_that_was_kept_online(store: Store) -> None:
    written = [sent.record for sent in judged() if sent.record.get("event_type") == "trading_state"][-1]
    where = {"environment": written["environment"], "account": written["account"]}
    known = When(known_at=written["ingest_ts_utc"])
    found = travel.instance_at(store, SCHEMAS.get, written["instance_name"], known, **where)["found"]
    # Control records about the instance are in every partition, what it said itself is in one.
    (own,) = [each for each in found if each["last_record"]["raw_partition"] == written["raw_partition"]]
    assert own["trading_state"] == json.loads(written["payload"])


def test_what_is_not_on_record_is_said(store: Store) -> None:
    with pytest.raises(TradetapeError, match="no instance 'nobody' is on record"):
        travel.instance_at(store, SCHEMAS.get, "nobody")
    with pytest.raises(TradetapeError, match="by then"):
        travel.instance_at(store, SCHEMAS.get, last_figure()["instance_name"], When(known_at=times.EARLIEST))
    with pytest.raises(TradetapeError, match="no order"):
        travel.order_at(store, SCHEMAS.get, "nothing")


@pytest.mark.req("S1-08")
def test_an_aggregate_is_walked_event_by_event(store: Store) -> None:
    snapshots.write(store, 0, 20, SCHEMAS.get)
    figure = last_figure()
    kind, walked = steps.walk(store, SCHEMAS.get, figure["instance_name"])
    documents = list(walked)
    assert kind == "instance"
    assert [(each["ingest_ts_utc"], each["raw_partition"]) for each in documents] == sorted(
        (each["ingest_ts_utc"], each["raw_partition"]) for each in documents
    )
    changed: dict[tuple[str, str], Any] = {}
    for each in documents:
        for change in each["changes"]:
            if change["field"] == "figures.net_base":
                assert changed.get((each["raw_partition"], each["trading_pair"]), "0") == change["before"]
                changed[each["raw_partition"], each["trading_pair"]] = change["after"]
    assert changed[figure["raw_partition"], figure["trading_pair"]] == plain(figure["net_base"])
    order = store.query("SELECT order_id FROM tradetape.events WHERE event_type = 'order_filled' LIMIT 1")[0][0]
    kind, walked = steps.walk(store, SCHEMAS.get, order)
    assert kind == "order"
    assert {each["order_id"] for each in walked} == {order}
    chain = store.query("SELECT correlation_id FROM tradetape.events WHERE event_type = 'order_created' LIMIT 1")[0][0]
    assert list(steps.walk(store, SCHEMAS.get, chain)[1])
    with pytest.raises(TradetapeError, match="no order, position, chain or instance"):
        steps.walk(store, SCHEMAS.get, "nothing")


@pytest.mark.req("N-06")
def test_other_limits_change_decisions_of_the_stretch_alone(store: Store) -> None:
    rule = '[[limit]]\nname = "orders"\nfigure = "open_orders"\nat_most = "0"\nenvironment = "paper"\naction = "kill"\n'
    rules = limits.check(tomllib.loads(rule))
    changes = list(what_if.decisions_that_change(store, SCHEMAS.get, rules))
    kills = [each for each in changes if each["code"] == "kill_switch" and each["would"] == "happen"]
    assert kills
    assert {(each["limit"], each["threshold"]) for each in kills} == {("orders", "0")}
    later = list(what_if.decisions_that_change(store, SCHEMAS.get, rules, since=CUT + 1))
    assert all(each["ingest_ts_utc"] > times.text(CUT) for each in later)
    early = list(what_if.decisions_that_change(store, SCHEMAS.get, rules, until=CUT))
    assert early == [each for each in changes if each["ingest_ts_utc"] <= times.text(CUT)]


def verify(store: Store, partitions: tuple[int, ...] = ()) -> verification.Verdict:
    found = Settings(Path(), "", "", store.url, "tradetape", PARTITIONS, Path())
    return verification.run(found, partitions=partitions, on_progress=lambda *_: None, patience=0)


@pytest.fixture
def our_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradetape.infra.replay.writer_schemas", lambda _: SCHEMAS.get)
    monkeypatch.setattr("tradetape.sinks.raw_log.writer_schemas", lambda _: SCHEMAS.get)
    monkeypatch.setattr("tradetape.infra.replay.Registry", lambda _: None)


@pytest.mark.req("P-06", "S3-09")
@pytest.mark.usefixtures("our_schemas")
def test_a_healthy_store_verifies(store: Store) -> None:
    snapshots.write(store, 0, 50, SCHEMAS.get)
    snapshots.write(store, 1, 70, SCHEMAS.get)
    verdict = verify(store)
    assert verdict.agrees, list(verdict.differences())
    assert verdict.snapshots == 2
    assert verdict.portfolios is not None
    assert verdict.portfolios.not_compared == 0
    rows = sum(int(store.query(f"SELECT count() FROM {table.full_name}")[0][0]) for table in TABLES.values())
    assert verdict.equal == rows + 2


@pytest.mark.req("P-06", "P-02")
def test_what_came_in_while_it_was_verified_is_no_difference(store: Store) -> None:
    for cut in (0, 40):
        check, last = PortfolioCheck(), {}
        for partition, records in LOG.items():
            known = records[: len(records) - cut * (partition + 1)]
            last[partition] = known[-1].offset
            replay = Replay(partition, SCHEMAS.get)
            for raw in known:
                check.observe(replay, replay.fold(raw))
        checked = check.finish(store, last, 0)
        assert (checked.different, checked.first) == (0, None)
        assert checked.equal > 0
        assert checked.equal + checked.later == store.query(f"SELECT count() FROM {PORTFOLIOS.full_name}")[0][0]
        assert bool(checked.later) is bool(cut)


def another_turn(row: dict[str, Any]) -> dict[str, Any]:
    return {"book_seq": row["book_seq"] + 1}


def an_exposure(row: dict[str, Any]) -> dict[str, Any]:
    return {"exposure_net": row["exposure_net"] + Decimal("1e-18")}


def a_byte(row: dict[str, Any]) -> dict[str, Any]:
    return {"raw": row["raw"][:-1] + bytes([row["raw"][-1] ^ 1])}


def another_place(row: dict[str, Any]) -> dict[str, Any]:
    return {"raw_offset": 100_000}


def some(table: Table) -> dict[str, Any]:
    """A row of ``table`` as it is written, in the middle of them."""
    sent = judged()
    if table is PORTFOLIOS:
        records = figures_of_portfolios([each.record for each in sent if each.topic == topics.PORTFOLIO])
        records = [each for each in records if each["exposure_net"] is not None]
    else:
        records = [
            each.record
            for each in sent
            if each.topic != topics.PORTFOLIO and stored.table_of(each.topic, each.record) is table
        ]
    return records[len(records) // 2]


@pytest.mark.req("P-06", "S1-09")
@pytest.mark.usefixtures("our_schemas")
@pytest.mark.parametrize(
    ("table", "change", "field"),
    [
        (PORTFOLIOS, an_exposure, "exposure_net"),
        (PORTFOLIOS, another_turn, "book_seq"),
        (PORTFOLIOS, None, "row"),
        (QUARANTINE, a_byte, "raw"),
        (ALERTS, another_place, "row"),
    ],
)
def test_whatever_is_changed_is_named_with_its_place(
    store: Store, table: Table, change: Callable[[dict[str, Any]], dict[str, Any]] | None, field: str
) -> None:
    row = some(table)
    where = (
        f"raw_partition = {row['raw_partition']} AND raw_offset = {row['raw_offset']} "
        f"AND derived_seq = {row['derived_seq']}"
    )
    store.command(f"ALTER TABLE {table.full_name} DELETE WHERE {where} SETTINGS mutations_sync = 2")
    changed = None if change is None else {**row, **change(row)}
    if changed is not None:
        land(store, table, [changed])
    try:
        verdict = verify(store)
    finally:
        if changed is not None:
            moved = where.replace(str(row["raw_offset"]), str(changed["raw_offset"]), 2)
            store.command(f"ALTER TABLE {table.full_name} DELETE WHERE {moved} SETTINGS mutations_sync = 2")
        land(store, table, [row])
    assert not verdict.agrees
    place = "{raw_partition}:{raw_offset}:{derived_seq}".format_map(row)
    named = {(found.table, found.place) for found in verdict.differences()}
    assert (table.name, place) in named
    if change is another_place:
        assert (table.name, f"{row['raw_partition']}:100000:{row['derived_seq']}") in named
    elif change is not a_byte:
        assert field in {found.field for found in verdict.differences()}


@pytest.mark.req("S1-07")
@pytest.mark.usefixtures("our_schemas")
def test_a_snapshot_that_was_changed_is_told_and_not_used(store: Store) -> None:
    snapshots.write(store, 0, 50, SCHEMAS.get)
    store.command(
        "ALTER TABLE tradetape.snapshots UPDATE state = concat(state, 'x') WHERE 1 SETTINGS mutations_sync = 2"
    )
    verdict = verify(store, (0,))
    assert [(found.table, found.place) for found in verdict.differences()] == [("snapshots", "0:50")]
    with pytest.raises(TradetapeError, match="0:50 is not what its hash says"):
        snapshots.newest(store, 0, 60)


@pytest.mark.req("S1-06", "S1-07", "S1-08", "N-06", "P-06")
@pytest.mark.usefixtures("our_schemas")
def test_the_commands(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADETAPE_CLICKHOUSE_URL", store.url)
    monkeypatch.setenv("TRADETAPE_REGISTRY_URL", "http://localhost:1")

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli.tradetape, ["--home", str(tmp_path), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    figure = last_figure()
    name, pair = figure["instance_name"], figure["trading_pair"]
    assert "sha256" in said("snapshot")
    assert said("snapshot") == "nothing new is stored since the last snapshots\n"
    assert len(said("snapshot", "--list").splitlines()) == 2 + PARTITIONS
    (position,) = json.loads(said("state", "position", name, pair, "--output", "json"))["found"]
    assert position["net_base"] == plain(figure["net_base"])
    assert position["snapshot"]["raw_offset"] == LOG[figure["raw_partition"]][-1].offset
    told = said("state", "instance", name, "--known-at", times.text(figure["ingest_ts_utc"]))
    assert ["figures[0].realised_quote", plain(figure["realised_quote"])] in [
        line.split() for line in told.splitlines()
    ]
    assert times.text(figure["ts_utc"]) in said("state", "position", name, pair, "--timeline")
    assert "exposure_net" in said("state", "portfolio")
    (order,) = store.query("SELECT order_id FROM tradetape.events WHERE event_type = 'order_filled' LIMIT 1")[0]
    assert "is_open" in said("state", "order", order)
    assert f"order {order}\n" in said("replay", "--step", order)
    rules = tmp_path / "other.toml"
    rules.write_text('[[limit]]\nname = "orders"\nfigure = "open_orders"\nat_most = "0"\nenvironment = "paper"\n')
    assert "limit_breached" in said("what-if", "--limits", str(rules))
    assert said("verify").endswith("OK: everything that is stored follows from the stored bytes\n")

"""`tradetape reconcile` on the real stack: every kind of store, what was done to it after it was taken in, and N-03.

Costs about a minute beside the stack that all integration tests share.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from tests import guides
from tests.integration.conftest import Tradetape
from tests.integration.test_hummingbot import DATABASES
from tests.producers.quantum_redis import client_of
from tests.stores import Postgres, Valkey
from tests.support import eventually

from tradetape.infra import settings
from tradetape.infra.cli import main as cli
from tradetape.producers.simulator import canonical, trend
from tradetape.producers.simulator.catalyst import fleet as catalyst
from tradetape.producers.simulator.catalyst.fleet import DEFECTS as CATALYST_DEFECTS
from tradetape.producers.simulator.hummingbot import simulate_hummingbot
from tradetape.producers.simulator.quantum import fleet as quantum
from tradetape.producers.simulator.turtle import fleet as turtle

pytestmark = pytest.mark.integration

STORED_SECONDS = 60.0
KINDS = ("turtle", "quantum", "catalyst", "trend", "hummingbot", "envelope")
LEDGER = "events.jsonl"


def reconcile(stack: Tradetape, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The report of one command, and its exit code checked."""
    command = ["--home", str(stack.home), "reconcile", *arguments, "--patience", "0", "--output", "json"]
    done = CliRunner().invoke(cli.tradetape, command)
    assert done.exit_code == code, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def kinds_of(report: dict[str, Any]) -> list[str]:
    return [found["kind"] for each in report["reconciliations"] for found in each["differences"]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """One store of each kind, taken in; ``locations`` by kind."""

    stack: Tradetape
    folder: Path
    file: str
    locations: dict[str, str]

    def one(self, kind: str, location: str = "", code: int = 0) -> dict[str, Any]:
        """The reconciliation of one store, at another ``location`` if it was copied there."""
        options = ["--source-id", f"rec-{kind}", "--instance", f"rec-{kind}"]
        report = reconcile(self.stack, kind, location or self.locations[kind], *options, code=code)
        found: dict[str, Any] = report["reconciliations"][0]
        return found

    def copy(self, kind: str, name: str = "copies") -> Path:
        """The store of ``kind``, copied with what lies beside it."""
        was = Path(self.locations[kind])
        target = self.folder / name / was.parent.name
        shutil.copytree(was.parent, target, dirs_exist_ok=True)
        return target / was.name


@pytest.fixture(scope="module")
def fleet(
    stack: Tradetape, postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("reconcile")
    database, redis = postgres.database(), valkey.database()
    turtle.simulate(database, bots=1, steps=24, seed=7, defects=list(turtle.DEFECTS))
    quantum.simulate(redis, bots=1, steps=24, seed=7, defects=list(quantum.DEFECTS))
    (alerts,) = catalyst.simulate(folder / "catalyst", bots=1, steps=24, seed=7, defects=CATALYST_DEFECTS).files
    (ledger,) = trend.simulate(folder / "trend", bots=1, steps=12, seed=7).files
    (trades,) = simulate_hummingbot(folder / "hummingbot", bots=1, orders_per_bot=40, seed=7).files
    (lines,) = canonical.simulate(folder / "envelope", bots=1, steps=6, seed=7).files
    locations = {
        "turtle": turtle.bot_location(database, 1),
        "quantum": quantum.bot_location(redis, 1),
        "catalyst": str(alerts),
        "trend": str(ledger),
        "hummingbot": str(trades),
        "envelope": str(lines),
    }
    tables = [
        f'[[source]]\nkind = "{kind}"\nlocation = "{location}"\ninstance = "rec-{kind}"\nsource_id = "rec-{kind}"\n'
        for kind, location in locations.items()
    ]
    file = folder / "tradetape.toml"
    file.write_text("\n".join(tables))
    stack.run("connect", "--config", str(file), "--once")

    def ended() -> bool:
        rows = stack.sql(
            "SELECT count(DISTINCT source_id) AS n FROM tradetape.events "
            "WHERE event_type = 'source_ended' AND startsWith(source_id, 'rec-')"
        )
        return int(rows[0]["n"]) == len(KINDS)

    eventually(ended, STORED_SECONDS, "the end of every source")
    yield Fleet(stack, folder, str(file), locations)


@pytest.mark.req("S3-11", "S3-09", "N-03")
def test_every_store_agrees_with_its_own_record_defects_and_all(fleet: Fleet) -> None:
    report = reconcile(fleet.stack, "--config", fleet.file)
    assert report["agrees"]
    assert [each["name"] for each in report["reconciliations"]] == [f"rec-{kind}" for kind in KINDS]
    for each in report["reconciliations"]:
        assert each["compared"] == sum(row["native"] for row in each["by_native_type"]) > 0
        assert [row for row in each["by_event_type"] if row["delta"]] == []
        for row in each["by_native_type"]:
            assert row["accepted"] + row["duplicate"] + row["rejected"] == row["native"], each["name"]
    rejected = {
        each["name"]
        for each in report["reconciliations"]
        if any(row["rejected"] or row["duplicate"] for row in each["by_native_type"])
    }
    assert rejected >= {"rec-turtle", "rec-catalyst"}


def on_sqlite(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.req("S3-11")
def test_a_database_row_that_was_changed_deleted_or_added_is_told_with_its_place(fleet: Fleet) -> None:
    path = fleet.copy("hummingbot")
    on_sqlite(
        path,
        "UPDATE TradeFill SET price = price + 1000 WHERE rowid = (SELECT min(rowid) FROM TradeFill)",
        "DELETE FROM OrderStatus WHERE id = (SELECT max(id) FROM OrderStatus)",
    )
    found = fleet.one("hummingbot", str(path), code=1)
    assert sorted(found["by_kind"]) == ["changed", "unexpected"]
    (changed,) = [each for each in found["differences"] if each["kind"] == "changed"]
    assert {"payload.fill_price", "payload.fill_qty_quote"} <= {name for name, _, _ in changed["values"]}
    assert changed["native_place"].startswith("OrderStatus ")
    partition, offset, _ = changed["stored_place"].split(":")
    (row,) = fleet.stack.sql(
        f"SELECT toString(event_id) AS id FROM tradetape.events WHERE raw_partition = {partition} "
        f"AND raw_offset = {offset} AND derived_seq = 0"
    )
    assert row["id"] == changed["item"]

    alerts = fleet.copy("catalyst")
    on_sqlite(alerts, "UPDATE event_log SET created_at = '2024-01-01T00:00:00+00:00' WHERE rowid = 3")
    (changed,) = fleet.one("catalyst", str(alerts), code=1)["differences"]
    assert [value[:2] for value in changed["values"]] == [["ts_utc", "2024-01-01T00:00:00.000000Z"]]


@pytest.mark.req("S3-11")
def test_a_line_that_was_changed_or_added_is_told(fleet: Fleet) -> None:
    for kind, change in (("trend", _renamed), ("envelope", _repriced)):
        path = fleet.copy(kind)
        lines = path.read_text().splitlines()
        number = next(number for number, line in enumerate(lines) if number and change(line) != line)
        lines[number] = change(lines[number])
        added = json.loads(lines[1])
        added["event_id"] = "0b0f3a52-0000-4000-8000-0000000000aa"
        path.write_text("\n".join([*lines, json.dumps(added)]) + "\n")
        found = fleet.one(kind, str(path), code=1)
        assert found["by_kind"] == {"changed": 1, "missing": 1}, kind


def _renamed(line: str) -> str:
    return line.replace('"symbol": "', '"symbol": "X').replace('"symbol":"', '"symbol":"X')


def _repriced(line: str) -> str:
    return line.replace('"fill_price":"', '"fill_price":"1').replace('"fill_price": "', '"fill_price": "1')


@pytest.mark.req("S3-11")
def test_servers_are_read_without_a_trace_and_compared(fleet: Fleet) -> None:
    client = client_of(fleet.locations["quantum"])
    before = client.xinfo_groups("trades.order.filled"), client.dbsize()
    assert fleet.one("quantum")["breaks"] == 0
    assert (client.xinfo_groups("trades.order.filled"), client.dbsize()) == before
    (first, _), (second, _) = client.xrange("trades.order.filled", count=2)
    client.xdel("trades.order.filled", second)
    (found,) = fleet.one("quantum", code=1)["differences"]
    assert (found["kind"], found["label"]) == ("unexpected", "order_filled")
    client.xdel("trades.order.filled", first)
    assert any("older than what the source still holds" in note for note in fleet.one("quantum")["notes"])
    client.close()

    with psycopg.connect(fleet.locations["turtle"]) as connection:
        connection.execute("DELETE FROM events WHERE id = (SELECT id FROM events ORDER BY timestamp LIMIT 1)")
    (found,) = fleet.one("turtle", code=1)["differences"]
    assert found["kind"] == "unexpected"


@pytest.mark.req("N-03", "S3-11")
def test_an_accepted_difference_is_an_event_and_what_comes_after_it_is_a_break(fleet: Fleet) -> None:
    path = fleet.copy("trend", "accepted")
    lines = path.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if number and _renamed(line) != line)
    path.write_text("\n".join([*lines[:number], _renamed(lines[number]), *lines[number + 1 :]]) + "\n")
    arguments = ("trend", str(path), "--source-id", "rec-trend", "--instance", "rec-trend")
    first = reconcile(fleet.stack, *arguments, code=1)
    done = fleet.stack.run("reconcile", *arguments, "--patience", "0", "--accept", "a line was repaired", "--by", "ann")
    assert b"1 differences are accepted from now on" in done.stdout
    (found,) = reconcile(fleet.stack, *arguments)["reconciliations"][0]["differences"]
    assert found["id"] == kinds_and_ids(first)[0][1]
    assert (found["accepted"]["by"], found["accepted"]["reason"]) == ("ann", "a line was repaired")
    moved = fleet.stack.rows("baselines")[-1]
    assert (moved["event_id"], moved["subject"], moved["count"]) == (found["accepted"]["event_id"], "rec-trend", 1)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    second = reconcile(fleet.stack, *arguments, code=1)["reconciliations"][0]
    assert (second["breaks"], second["accepted"]) == (1, 1)


def kinds_and_ids(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(found["kind"], found["id"]) for each in report["reconciliations"] for found in each["differences"]]


@pytest.mark.req("N-07", "S3-11", "P-10")
def test_real_databases_agree_with_the_store_and_their_csvs_show_what_they_truncated(stack: Tradetape) -> None:
    stack.run("ingest", "hummingbot", *map(str, DATABASES))
    told: dict[str, dict[str, int]] = {}
    for path in DATABASES:
        report = _until_stored(lambda path=path: _report(stack, path))  # type: ignore[misc]
        store, beside = report["reconciliations"]
        assert (store["breaks"], beside["compared"]) == (0, _count(path, "SELECT count(*) FROM TradeFill"))
        assert store["compared"] == _count(path, "SELECT count(*) FROM OrderStatus")
        told[path.stem] = beside["by_kind"]
    assert told.pop("conf_pure_mm_7") == {"truncated": 3}
    assert told.pop("conf_hedge_3")["truncated"] > 0
    assert set(map(len, told.values())) == {0}


def _report(stack: Tradetape, path: Path) -> dict[str, Any]:
    command = ["--home", str(stack.home), "reconcile", "hummingbot", str(path), "--patience", "0", "--output", "json"]
    report: dict[str, Any] = json.loads(CliRunner().invoke(cli.tradetape, command).stdout)
    return report


def _until_stored(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    found = eventually(
        lambda: (report := look())["reconciliations"][0]["breaks"] == 0 and report, STORED_SECONDS, "rows"
    )
    assert isinstance(found, dict)
    return found


def _count(path: Path, query: str) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


def _orders(instance: str, environment: str, *, price: str, skip: str = "") -> list[dict[str, Any]]:
    """Two orders of a bot, each filled at ``price``; ``skip`` leaves one out."""
    events = []
    for number, signal in enumerate(("s1", "s2"), 1):
        if signal == skip:
            continue
        order = {"client_order_id": f"{instance}-{number}", "side": "buy"}
        created = {**order, "order_type": "limit", "price": "100", "amount_base": "2", "is_live": environment == "live"}
        filled = {"fill_price": price, "fill_qty_base": "2", "fill_qty_quote": str(2 * int(price)), "fee_asset": "USDT"}
        for event_type, payload in (
            ("order_created", created | {"signal_id": signal}),
            ("order_filled", {**order, **filled, "fee_amount": "0", "liquidity_side": "taker"}),
        ):
            event_id = f"0b0f3a52-{len(instance):04d}-4000-8000-{number:011d}{int(event_type == 'order_filled')}"
            place = {"connector_name": "binance", "trading_pair": "BTC-USDT", "environment": environment}
            head = {"event_id": event_id, "event_type": event_type, "event_version": "v1", "producer": "bot"}
            at = f"2024-05-01T12:0{number}:00Z"
            events.append(
                {**head, **place, "ts_utc": at, "instance_name": instance, "controller_id": "", "payload": payload}
                | {"correlation_id": f"{instance}-{signal}"}
            )
    return events


@pytest.mark.req("S3-11")
def test_live_and_paper_are_compared_order_by_order(stack: Tradetape) -> None:
    lines = _orders("par-live", "live", price="101") + _orders("par-paper", "paper", price="100", skip="s2")
    stack.run("ingest", "envelope", "-", stdin=b"\n".join(json.dumps(line).encode() for line in lines))
    eventually(
        lambda: (
            len(
                stack.sql(
                    "SELECT 1 AS n FROM tradetape.events WHERE instance_name LIKE 'par-%' "
                    "AND event_type = 'order_filled'"
                )
            )
            == 3
        ),
        STORED_SECONDS,
        "the orders",
    )
    report = reconcile(stack, "--parity", "par-live", "par-paper@paper", code=1)["reconciliations"][0]
    assert report["pairs"] == [{"live": "par-live-1", "paper": "par-paper-1", "by": "signal_id", "slippage_bps": "100"}]
    assert report["by_kind"] == {"only_live": 1}
    judged = reconcile(stack, "--parity", "par-live", "par-paper", "--slippage-bps", "50", code=1)
    assert kinds_of(judged) == ["slipped", "only_live"]
    unknown = stack.run("reconcile", "--parity", "par-live", "nobody", check=False)
    assert (unknown.returncode, b"no order of nobody is stored" in unknown.stderr) == (2, True)


@pytest.mark.req("S3-11")
def test_every_portfolio_is_the_sum_of_its_instances(fleet: Fleet) -> None:
    def agrees() -> bool:
        done = CliRunner().invoke(
            cli.tradetape,
            ["--home", str(fleet.stack.home), "reconcile", "--portfolios", "--patience", "1", "--output", "json"],
        )
        report = json.loads(done.stdout)["reconciliations"][0]
        assert report["compared"] > 0
        return done.exit_code == 0

    eventually(agrees, STORED_SECONDS, "all figures of portfolios")


@pytest.mark.req("N-03", "S3-11")
def test_the_guide(stack: Tradetape, tmp_path: Path) -> None:
    copy = guides.Copy(tmp_path)
    # Its fleet lies in a home of its own: other tests have theirs in the stack's.
    found = settings.load(stack.home)
    copy.environment |= {variable: getattr(found, name) for name, variable in settings.ADDRESSES.items()}
    printed: list[str] = []
    for block in guides.blocks(guides.ROOT / "docs" / "guides" / "reconcile.md"):
        if block.text.strip() in {"tradetape up", "tradetape down"}:
            continue
        printed.append(copy.follow(block))
        if "tradetape connect" in block.text:
            where = "event_type = 'source_ended' AND instance_name = 'my_trend_bot'"
            count = f"SELECT count() AS n FROM tradetape.events WHERE {where}"
            eventually(lambda statement=count: stack.sql(statement)[0]["n"], STORED_SECONDS, "the ledger")
    said = "\n".join(printed)
    assert "my_trend_bot: agrees" in said
    assert "exit code 1" in said
    assert said.count("symbol was wrong, corrected by hand") >= 2
    assert "differences are accepted" in said

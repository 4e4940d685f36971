"""Each named query on rows made by hand, compared with answers computed here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.integration.clickhouse import Server, free_port, serve
from tests.sinks.rows import START, audited, body, finding, risk

from tradetape.infra.cli import query as cli
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import migrate, queries
from tradetape.sinks.store import Store, StoreUnavailable
from tradetape.sinks.tables import EVENTS, QUARANTINE, RISK

pytestmark = pytest.mark.integration

BOTS = ("bot1", "bot2")


def order(order_id: str, event_type: str = "order_created", **payload: Any) -> dict[str, Any]:
    return {"event_type": event_type, "payload": {"client_order_id": order_id, **payload}}


def _events() -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = [
        order("o1", side="buy", price="2.5", amount_base="10") | {"correlation_id": "chain-1"},
        order("o1", "order_filled", fill_price="2.4", fill_qty_base="4", fee_asset="USDT", fee_amount="0.1")
        | {"correlation_id": "chain-1", "link": "asserted"},
        order("o2", side="sell", price="0.000000000000000001", amount_base="3") | {"environment": "live"},
        order("o2", "order_cancelled") | {"environment": "live", "link": "inferred"},
        order("o3", "order_snapshot", side="buy", price="7", amount_base="1") | {"link": "backfilled"},
        order("o4", "order_filled", fill_price="1", fill_qty_base="1", fee_asset="KCS", fee_amount="0")
        | {"link": "unresolved"},
        {"event_type": "source_ended", "payload": {"events": {"order_created": 9}, "rows": {}}},
        {"event_type": "source_ended", "payload": {"events": {"order_created": 2, "order_failed": 1}, "rows": {}}},
    ]
    for index, found in enumerate(
        [
            [
                finding("fill_without_order", "opened", "o4", detail='{"n":1}'),
                finding("precision_rounded", "noted", "e1"),
            ],
            [finding("fill_without_order", "resolved", "o4"), finding("fill_without_order", "opened", "o5")],
            [
                finding("overfill", "opened", "o1"),
                finding("overfill", "resolved", "o1"),
                finding("overfill", "opened", "o1"),
            ],
            [finding("overfill", "opened", "o6"), finding("precision_rounded", "noted", "e1")],
        ]
    ):
        fields[index]["findings"] = found
    return [audited(offset, **each) for offset, each in enumerate(fields)]


EVENT_ROWS = _events() + [
    audited(n, partition=1, instance_name="bot2", source_id="source-2", ts_utc=START + n * 1000 - n * 1_000_000)
    for n in range(4)
]
QUARANTINE_ROWS = [
    audited(8, disposition="rejected", reasons=["missing_field"], reason_detail="no ts", ts_utc=0, event_id="")
    | {"event_type": "unmapped_record", "payload": '{"location": "a.jsonl", "line": 3}', "native": b'{"bad": 1}'},
    audited(9, disposition="rejected", instance_name="", ingest_source="file", raw=b"\xff\x00", event_id="x"),
    audited(10, disposition="duplicate", event_id=EVENT_ROWS[0]["event_id"]),
]
RISK_ROWS = [
    risk(1, net_base=Decimal("4"), avg_cost=Decimal("2.4"), last_price=Decimal("2.4"), cost_quote=Decimal("9.6")),
    risk(5, net_base=Decimal("5"), avg_cost=Decimal("2.12"), last_price=Decimal(1), cost_quote=Decimal("10.6"))
    | {"realised_quote": Decimal("-0.5"), "fees": {"USDT": Decimal("0.1"), "KCS": Decimal("1e-18")}, "fills": 2},
    risk(6, open_orders=1, orders_created=3, orders_cancelled=1, fills=0, trading_pair="TWO-BTC"),
    risk(2, partition=1, instance_name="bot2", net_base=Decimal(-2), last_price=Decimal(3), cost_quote=Decimal(-6)),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as running:
        store = Store(running.url)
        migrate.migrate(store)
        schema = output_schema("audited")
        store.insert(EVENTS, schema, [body("audited", row) for row in EVENT_ROWS], "e")
        store.insert(QUARANTINE, schema, [body("audited", row) for row in QUARANTINE_ROWS], "q")
        store.insert(RISK, output_schema("risk"), [body("risk", row) for row in RISK_ROWS], "r")
        store.close()
        yield running


def answer(server: Server, name: str, **params: str) -> list[dict[str, Any]]:
    text = b"".join(queries.run(Store(server.url), name, params))
    return [json.loads(line) for line in text.splitlines()]


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_chain(server: Server) -> None:
    rows = answer(server, "chain", correlation_id="chain-1")
    assert columns(rows, "event_type", "price", "quantity") == [
        ("order_created", "2.5", "10"),
        ("order_filled", "2.4", "4"),
    ]


@pytest.mark.req("S2-05")
def test_tail(server: Server) -> None:
    newest = sorted(EVENT_ROWS, key=lambda row: row["ts_utc"], reverse=True)[:3]
    assert [row["event_id"] for row in answer(server, "tail", n="3")] == [row["event_id"] for row in newest]
    assert len(answer(server, "tail", instance_name="bot2")) == 4


@pytest.mark.req("S3-09")
def test_counts(server: Server) -> None:
    rows = answer(server, "counts")
    assert list(rows[0]) == ["environment", "instance_name", "event_type", "day", "n"]
    wanted = Counter((row["environment"], row["instance_name"], row["event_type"]) for row in EVENT_ROWS)
    assert {row[:3]: row[3] for row in columns(rows, "environment", "instance_name", "event_type", "n")} == wanted


@pytest.mark.req("P-04")
def test_findings(server: Server) -> None:
    def of(status: str) -> dict[tuple[str, str], int]:
        rows = answer(server, "findings", status=status)
        return {(row["instance_name"], row["code"]): row["subjects"] for row in rows}

    # o6 was opened in the live environment, o1 and o5 in paper.
    assert of("open") == {("bot1", "fill_without_order"): 1, ("bot1", "overfill"): 2}
    assert of("resolved") == {("bot1", "fill_without_order"): 1}
    # The same subject noted in two environments is two subjects.
    assert of("noted") == {("bot1", "precision_rounded"): 2}
    assert of("all") == {("bot1", c): 2 for c in ("fill_without_order", "overfill", "precision_rounded")}


@pytest.mark.req("P-04")
def test_finding_details(server: Server) -> None:
    rows = answer(server, "finding_details")
    assert list(rows[0])[:7] == ["instance_name", "code", "severity", "subject", "event_id", "ts_utc", "detail"]
    assert columns(rows, "code", "subject", "raw_offset") == [
        ("fill_without_order", "o5", 1),
        ("overfill", "o1", 2),
        ("overfill", "o6", 3),
    ]
    assert len(answer(server, "finding_details", status="all")) == sum(len(row["findings"]) for row in EVENT_ROWS)
    assert len(answer(server, "finding_details", status="noted")) == 2
    assert columns(answer(server, "finding_details", status="resolved"), "subject", "status") == [("o4", "resolved")]


@pytest.mark.req("P-02")
def test_positions(server: Server) -> None:
    rows = answer(server, "positions")
    names = ["environment", "account", "instance_name", "connector_name", "trading_pair"]
    figures = ["net_base", "avg_cost", "realised_quote", "realised_fifo_quote", "fees", "mark_price"]
    assert list(rows[0]) == [*names, *figures, "unrealised_quote"]
    assert columns(rows, "instance_name", "net_base", "avg_cost", "realised_quote", "fees") == [
        ("bot1", "5", "2.12", "-0.5", {"USDT": "0.1", "KCS": "0.000000000000000001"}),
        ("bot2", "-2", "0", "0", {}),
    ]


@pytest.mark.req("P-02")
def test_portfolio(server: Server) -> None:
    assert answer(server, "portfolio") == [
        {
            "environment": "paper",
            "quote_asset": "USDT",
            "positions": 2,
            "instances": 2,
            "unmarked": 0,
            "net_exposure": "-1",
            "gross_exposure": "11",
            "cost": "4.6",
            "realised": "-0.5",
            "fees_in_quote": "0.1",
            "unrealised": "0",
        }
    ]


@pytest.mark.req("P-02")
def test_risk(server: Server) -> None:
    rows = answer(server, "risk")
    assert columns(rows, "instance_name", "open_orders", "orders_created", "orders_cancelled") == [
        ("bot1", 1, 3, 1),
        ("bot2", 0, 0, 0),
    ]


def test_open_orders(server: Server) -> None:
    rows = answer(server, "open_orders")
    assert columns(rows, "client_order_id", "side", "price", "amount_base", "filled_base") == [
        ("o1", "buy", "2.5", "10", "4"),
        ("o3", "buy", "7", "1", "0"),
    ]
    assert rows[0]["created_ts_utc"] == "2023-11-14T22:13:20.000000Z"


@pytest.mark.req("S3-05")
def test_quarantine(server: Server) -> None:
    rows = answer(server, "quarantine")
    assert columns(rows, "raw_offset", "reasons", "file", "line", "original") == [
        (8, ["missing_field"], "a.jsonl", 3, '{"bad": 1}'),
        (9, [], "", None, "0xff00"),
    ]
    assert len(answer(server, "quarantine", disposition="all")) == 3
    assert columns(answer(server, "quarantine", disposition="duplicate"), "raw_offset") == [(10,)]


@pytest.mark.req("P-03")
def test_completeness(server: Server) -> None:
    rows = answer(server, "completeness")
    assert columns(rows, "raw_partition", "rows", "offsets", "first", "last", "holes", "doubles") == [
        (0, 11, 11, 0, 10, 0, 0),
        (1, 4, 4, 0, 3, 0, 0),
    ]
    assert columns(rows, "accepted", "duplicates", "rejected") == [(8, 1, 2), (4, 0, 0)]


@pytest.mark.req("N-01", "S3-03")
def test_links_and_missing_correlation(server: Server) -> None:
    wanted = Counter((row["instance_name"], row["link"]) for row in EVENT_ROWS)
    rows = answer(server, "links")
    assert {row[:2]: row[2] for row in columns(rows, "instance_name", "link", "n")} == wanted
    assert columns(answer(server, "missing_correlation"), "instance_name", "events", "ratio") == [
        ("bot1", 8, 0.25),
        ("bot2", 4, 0),
    ]


@pytest.mark.req("S3-09")
def test_count_delta_takes_the_last_declaration(server: Server) -> None:
    rows = answer(server, "count_delta")
    stored = Counter(row["event_type"] for row in EVENT_ROWS[:8] if row["event_type"] != "source_ended")
    declared = {"order_created": 2, "order_failed": 1}
    assert columns(rows, "source_id", "event_type", "source_count", "store_count", "delta") == [
        ("source-1", kind, declared.get(kind, 0), stored[kind], declared.get(kind, 0) - stored[kind])
        for kind in sorted(stored.keys() | declared.keys())
    ]


@pytest.mark.req("S3-09")
def test_invalid_schema(server: Server) -> None:
    rows = answer(server, "invalid_schema")
    assert columns(rows, "origin", "records", "rejected") == [("bot1", 10, 1), ("bot2", 4, 0), ("source file", 1, 1)]


@pytest.mark.req("S3-09")
def test_event_lag(server: Server) -> None:
    rows = answer(server, "event_lag")
    assert columns(rows, "instance_name", "events", "p50", "max") == [
        ("bot1", 8, 0.0005, 0.0005),
        ("bot2", 4, 2.0005, 3.0005),
    ]


def test_throughput(server: Server) -> None:
    rows = answer(server, "throughput")
    assert columns(rows, "records", "accepted", "duplicates", "rejected", "peak_per_second") == [(15, 12, 1, 2, 15)]


@pytest.mark.parametrize("name", sorted(queries.listing()))
def test_every_query_answers_an_empty_store(server: Server, name: str) -> None:
    asked = [param for param in queries.load(name).params if param.default is None or param.name == "instance_name"]
    params = {param.name: "2024-01-01" if param.name == "since" else "nobody" for param in asked}
    rows = answer(server, name, **params)
    assert not params or rows == []


def many(store: Store, rows: int, instances: int) -> None:
    """A table like events: one event a second, by ``instances`` in turn."""
    store.command("CREATE OR REPLACE TABLE tradetape.many AS tradetape.events")
    store.command(
        "INSERT INTO tradetape.many (event_id, event_type, instance_name, ts_utc, ingest_ts_utc, correlation_id, "
        "run_id, aggregate_id, raw_offset) "
        f"WITH intDiv(number, {rows // instances}) AS bot, number % {rows // instances} AS turn, "
        f"turn * {instances} + bot AS second, concat('bot', toString(bot)) AS name, "
        "toDateTime64('2024-01-01', 6, 'UTC') + second AS ts, concat(name, ':', toString(intDiv(turn, 100))) AS run "
        "SELECT toUUID(concat('00000000-0000-4000-8000-', leftPad(toString(second), 12, '0'))), "
        "if(second = 777777, 'kill_ordered', 'heartbeat'), name, ts, ts, toString(second), run, run, second "
        f"FROM numbers({rows})"
    )
    store.command("OPTIMIZE TABLE tradetape.many FINAL")


def rows_read(store: Store, sql: str, params: dict[str, str]) -> int:
    text = b"".join(store.raw(sql.replace("tradetape.events", "tradetape.many"), params, output_format="JSON"))
    return int(json.loads(text)["statistics"]["rows_read"])


PRUNED: list[tuple[str, dict[str, str]]] = [
    ("tail", {"instance_name": "bot7"}),
    ("chain", {"correlation_id": "777777"}),
    ("tree", {"correlation_id": "777777"}),
    ("event", {"event_id": "00000000-0000-4000-8000-000000777777"}),
    ("run", {"run_id": "bot7:38"}),
    ("aggregate", {"aggregate_id": "bot7:38"}),
    ("time_range", {"since": "2024-01-09T12:00:00Z", "until": "2024-01-09T13:00:00Z", "instance_name": "bot7"}),
    ("turtle_rule_03_volatility", {"instance_name": "bot7"}),
    ("by_type", {"event_type": "kill_ordered"}),
]


@pytest.mark.req("S3-08")
def test_instance_chain_event_run_and_aggregate_prune(server: Server) -> None:
    store = Store(server.url)
    many(store, 3_000_000, instances=200)
    for name, params in PRUNED:
        query = queries.load(name)
        read = rows_read(store, query.sql, query.bind(params))
        assert 0 < read <= 3_000_000 * 0.02, f"{name} reads {read} rows"


@pytest.mark.req("S3-08")
def test_a_day_prunes_as_a_partition_of_days_would(server: Server) -> None:
    store = Store(server.url)
    many(store, 1_000_000, instances=2)
    day = "SELECT count(), max(raw_offset) FROM tradetape.events WHERE toDate(ts_utc) = '2024-01-07'"
    # A day is 86,400 rows; of each instance the first and the last granule of 8,192 rows are read whole.
    assert 86_400 <= rows_read(store, day, {}) <= 86_400 + 2 * 2 * 8_192
    assert rows_read(store, f"{day} AND instance_name = 'bot1'", {}) <= 43_200 + 2 * 8_192


@pytest.fixture
def shell(server: Server, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("TRADETAPE_CLICKHOUSE_URL", server.url)
    return CliRunner()


def test_the_command_line(shell: CliRunner) -> None:
    listed = shell.invoke(cli.query, ["--list"])
    assert "completeness" in listed.output
    assert "--param correlation_id=… (String, required)" in listed.output
    table = shell.invoke(cli.query, ["links", "--param", "instance_name=bot2"])
    assert table.output.splitlines()[-1].split() == ["bot2", "root", "4"]
    lines = shell.invoke(cli.query, ["positions", "--output", "json"]).output.splitlines()
    assert [json.loads(line)["net_base"] for line in lines] == ["5", "-2"]
    assert shell.invoke(cli.sql, ["SELECT 1 AS x", "--output", "csv"]).output == '"x"\n1\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "no query 'nope'; `tradetape query --list` lists them"),
        (["why_exits"], "no query 'why_exits'; did you mean why_exit?"),
        ([], "which query"),
        (["chain"], "needs correlation_id"),
        (["tail", "--param", "n=many"], "query tail: 'many' is no UInt32; correct --param n="),
        (["tail", "--param", "n"], "'n' is not NAME=VALUE"),
    ],
)
def test_mistakes_get_one_line(shell: CliRunner, arguments: list[str], message: str) -> None:
    ended = shell.invoke(cli.query, arguments)
    assert isinstance(ended.exception, TradetapeError)
    assert message in str(ended.exception)
    assert "\n" not in str(ended.exception)


@pytest.mark.req("S1-09")
@pytest.mark.parametrize(
    "statement", ["INSERT INTO tradetape.alerts (code) VALUES ('x')", "TRUNCATE TABLE tradetape.events", "SELECT nope"]
)
def test_sql_only_reads(shell: CliRunner, statement: str) -> None:
    ended = shell.invoke(cli.sql, [statement])
    assert isinstance(ended.exception, TradetapeError)
    assert "Code: " in str(ended.exception)


def test_clickhouse_down(shell: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRADETAPE_CLICKHOUSE_URL", f"http://127.0.0.1:{free_port()}")
    ended = shell.invoke(cli.query, ["links"])
    assert isinstance(ended.exception, StoreUnavailable)
    assert "check that it is up" in str(ended.exception)

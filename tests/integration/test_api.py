"""The HTTP API over a record of five bots: what each route answers, to whom, and how much at a time."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient
from tests.folding import SCHEMAS
from tests.integration import api
from tests.integration.api import LIMIT, LIMITED_TOKEN, TOKEN
from tests.integration.clickhouse import Server, free_port
from tests.integration.recorded import recorded
from tests.sinks.rows import START, audited

from tradetape.infra.api.reader import Abandoned, Reader, TooHeavy
from tradetape.infra.api.scope import is_of_fleet
from tradetape.schemas import numbers, times
from tradetape.sinks import portfolio_travel, queries, travel
from tradetape.sinks.store import QueryRefused, Store
from tradetape.sinks.tables import EVENTS
from tradetape.sinks.travel import When

pytestmark = pytest.mark.integration

RECORD = recorded()
EVENT_ROWS = [row for row in RECORD.audited if row["disposition"] == "accepted" and not row["derived_seq"]]
BOTS = sorted({row["instance_name"] for row in EVENT_ROWS})
NDJSON, CSV = {"Accept": "application/x-ndjson"}, {"Accept": "text/csv"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with api.stored(tmp_path_factory.mktemp("whole") / "clickhouse", RECORD) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(api.app(server.url), headers=headers, raise_server_exceptions=False) as found:
        yield found


LIMITED = {"Authorization": f"Bearer {LIMITED_TOKEN}"}


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """The problem details of ``response``, which must be whole."""
    found: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, found["status"], found["type"]) == (status, status, f"urn:tradetape:api:{name}")
    assert found["title"] and found["detail"] and found["hint"]
    return found


def newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["ts_utc"], row["raw_partition"], row["raw_offset"]), reverse=True)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["event_id"] for row in rows]


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


# Events


@pytest.mark.req("S2-05")
def test_the_last_events_are_told_whole(http: TestClient) -> None:
    answer = http.get("/v1/events?tail=5").json()
    told = answer["events"]
    wanted = newest(EVENT_ROWS)[:5]
    assert ids(told) == ids(wanted)
    for event, row in zip(told, wanted, strict=True):
        assert event["payload"] == json.loads(row["payload"])
        assert event["ts_utc"] == times.text(row["ts_utc"])
        same = ("event_type", "instance_name", "environment", "correlation_id", "link", "findings", "source_position")
        assert {name: event[name] for name in same} == {name: row[name] for name in same}
    assert len(http.get("/v1/events").json()["events"]) == 50


@pytest.mark.req("S2-05")
@pytest.mark.parametrize(
    ("asked", "column", "values"),
    [
        ("type=order_filled", "event_type", {"order_filled"}),
        ("type=order_filled&type=order_created", "event_type", {"order_filled", "order_created"}),
        ("instance=bot1", "instance_name", {"bot1"}),
        ("instance=bot1&instance=trend-1", "instance_name", {"bot1", "trend-1"}),
        ("environment=paper", "environment", {"paper"}),
        ("system=turtle", "source_system", {"turtle"}),
        ("pair=ONE-USDT", "trading_pair", {"ONE-USDT"}),
        ("connector=kucoin", "connector_name", {"kucoin"}),
    ],
)
def test_filters_by_what_an_event_is(http: TestClient, asked: str, column: str, values: set[str]) -> None:
    wanted = [row for row in EVENT_ROWS if row[column] in values]
    assert ids(http.get(f"/v1/events?tail=1000&{asked}").json()["events"]) == ids(newest(wanted))


@pytest.mark.req("S2-05")
def test_filters_by_time(http: TestClient) -> None:
    moments = sorted({row["ts_utc"] for row in EVENT_ROWS})
    since, until = moments[len(moments) // 4], moments[len(moments) // 2]
    asked = {"tail": "1000", "since": times.text(since), "until": times.text(until)}
    wanted = [row for row in EVENT_ROWS if since <= row["ts_utc"] < until]
    assert 0 < len(wanted) < len(EVENT_ROWS)
    assert ids(http.get("/v1/events", params=asked).json()["events"]) == ids(newest(wanted))


@pytest.mark.req("S2-05")
def test_pages_lead_from_the_newest_to_the_oldest(http: TestClient) -> None:
    told, url = [], "/v1/events?tail=7&" + "&".join(f"instance={bot}" for bot in BOTS)
    while url:
        answer = http.get(url)
        told += answer.json()["events"]
        url = answer.json()["next"]
        assert answer.headers.get("link") == (f'<{url}>; rel="next"' if url else None)
        assert not url or parse_qs(urlsplit(url).query)["tail"] == ["7"]
    assert ids(told) == ids(newest(EVENT_ROWS))


@pytest.mark.req("S2-05")
def test_every_event_is_on_one_page_while_others_are_added(server: Server, http: TestClient) -> None:
    def rows(first: int, last: int, ts_utc: int) -> list[dict[str, Any]]:
        # Ten of a moment: a page ends among them.
        shared = {"partition": 7, "instance_name": "pager"}
        return [audited(n, **shared, ts_utc=ts_utc + n // 10 * 1000) for n in range(first, last)]

    store = Store(server.url)
    there = rows(0, 60, START)
    api.land(store, EVENTS, there)
    told, url, offset = [], "/v1/events?tail=8&instance=pager", 60
    while url:
        answer = http.get(url).json()
        told += answer["events"]
        url = answer["next"]
        api.land(store, EVENTS, rows(offset, offset + 3, START + 10_000_000))  # newer than any
        api.land(store, EVENTS, rows(offset + 3, offset + 5, START))  # late: in among those that were told
        offset += 5
    found = ids(told)
    assert len(found) == len(set(found))
    assert set(found) >= set(ids(there))


@pytest.mark.req("S2-05")
def test_ndjson_has_all_events_by_bot_and_time(http: TestClient) -> None:
    asked = {"instance": BOTS}
    told = lines(http.get("/v1/events", params=asked, headers=NDJSON))
    place = ("instance_name", "ts_utc", "raw_partition", "raw_offset")
    assert ids(told) == ids(sorted(EVENT_ROWS, key=lambda row: tuple(row[name] for name in place)))
    page = http.get("/v1/events", params={**asked, "tail": 3}, headers=NDJSON)
    assert ids(lines(page)) == ids(newest(EVENT_ROWS)[:3])
    assert 'rel="next"' in page.headers["link"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("tail=0", "tail: "),
        ("tail=1001", "tail: "),
        ("tail=many", "tail: "),
        ("since=yesterday", "since: 'yesterday' is no ISO-8601"),
        ("until=2026-01-01T00:00:00", "has no offset"),
        ("cursor=x", "cursor: is no cursor"),
        ("instnace=bot1", "instnace: "),
        ("type=" + "x" * 201, "type.0: "),
    ],
)
def test_a_wrong_parameter_is_told(http: TestClient, asked: str, said: str) -> None:
    found = problem(http.get(f"/v1/events?{asked}"), 422, "invalid")
    assert said in found["detail"]
    assert found["errors"][0]["parameter"] == said.partition(":")[0] or ":" not in said


# Chains


@pytest.mark.req("S2-05")
def test_a_chain_by_its_id_or_by_any_of_its_events(http: TestClient, server: Server) -> None:
    event = next(row for row in EVENT_ROWS if row["correlation_id"] != row["event_id"] and row["link"] == "asserted")
    chain = event["correlation_id"]
    said = b"".join(queries.run(Store(server.url), "chain", {"correlation_id": chain})).splitlines()
    wanted = [{**row, "payload": json.loads(row["payload"])} for row in map(json.loads, said)]
    assert len(wanted) > 1
    for asked in (chain, event["event_id"]):
        assert http.get(f"/v1/chain/{asked}").json() == {"correlation_id": chain, "events": wanted}
    tree = http.get(f"/v1/chain/{chain}?view=tree").json()["events"]
    assert {row["depth"] for row in tree} >= {0, 1}
    assert len(tree) == len(wanted)
    assert lines(http.get(f"/v1/chain/{chain}", headers=NDJSON)) == wanted


@pytest.mark.req("N-01")
def test_an_event_whose_chain_was_found_later_leads_there(http: TestClient) -> None:
    later = next(row for row in RECORD.audited if row["event_type"] == "link_resolved")
    answer = http.get(f"/v1/chain/{later['supersedes']}").json()
    assert answer["correlation_id"] == later["correlation_id"]
    assert later["supersedes"] in ids(answer["events"])


@pytest.mark.parametrize("asked", ["nobody", "no/body", "00000000-0000-0000-0000-000000000000", "'; DROP TABLE x"])
def test_no_such_chain(http: TestClient, asked: str) -> None:
    problem(http.get(f"/v1/chain/{asked}"), 404, "not-found")


# States


@pytest.mark.req("N-05", "S1-06")
def test_states_are_what_the_command_line_tells(http: TestClient, server: Server) -> None:
    store = Store(server.url)
    order = next(
        json.loads(row["payload"])["client_order_id"] for row in EVENT_ROWS if row["event_type"] == "order_created"
    )
    at = sorted(row["ts_utc"] for row in EVENT_ROWS if row["instance_name"] == "bot1")[3]
    when = When(at=at)
    asked = {"at": times.text(at)}
    figure = next(row for row in RECORD.risk if row["instance_name"] == "bot1")
    pair, narrowed = figure["trading_pair"], {"environment": "", "account": None}

    def told(path: str, **params: str) -> Any:
        answer = http.get(f"/v1/state/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert told("instance/bot1") == as_json(travel.instance_at(store, SCHEMAS.get, "bot1"))
    assert told("instance/bot1", **asked) == as_json(travel.instance_at(store, SCHEMAS.get, "bot1", when))
    assert told("position/bot1", pair=pair) == as_json(travel.position_at(store, SCHEMAS.get, "bot1", pair))
    assert told("order/" + order) == as_json(travel.order_at(store, SCHEMAS.get, order))
    assert told("portfolio/all", **asked) == as_json(portfolio_travel.portfolio_at(store, SCHEMAS.get, "all", when))
    rows = travel.position_timeline(store, SCHEMAS.get, "bot1", pair, **narrowed)
    assert told("timeline/bot1", pair=pair) == {"timeline": as_json(rows)}


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("instance/nobody", 404, "not-found"),
        ("position/nobody?pair=A-B", 404, "not-found"),
        ("timeline/bot1", 422, "invalid"),
        ("timeline/bot1?pair=A-B", 404, "not-found"),
        ("order/none", 404, "not-found"),
        ("portfolio/none", 404, "not-found"),
        ("instance/bot1?at=2001-01-01", 404, "not-found"),
        ("instance/bot1?known_at=2001-01-01T00:00:00Z", 404, "not-found"),
        ("instance/bot1?at=soon", 422, "invalid"),
        ("instance/", 422, "invalid"),
        ("weather/bot1", 404, "not-found"),
    ],
)
def test_states_that_are_not_there(http: TestClient, path: str, status: int, name: str) -> None:
    problem(http.get(f"/v1/state/{path}"), status, name)


def test_a_state_that_records_are_missing_for_says_what_to_do(http: TestClient, server: Server) -> None:
    # Partition 9 begins in the middle.
    api.land(Store(server.url), EVENTS, [audited(5, partition=9, instance_name="torn")])
    found = problem(http.get("/v1/state/instance/torn"), 503, "unanswerable")
    assert "partition 9" in found["detail"]


# Figures


@pytest.mark.req("P-02")
def test_risk_has_the_last_figures_of_each_position(http: TestClient) -> None:
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    keys = ("environment", "account", "instance_name", "connector_name", "trading_pair")
    for row in sorted(RECORD.risk, key=lambda row: row["raw_offset"]):
        last[tuple(row[key] for key in keys)] = row
    told = http.get("/v1/risk").json()["positions"]
    assert [tuple(row[key] for key in keys) for row in told] == sorted(last)
    for row in told:
        wanted = last[tuple(row[key] for key in keys)]
        assert (row["event_id"], row["fills"]) == (wanted["event_id"], wanted["fills"])
        assert row["net_base"] == numbers.text(wanted["net_base"])
    assert {row["instance_name"] for row in http.get("/v1/risk?instance=bot1").json()["positions"]} == {"bot1"}
    assert http.get("/v1/risk?environment=none").json() == {"positions": []}
    assert lines(http.get("/v1/risk", headers=NDJSON)) == told
    table = list(csv.DictReader(io.StringIO(http.get("/v1/risk", headers=CSV).text)))
    assert [row["net_base"] for row in table] == [row["net_base"] for row in told]


# Named queries


@pytest.mark.req("S2-05", "S1-08")
def test_the_listing_says_what_each_takes(http: TestClient) -> None:
    found = {query["name"]: query for query in http.get("/v1/queries").json()["queries"]}
    assert set(found) == set(queries.listing())
    tail = {param["name"]: param for param in found["tail"]["parameters"]}
    assert (tail["n"]["type"], tail["n"]["default"], tail["n"]["required"]) == ("UInt32", "50", False)
    assert found["kills"]["of_fleet"] and not found["tail"]["of_fleet"]


@pytest.mark.parametrize("name", sorted(queries.listing()))
def test_every_query_answers_as_the_command_line_does(http: TestClient, server: Server, name: str) -> None:
    given = required(name)
    wanted = b"".join(queries.run(Store(server.url), name, given))
    answer = http.get(f"/v1/queries/{name}", params=given, headers=NDJSON)
    assert (answer.status_code, answer.content) == (200, wanted)
    rows = [json.loads(line) for line in wanted.splitlines()]
    assert http.get(f"/v1/queries/{name}", params=given).json() == {"query": name, "rows": rows}


def required(name: str) -> dict[str, str]:
    """Values for the parameters that must be given, of which the record has something."""
    event = next(row for row in EVENT_ROWS if row["run_id"])
    order = next(row for row in EVENT_ROWS if row["event_type"] == "order_created")
    aggregate = next(row for row in EVENT_ROWS if row["aggregate_id"])
    known = {
        "correlation_id": event["correlation_id"],
        "event_id": event["event_id"],
        "event_type": event["event_type"],
        "run_id": event["run_id"],
        "aggregate_id": aggregate["aggregate_id"],
        "order_id": json.loads(order["payload"])["client_order_id"],
        "trading_pair": event["trading_pair"] or "ONE-USDT",
        "since": "2000-01-01",
        "key": "side",
        "instance_name": "turtle-1",
        "position_id": "p",
    }
    return {param.name: known[param.name] for param in queries.load(name).params if param.default is None}


def test_queries_have_csv_too(http: TestClient) -> None:
    answer = http.get("/v1/queries/counts?instance_name=bot1", headers=CSV)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["instance_name"] for row in rows} == {"bot1"}
    assert sum(int(row["n"]) for row in rows) == sum(row["instance_name"] == "bot1" for row in EVENT_ROWS)


def test_archived_rows_are_asked_for(http: TestClient) -> None:
    asked = "/v1/queries/counts?instance_name=bot1"
    assert http.get(f"{asked}&archived=true").json() == http.get(asked).json()


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("why_exits", 404, "not-found"),
        ("a/b", 404, "not-found"),
        ("chain", 422, "invalid"),
        ("tail?n=many", 422, "invalid"),
        ("tail?m=1", 422, "invalid"),
        ("findings?status=shut", 422, "invalid"),
    ],
)
def test_mistakes_about_queries(http: TestClient, path: str, status: int, name: str) -> None:
    problem(http.get(f"/v1/queries/{path}"), status, name)


# Who may see what


@pytest.mark.parametrize("header", ["", "Bearer wrong-token-of-the-tests", f"Basic {TOKEN}", TOKEN])
def test_without_a_known_token_it_is_401(http: TestClient, header: str) -> None:
    for path in ("events", "chain/x", "risk", "queries", "queries/tail", "queries/nope", "state/order/x"):
        answer = http.get(f"/v1/{path}", headers={"Authorization": header})
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A store that has only what the limited token may see, asked with a token that sees everything."""
    with api.stored(tmp_path_factory.mktemp("part") / "clickhouse", RECORD, LIMIT) as running:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with TestClient(api.app(running.url), headers=headers, raise_server_exceptions=False) as found:
            yield found


@pytest.mark.req("S2-05")
@pytest.mark.parametrize("name", sorted(name for name, query in queries.listing().items() if not is_of_fleet(query)))
def test_a_limited_token_gets_the_answers_of_a_smaller_store(http: TestClient, part: TestClient, name: str) -> None:
    path = f"/v1/queries/{name}"
    assert http.get(path, params=required(name), headers=LIMITED).json() == part.get(path, params=required(name)).json()


@pytest.mark.req("S2-05")
def test_a_limited_token_sees_its_bots_only(http: TestClient, part: TestClient) -> None:
    for path in ("events?tail=1000", "events?tail=1000&archived=true", "risk", "queries/counts?archived=true"):
        assert http.get(f"/v1/{path}", headers=LIMITED).json() == part.get(f"/v1/{path}").json()
    assert lines(http.get("/v1/events", headers={**LIMITED, **NDJSON})) == lines(part.get("/v1/events", headers=NDJSON))
    assert http.get("/v1/health", headers=LIMITED).json()["rows"] == part.get("/v1/health").json()["rows"]
    hidden = next(row for row in EVENT_ROWS if row["instance_name"] == "trend-1")
    for asked in (hidden["event_id"], hidden["correlation_id"]):
        problem(http.get(f"/v1/chain/{asked}", headers=LIMITED), 404, "not-found")


@pytest.mark.req("S2-05")
@pytest.mark.parametrize(
    "path",
    [
        "events?instance=trend-1",
        "events?instance=bot1&instance=trend-1",
        "risk?instance=trend-1",
        "queries/tail?instance_name=trend-1",
        "queries/kills",
        "queries/completeness",
        "state/instance/trend-1",
        "state/position/trend-1",
        "state/timeline/trend-1?pair=A-B",
        "state/portfolio/all",
    ],
)
def test_what_a_limited_token_names_and_may_not_see_is_403(http: TestClient, path: str) -> None:
    found = problem(http.get(f"/v1/{path}", headers=LIMITED), 403, "forbidden")
    assert "client limited" in found["detail"]


def test_a_limited_token_sees_orders_of_its_bots(http: TestClient) -> None:
    def order_of(bots: set[str]) -> str:
        made = (row for row in EVENT_ROWS if row["event_type"] == "order_created" and row["instance_name"] in bots)
        return str(json.loads(next(made)["payload"])["client_order_id"])

    own = http.get(f"/v1/state/order/{order_of({'bot1'})}", headers=LIMITED)
    assert {order["instance_name"] for order in own.json()["found"]} == {"bot1"}
    other = order_of(set(BOTS) - {"bot1", "turtle-1"})
    assert http.get(f"/v1/state/order/{other}").status_code == 200
    problem(http.get(f"/v1/state/order/{other}", headers=LIMITED), 404, "not-found")
    assert http.get("/v1/state/instance/bot1", headers=LIMITED).status_code == 200


# Health, forms and failures


@pytest.mark.req("S1-08")
def test_health_says_more_with_a_token(http: TestClient) -> None:
    assert TestClient(http.app).get("/v1/health").json() == {"status": "ok"}
    problem(http.get("/v1/health", headers={"Authorization": "Bearer x"}), 401, "unauthorized")
    told = http.get("/v1/health").json()
    assert (told["status"], told["lag"], told["partitions"]) == ("kafka_away", None, None)
    assert told["rows"]["risk"] == len(RECORD.risk)
    assert set(told["rows"]) == {"events", "quarantine", "risk", "alerts", "portfolios"}


def test_what_is_not_there_is_a_problem_too(http: TestClient) -> None:
    problem(http.get("/v1/nothing"), 404, "not-found")
    assert http.post("/v1/events").headers["allow"] == "GET"
    problem(http.post("/v1/events"), 405, "method-not-allowed")
    problem(http.get("/v1/events", headers={"Accept": "text/html"}), 406, "not-acceptable")
    problem(http.get("/v1/state/instance/bot1", headers=NDJSON), 406, "not-acceptable")


def test_a_store_that_is_away_is_told_without_its_address() -> None:
    port = free_port()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(api.app(f"http://127.0.0.1:{port}"), headers=headers, raise_server_exceptions=False) as http:
        for path in ("events", "chain/x", "risk", "queries/tail", "state/instance/bot1"):
            answer = http.get(f"/v1/{path}")
            problem(answer, 503, "unavailable")
            assert str(port) not in answer.text
            assert int(answer.headers["retry-after"]) > 0
        found = TestClient(http.app).get("/v1/health")
        assert (found.status_code, found.json()) == (503, {"status": "store_away"})
        problem(http.get("/v1/health", headers={"Authorization": ""}), 401, "unauthorized")


def test_a_store_without_tables_is_not_ready(server: Server, http: TestClient) -> None:
    store = Store(server.url)
    store.command("RENAME TABLE tradetape.risk_latest TO tradetape.elsewhere")
    try:
        problem(http.get("/v1/risk"), 503, "not-ready")
    finally:
        store.command("RENAME TABLE tradetape.elsewhere TO tradetape.risk_latest")


ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


@pytest.mark.req("S2-05", "S1-09")
def test_a_reader_only_reads_within_its_bounds_and_while_somebody_waits(server: Server) -> None:
    reader = Reader(server.url)
    reader.begin(1)
    with pytest.raises(TooHeavy):
        reader.query(ENDLESS)
    reader.begin(60)
    threading.Timer(0.5, reader.abandon).start()
    with pytest.raises(Abandoned):
        reader.query(ENDLESS)
    reader.begin(60)
    with pytest.raises(QueryRefused, match="readonly"):
        reader.command("TRUNCATE TABLE tradetape.alerts")
    with pytest.raises(QueryRefused, match="readonly"):
        reader.insert_json("tradetape.alerts", [{"code": "x"}])
    assert reader.query("SELECT count() FROM tradetape.alerts") == [(len(RECORD.alerts),)]
    reader.close()


@pytest.fixture(scope="module")
def crowd(server: Server) -> int:
    """So many events of one bot that no connection holds them all on the way."""
    rows = 100_000
    store = Store(server.url)
    store.command(
        "INSERT INTO tradetape.events "
        "(event_id, event_type, instance_name, ts_utc, raw_partition, raw_offset, payload) SELECT "
        "generateUUIDv4(number), 'heartbeat', 'crowd', toDateTime64('2024-01-01', 6, 'UTC') + number, 8, number, "
        f"'{{\"n\":1}}' FROM numbers({rows})"
    )
    store.close()
    return rows


@pytest.mark.req("S2-05")
def test_a_large_answer_is_streamed_and_stops_with_its_client(server: Server, crowd: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", **NDJSON}
    with api.listening(api.app(server.url, places=1)) as url, httpx.Client(base_url=url, headers=headers) as http:
        for _ in range(3):  # the only place is given back each time
            with http.stream("GET", "/v1/events?instance=crowd", timeout=30) as answer:
                assert answer.headers["transfer-encoding"] == "chunked"
                assert json.loads(next(answer.iter_lines()))["instance_name"] == "crowd"
        with http.stream("GET", "/v1/events?instance=crowd", timeout=60) as answer:
            offsets = [json.loads(line)["raw_offset"] for line in answer.iter_lines()]
        assert offsets == list(range(crowd))


# The last test here: it takes the store away from all others.
def test_a_stream_that_its_store_leaves_has_no_end(server: Server, crowd: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", **NDJSON}
    with api.listening(api.app(server.url)) as url, httpx.Client(base_url=url, headers=headers) as http:
        told = 0
        with http.stream("GET", "/v1/events?instance=crowd", timeout=30) as answer:
            parts = answer.iter_lines()
            assert next(parts)
            server.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in parts:
                    told += 1
        assert told < crowd
        problem(http.get("/v1/events", headers={"Accept": "*/*"}), 503, "unavailable")

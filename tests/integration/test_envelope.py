"""Canonical JSON lines, good and bad, through the whole pipeline (S3-01 … S3-09, P-08)."""

from __future__ import annotations

import json
import os
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.integration.conftest import Tradetape

from tradetape.infra import completeness, settings
from tradetape.schemas import topics
from tradetape.sinks.store import Store

pytestmark = pytest.mark.integration


def line(**changes: Any) -> dict[str, Any]:
    """A good order_filled of bot-env; ``changes`` override the envelope, ``payload`` keys merge."""
    payload = {
        "client_order_id": "o-1",
        "fill_price": "20000.5",
        "fill_qty_base": 0.25,
        "fill_qty_quote": "5000.125",
        "fee_asset": "USDT",
        "fee_amount": "1.25",
        "liquidity_side": "maker",
        **changes.pop("payload", {}),
    }
    event_id = str(uuid.uuid4())
    return {
        "event_id": event_id,
        "event_type": "order_filled",
        "event_version": "v1",
        "ts_utc": "2026-11-20T10:00:00Z",
        "producer": "execution",
        "instance_name": "bot-env",
        "controller_id": "epp_v2_4",
        "connector_name": "bitget",
        "trading_pair": "BTC-USDT",
        "correlation_id": event_id,
        "payload": payload,
        **changes,
    }


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in line().items() if key != name}


def payload_without(name: str) -> dict[str, Any]:
    good = line()
    del good["payload"][name]
    return good


GOOD = [
    line(
        event_type="order_created",
        payload={
            "client_order_id": "o-1",
            "side": "buy",
            "order_type": "limit",
            "price": 1,
            "amount_base": 1,
            "is_live": True,
        },
    ),
    line(payload={"latency_ms": 12, "venue": {"route": "a"}}),
    line(event_id="native-7", correlation_id="native-7"),
    line(
        event_type="risk_decision",
        payload={"approved": False, "decision": "hard_stop", "reason": "'; DROP TABLE events; --"},
    ),
    line(event_type="state_snapshot", payload={"state": "running", "equity_quote": "1000.123456789012345678"}),
    line(event_type="order_failed", payload={"error_message": "%s%n\n\x00"}),
    line(event_type="order_cancelled", payload={"cancel_source": "risk"}),
]
BAD: list[tuple[str, bytes]] = [
    ("missing_field", json.dumps(without("producer")).encode()),
    ("missing_correlation_id", json.dumps(line(correlation_id="")).encode()),
    ("unknown_event_type", json.dumps(line(event_type="order_imagined")).encode()),
    ("ts_unparseable", json.dumps(line(ts_utc="soon")).encode()),
    ("ts_not_utc", json.dumps(line(ts_utc="2026-11-20T10:00:00+02:00")).encode()),
    ("missing_payload_key", json.dumps(payload_without("fee_asset")).encode()),
    ("not_in_enumeration", json.dumps(line(payload={"liquidity_side": "both"})).encode()),
    ("number_invalid", json.dumps(line(payload={"fill_price": float("nan")})).encode()),
    ("number_out_of_range", json.dumps(line(payload={"fill_price": "1e30"})).encode()),
    ("empty_field", json.dumps(line(instance_name="")).encode()),
    (
        "price_required",
        json.dumps(
            line(
                event_type="order_created",
                payload={"side": "buy", "order_type": "limit_maker", "amount_base": 1, "is_live": True},
            )
        ).encode(),
    ),
    ("not_json", b'{"event_id": "cut off'),
    ("not_json", b"\xff\xfe\x00 random bytes"),
    ("not_json", b"[" * 100_000),
    ("not_an_object", b"[1, 2]"),
    ("missing_field", b"{}"),
]


@pytest.fixture(scope="module")
def ingested(stack: Tradetape, tmp_path_factory: pytest.TempPathFactory) -> Tradetape:
    path = tmp_path_factory.mktemp("lines") / "events.jsonl"
    path.write_bytes(
        b"".join(json.dumps(good).encode() + b"\n" for good in GOOD) + b"".join(bad + b"\n" for _, bad in BAD)
    )
    stack.run("ingest", "envelope", str(path))
    return stack


@pytest.mark.req("S3-01", "S3-04", "S3-07")
def test_good_lines_are_stored_under_their_own_ids(ingested: Tradetape) -> None:
    rows = ingested.sql(
        "SELECT toString(event_id) AS event_id, native_event_id, correlation_id, link, event_type, ingest_source, "
        "schema_validation_status AS status FROM tradetape.events "
        "WHERE instance_name = 'bot-env' AND event_type != 'source_ended' AND ingest_source = 'file' "
        "ORDER BY source_position"
    )
    assert [row["event_type"] for row in rows] == [good["event_type"] for good in GOOD]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["link"] for row in rows} == {"root"}
    ids = [row["native_event_id"] or row["event_id"] for row in rows]
    assert ids == [good["event_id"] for good in GOOD]
    assert uuid.UUID(rows[2]["event_id"]).version == 5


@pytest.mark.req("S3-05", "S3-07", "P-08")
def test_bad_lines_are_quarantined_with_reason_place_and_bytes(ingested: Tradetape) -> None:
    rows = {row["line"]: row for row in ingested.rows("quarantine") if row["file"] == "events.jsonl"}
    assert sorted(rows) == list(range(len(GOOD) + 1, len(GOOD) + len(BAD) + 1))
    for number, (reason, original) in enumerate(BAD, len(GOOD) + 1):
        assert reason in rows[number]["reasons"], rows[number]
        stored = ingested.sql(
            "SELECT hex(native) AS native FROM tradetape.quarantine WHERE JSONExtractInt(payload, 'line') = "
            f"{number} AND JSONExtractString(payload, 'location') = 'events.jsonl'"
        )
        assert bytes.fromhex(stored[0]["native"]) == original


@pytest.mark.req("S3-06")
def test_additional_payload_keys_are_queryable(ingested: Tradetape) -> None:
    rows = ingested.sql(
        "SELECT JSONExtractInt(payload, 'latency_ms') AS ms, JSONExtractString(payload, 'venue', 'route') AS route "
        "FROM tradetape.events WHERE instance_name = 'bot-env' AND JSONHas(payload, 'latency_ms')"
    )
    assert rows == [{"ms": 12, "route": "a"}]


@pytest.mark.req("P-08", "S3-06")
def test_hostile_text_is_only_text(ingested: Tradetape) -> None:
    rows = ingested.sql(
        "SELECT JSONExtractString(payload, 'reason') AS text FROM tradetape.events "
        "WHERE event_type = 'risk_decision' AND instance_name = 'bot-env'"
    )
    assert rows == [{"text": "'; DROP TABLE events; --"}]


@pytest.mark.req("P-02")
def test_positions_are_exact_and_paper_stays_apart(ingested: Tradetape) -> None:
    paper = [line(connector_name="bitget_paper_trade", payload={"side": "sell", "client_order_id": "p-1"})]
    ingested.run("ingest", "envelope", "-", stdin=b"".join(json.dumps(each).encode() + b"\n" for each in paper))
    rows = {row["environment"]: row for row in ingested.rows("positions") if row["instance_name"] == "bot-env"}
    assert Decimal(rows["live"]["net_base"]) == Decimal("0.5")
    assert Decimal(rows["live"]["avg_cost"]) == Decimal("20000.5")
    assert Decimal(rows["live"]["fees"]["USDT"]) == Decimal("2.5")
    assert Decimal(rows["paper"]["net_base"]) == Decimal("-0.25")


@pytest.mark.req("S3-03", "N-01")
def test_legacy_lines_are_backfilled_and_said_to_be(ingested: Tradetape) -> None:
    legacy = without("correlation_id") | {"instance_name": "bot-legacy", "event_type": "state_snapshot"}
    legacy["payload"] = {"state": "running"}
    ingested.run("ingest", "envelope", "-", "--legacy", stdin=json.dumps(legacy).encode() + b"\n")
    rows = ingested.sql(
        "SELECT link, correlation_id, toString(event_id) AS event_id FROM tradetape.events "
        "WHERE instance_name = 'bot-legacy' AND event_type = 'state_snapshot'"
    )
    assert rows == [{"link": "backfilled", "correlation_id": legacy["event_id"], "event_id": legacy["event_id"]}]
    ratios = {row["instance_name"]: row for row in ingested.rows("missing_correlation")}
    assert any(float(value) > 0 for value in ratios["bot-legacy"].values() if isinstance(value, float | int))


@pytest.mark.req("S3-09")
def test_the_acceptance_hooks_answer(ingested: Tradetape) -> None:
    assert [row for row in ingested.rows("count_delta") if row["instance_name"] == "bot-env" and row["delta"]] == []
    assert ingested.rows("invalid_schema")
    lags = {row["instance_name"]: row for row in ingested.rows("event_lag")}
    assert "bot-env" in lags


@pytest.mark.req("P-08", "P-03")
def test_poison_on_the_topic_never_stops_a_partition(ingested: Tradetape) -> None:
    found = settings.load(ingested.home)
    producer = Producer(
        {
            "bootstrap.servers": found.bootstrap_servers,
            "partitioner": "murmur2_random",
            "message.max.bytes": topics.MAX_EVENT_BYTES,
        }
    )
    counted = "SELECT count() AS n, max(length(raw)) AS longest FROM tradetape.quarantine WHERE event_type = ''"
    before = ingested.sql(counted)[0]["n"]
    poison = [b"", b"\x00", b"not avro", b"\x00\x00\x00\x00\x01", b"\x00\x7f\xff\xff\xff rest", os.urandom(200)]
    poison += [b"\x00\x00\x00\x00\x01" + os.urandom(10_000_000)]
    for value in poison:
        producer.produce(topics.EVENTS, key=b"bot-env", value=value)
    producer.produce(topics.EVENTS, key=b"bot-env", value=None)
    producer.flush()
    after = line(instance_name="bot-env", payload={"client_order_id": "after-poison", "side": "buy"})
    ingested.run("ingest", "envelope", "-", stdin=json.dumps(after).encode() + b"\n")
    store = Store(found.clickhouse_url)
    assert completeness.wait_until_stored(store, found.bootstrap_servers, 60) == 0
    kept = ingested.sql(counted)
    assert kept[0]["n"] == before + len(poison) + 1
    assert kept[0]["longest"] == 10_000_005
    assert [row["doubles"] + row["holes"] + row["missing"] for row in ingested.rows("completeness")] == [0] * 4
    stored = ingested.sql("SELECT count() AS n FROM tradetape.events WHERE order_id = 'after-poison'")
    assert stored == [{"n": 1}]


@pytest.mark.req("P-08")
def test_a_ten_megabyte_line_is_taken_in(ingested: Tradetape, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    good = line(instance_name="bot-long", payload={"note": "x" * 10_000_000})
    path.write_text(json.dumps(good) + "\n" + "y" * 20_000_000 + "\n", encoding="utf-8")
    ingested.run("ingest", "envelope", str(path))
    kept = ingested.sql(
        "SELECT length(JSONExtractString(payload, 'note')) AS n FROM tradetape.events "
        "WHERE instance_name = 'bot-long' AND event_type = 'order_filled'"
    )
    assert kept == [{"n": 10_000_000}]
    assert any(row["file"] == "long.jsonl" and "line_too_long" in row["reasons"] for row in ingested.rows("quarantine"))

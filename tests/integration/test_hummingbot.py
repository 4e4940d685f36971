"""The five real databases, all the way to the store: the answers equal what plain SQL says (P-04, P-10)."""

from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from tests.integration.conftest import Tradetape
from tests.integration.known_answers import FINDINGS, KnownAnswers

SHARED = Path(os.environ.get("TRADETAPE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
DATABASES = sorted((SHARED / "data" / "hummingbot").glob("*.sqlite"))
NINE_PLACES = Decimal("1e-9")

pytestmark = pytest.mark.integration


def test_there_are_databases() -> None:
    assert len(DATABASES) == 5, f"no databases below {SHARED}"


@pytest.fixture(scope="module")
def ingested(stack: Tradetape) -> Tradetape:
    stack.run("ingest", "hummingbot", *map(str, DATABASES))
    return stack


def answers(stack: Tradetape) -> dict[str, object]:
    """Everything of these bots that a second ingest must not change; those of other tests fall silent meanwhile."""
    names = ("counts", "findings", "positions", "open_orders", "quarantine", "count_delta", "links")
    bots = {path.stem for path in DATABASES}
    return {name: [row for row in stack.rows(name) if row["instance_name"] in bots] for name in names}


@pytest.mark.req("P-10", "S3-10", "P-01")
@pytest.mark.parametrize("path", DATABASES, ids=lambda path: path.stem)
def test_counts_by_type(ingested: Tradetape, path: Path) -> None:
    counted: Counter[str] = Counter()
    for row in ingested.rows("counts", instance_name=path.stem):
        counted[row["event_type"]] += row["n"]
    assert counted.pop("source_ended") == 1
    assert counted == {name: n for name, n in KnownAnswers(path).types.items() if n}


@pytest.mark.req("P-04", "P-10")
@pytest.mark.parametrize("path", DATABASES, ids=lambda path: path.stem)
def test_open_findings(ingested: Tradetape, path: Path) -> None:
    found = {row["code"]: row["subjects"] for row in ingested.rows("findings") if row["instance_name"] == path.stem}
    assert found == KnownAnswers(path).findings
    assert found.keys() <= FINDINGS.keys()


@pytest.mark.req("P-02", "P-10")
@pytest.mark.parametrize("path", DATABASES, ids=lambda path: path.stem)
def test_positions_and_realised_pnl(ingested: Tradetape, path: Path) -> None:
    rows = [row for row in ingested.rows("positions") if row["instance_name"] == path.stem]
    known = KnownAnswers(path)
    assert {row["trading_pair"]: Decimal(row["net_base"]) for row in rows} == known.net
    for row in rows:
        difference = Decimal(row["realised_quote"]) - known.realised[row["trading_pair"]]
        assert abs(difference) < NINE_PLACES, row


@pytest.mark.req("P-04")
def test_what_was_seen_on_the_way_is_resolved_or_noted(ingested: Tradetape) -> None:
    bots = {path.stem for path in DATABASES}
    rows = [row for row in ingested.rows("findings", status="noted") if row["instance_name"] in bots]
    noted = {row["instance_name"]: row["subjects"] for row in rows}
    assert noted == {
        "conf_xemm_1": 1,
        "conf_hedge_3": 12,
        "conf_avellaneda_market_making_2": 2,
        "conf_pure_mm_7": 1,
    }
    (truncated,) = [row["code"] for row in rows if row["instance_name"] == "conf_pure_mm_7"]
    assert truncated == "price_truncated"


@pytest.mark.req("S1-11", "P-06")
def test_a_second_ingest_changes_no_answer_with_or_without_its_checkpoint(ingested: Tradetape) -> None:
    before = answers(ingested)
    again = ingested.run("ingest", "hummingbot", *map(str, DATABASES))
    assert again.stdout.count(b"nothing new") == len(DATABASES)
    for checkpoint in (ingested.home / "ingest").rglob("*.json"):
        checkpoint.unlink()
    ingested.run("ingest", "hummingbot", *map(str, DATABASES))
    assert answers(ingested) == before


@pytest.mark.req("P-03", "S3-09", "N-03")
def test_nothing_is_lost_and_nothing_double(ingested: Tradetape) -> None:
    rows = ingested.rows("completeness")
    assert sum(row["kafka_end"] - row["kafka_first"] for row in rows) == sum(row["rows"] for row in rows) > 0
    assert [(row["missing"], row["holes"], row["doubles"]) for row in rows] == [(0, 0, 0)] * len(rows)
    bots = {path.stem for path in DATABASES}
    deltas = [row for row in ingested.rows("count_delta") if row["instance_name"] in bots]
    assert {row["instance_name"] for row in deltas} == bots
    assert [row for row in deltas if row["delta"]] == []


@pytest.mark.req("S3-07", "S3-02")
def test_a_chain_reads_back_in_order_with_its_native_record(ingested: Tradetape) -> None:
    bots = ", ".join(f"'{path.stem}'" for path in DATABASES)
    chain = ingested.sql(
        f"SELECT correlation_id AS id, count() AS n FROM tradetape.events WHERE instance_name IN ({bots}) "
        "AND event_type != 'source_ended' GROUP BY id ORDER BY n DESC, id LIMIT 1"
    )[0]
    events = ingested.rows("chain", correlation_id=chain["id"])
    assert len(events) == chain["n"]
    assert events[0]["event_type"] == "order_created"
    assert events[0]["event_id"] == chain["id"]
    native = ingested.sql(
        f"SELECT countIf(position(raw, '\"OrderStatus\":') > 0) AS n, countIf(schema_validation_status = 'ok') AS ok "
        f"FROM tradetape.events WHERE correlation_id = '{chain['id']}'"
    )[0]
    assert native == {"n": chain["n"], "ok": chain["n"]}

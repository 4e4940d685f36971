"""Turtle's native store, all the way: Postgres → `tradetape connect turtle` → Kafka → ClickHouse, read back in order.

Costs about 30 s beside the stack that all integration tests share.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import Tradetape
from tests.producers.turtle_document import flows, printed, whole
from tests.producers.turtle_rows import row, table, write
from tests.stores import Postgres
from tests.support import eventually

from tradetape.producers.connectors.turtle import source as turtle
from tradetape.producers.simulator import Ledger
from tradetape.producers.simulator.turtle.fleet import DEFECTS, bot_location, instance_name, simulate

pytestmark = pytest.mark.integration

BOTS = 2
DAYS = 24
STORED_SECONDS = 60.0
FINDING = "arrayMap(f -> (f.1, f.3), findings)"
RUNS = "0b0f3a52-0000-4000-8000-0000000000{:02d}"


@dataclass(frozen=True, slots=True)
class Store:
    """One bot's table, and how to ask the record about it."""

    stack: Tradetape
    location: str
    instance: str
    bot: str = ""
    """Its name in the simulation's ledger."""

    def connect(self) -> str:
        more = ("--instance", self.instance, "--once")
        return self.stack.run("connect", "turtle", self.location, *more).stdout.decode()

    def rows(self, select: str, kept_in: str = "events", where: str = "1") -> list[dict[str, Any]]:
        source = turtle.fingerprint(self.location)
        return self.stack.sql(
            f"SELECT {select} FROM tradetape.{kept_in} WHERE source_id = '{source}' AND {where} "
            "ORDER BY raw_partition, raw_offset"
        )

    def native(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.location) as connection:
            return connection.execute(query.encode()).fetchall()

    def wait(self) -> None:
        """Return when as many rows are stored as the table has, and its end."""
        ((count,),) = self.native("SELECT count(*) FROM events")

        def is_stored() -> bool:
            where = "source_position IS NOT NULL"
            kept = [len(self.rows("raw_offset", kept_in, where)) for kept_in in ("events", "quarantine")]
            assert sum(kept) == count, kept
            return bool(self.rows("event_id", where="event_type = 'source_ended'"))

        eventually(is_stored, STORED_SECONDS, self.instance)


@pytest.fixture(scope="module")
def fleet(stack: Tradetape, postgres: Postgres) -> tuple[Ledger, list[Store]]:
    url = postgres.database()
    ledger = simulate(url, bots=BOTS, steps=DAYS, seed=29, defects=list(DEFECTS))
    bots = {number: instance_name(number) for number in range(1, BOTS + 1)}
    stores = [Store(stack, bot_location(url, number), f"read-{bot}", bot) for number, bot in bots.items()]
    for store in stores:
        store.connect()
    for store in stores:
        store.wait()
    return ledger, stores


@pytest.fixture(scope="module")
def told(stack: Tradetape, postgres: Postgres) -> Store:
    """The five flows of the document, one run each, as a real bot writes them."""
    store = Store(stack, table(postgres.database()), "turtle-flows")
    for number, (_, steps) in enumerate(flows(), 1):
        for sequence, (native_type, step) in enumerate(steps, 1):
            symbol, outcome, context = printed(step)
            columns = {"symbol": symbol, "sequence": sequence, "run_id": RUNS.format(number)}
            full = whole(native_type, context)
            if full and "order" in full:  # one order an order, not the document's 12345 everywhere
                full["order"] = {**full["order"], "order_id": f"{number}-{native_type.partition('_')[0]}"}
            made = row(native_type, outcome or "EXECUTED", full, **columns)
            write(store.location, {**made, "timestamp": f"2026-02-12T1{number}:00:{sequence:02d}+00:00"})
    store.connect()
    store.wait()
    return store


@pytest.mark.req("S0-07", "S0-01")
def test_the_five_flows_read_back_in_order(told: Store) -> None:
    stored = told.rows(
        "run_id, sequence, native_type, outcome, event_type, trading_pair AS pair, ts_utc",
        where="run_id != '' ORDER BY run_id, sequence -- ",
    )
    for number, (title, steps) in enumerate(flows(), 1):
        found = [found for found in stored if found["run_id"] == RUNS.format(number)]
        assert [int(each["sequence"]) for each in found] == list(range(1, len(steps) + 1)), title
        assert [each["native_type"] for each in found] == [native_type for native_type, _ in steps], title
        outcomes = [(printed(step)[1] or "EXECUTED").lower() for _, step in steps]
        assert [each["outcome"] for each in found] == outcomes, title
        assert [each["pair"] for each in found] == [f"{s}-USD" if (s := printed(step)[0]) else "" for _, step in steps]
    assert [each["event_type"] for each in stored[:6]] == [
        "run_started",
        "signal_generated",
        "signal_evaluated",
        "order_created",
        "order_filled",
        "run_completed",
    ]
    assert told.rows("raw_offset", "quarantine") == []
    # The flows print a part of each context over whole ones: their numbers do not add up. Anything else is wrong.
    opened = "arrayFilter(f -> f.3 = 'opened' AND f.1 NOT IN ('arithmetic_mismatch', 'question_unanswered'), findings)"
    assert told.rows(f"native_type, {opened} AS found", where=f"notEmpty({opened})") == []


@pytest.mark.req("S0-07", "S0-03")
def test_a_question_to_a_decision_is_answered_from_the_record(told: Store) -> None:
    def ask(*path: str) -> str:
        return f"JSONExtractRaw(payload, 'context', {', '.join(map(repr, path))})"

    (failed,) = told.rows(
        f"{ask('account', 'buying_power')} AS power, {ask('sizing', 'position_value')} AS needed, "
        "JSONExtractString(payload, 'error_message') AS why",
        where="event_type = 'order_failed'",
    )
    assert [json.loads(failed[key]) for key in ("power", "needed")] == ["2000", "12500"]
    assert failed["why"] == "Buying power $2,000 < required $12,500"
    (stop,) = told.rows("payload", where="event_type = 'stop_modified'")
    assert (json.loads(stop["payload"])["old_stop"], json.loads(stop["payload"])["new_stop"]) == ("50.75", "51.25")


@pytest.mark.req("S0-01", "S0-07")
def test_the_printed_forms_are_stored_or_are_evidence_with_their_reason(stack: Tradetape, postgres: Postgres) -> None:
    store = Store(stack, table(postgres.database()), "turtle-printed")
    total = 0
    for number, (_, steps) in enumerate(flows(), 1):
        for sequence, (native_type, step) in enumerate(steps, 1):
            symbol, outcome, context = printed(step)
            columns = {"symbol": symbol, "sequence": sequence, "run_id": RUNS.format(number)}
            write(store.location, row(native_type, outcome or "EXECUTED", context, **columns))
            total += 1
    store.connect()
    store.wait()
    refused = store.rows("native_type, reasons, payload", "quarantine")
    assert len(store.rows("raw_offset", where="source_position IS NOT NULL")) == total - len(refused)
    assert {each["native_type"] for each in refused} <= {
        "ENTRY_ATTEMPTED",
        "ENTRY_FILLED",
        "EXIT_FILLED",
        "PYRAMID_ATTEMPTED",
        "PYRAMID_FILLED",
    }
    for each in refused:
        assert each["reasons"] == ["unmapped"]
        assert "missing_payload_key" in json.loads(each["payload"])["error"]
    codes = {code for each in store.rows(f"{FINDING} AS found") for code, _ in each["found"]}
    assert "sequence_gap" not in codes  # what was refused is on record too


@pytest.mark.req("S0-01", "S0-02", "S3-10")
def test_every_row_of_the_tables_is_stored_once_in_the_order_of_its_run(fleet: tuple[Ledger, list[Store]]) -> None:
    ledger, stores = fleet
    for store in stores:
        native = {
            str(event_id): (event_type, outcome, str(run_id), sequence, source)
            for event_id, event_type, outcome, run_id, sequence, source in store.native(
                "SELECT id, event_type, outcome, run_id, sequence, source FROM events"
            )
        }
        assert len(native) == ledger.rows[store.bot]["events"]
        columns = "toString(event_id) AS id, native_type, outcome, run_id, sequence, source, source_stream AS stream"
        kept = [
            each
            for kept_in in ("events", "quarantine")
            for each in store.rows(
                f"{columns}, toString(source_position) AS place", kept_in, "source_position IS NOT NULL"
            )
        ]
        assert {
            each["id"]: (
                each["native_type"],
                each["outcome"],
                each["run_id"],
                int(each["sequence"]),
                each["source"],
            )
            for each in kept
        } == native
        assert len(kept) == len(native)
        places = [(each["stream"], int(each["place"])) for each in kept if each["stream"] == turtle.STREAM]
        assert len(set(places)) == len(places)


@pytest.mark.req("S0-02", "P-04")
def test_every_injected_defect_is_found(fleet: tuple[Ledger, list[Store]]) -> None:
    ledger, stores = fleet
    for store in stores:
        codes: Counter[str] = Counter()
        for each in store.rows(f"{FINDING} AS found", where="notEmpty(findings)"):
            codes.update(code for code, status in each["found"] if status in ("opened", "noted"))
        for each in store.rows("reasons", "quarantine"):
            codes.update(each["reasons"])
        injected = [defect for defect in ledger.injected if defect.instance == store.bot]
        assert len(injected) == len(DEFECTS)
        for defect in injected:
            if defect.expected:
                assert codes[defect.expected], defect


@pytest.mark.req("P-06", "S3-09", "S3-10")
def test_a_second_run_adds_nothing_and_what_the_source_holds_is_what_is_stored(
    fleet: tuple[Ledger, list[Store]],
) -> None:
    _, stores = fleet
    count: Callable[[Store], int] = lambda store: len(store.rows("raw_offset"))  # noqa: E731
    before = [count(store) for store in stores]
    for store in stores:
        assert "nothing new" in store.connect()
    sources = {turtle.fingerprint(store.location) for store in stores}
    deltas = [each for each in stores[0].stack.rows("count_delta") if each["source_id"] in sources]
    assert deltas
    assert [each for each in deltas if int(each["delta"])] == []
    assert [count(store) for store in stores] == before

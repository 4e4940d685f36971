"""Replay against a real store: it agrees to the last digit, and names the place where something was changed (P-06)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from tests.crash.load import Load
from tests.crash.pipeline import Sender
from tests.folding import SCHEMAS
from tests.integration.clickhouse import serve
from tests.integration.conftest import Tradetape
from tests.processors.logs import log
from tests.support import eventually

from tradetape.infra import completeness, settings
from tradetape.processors.emission import Emitted
from tradetape.processors.replay import Replay
from tradetape.processors.version import CORE_VERSION
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.numbers import text
from tradetape.schemas.registry import Registry
from tradetape.sinks import migrate, replay, stored
from tradetape.sinks.batch import Record
from tradetape.sinks.landing import nothing
from tradetape.sinks.ledger import parse_key
from tradetape.sinks.replay import Outcome
from tradetape.sinks.slow_path import quarantine
from tradetape.sinks.store import Store
from tradetape.sinks.stored import CAUSED
from tradetape.sinks.tables import ALERTS, EVENTS, QUARANTINE, RISK, Table

pytestmark = [pytest.mark.integration, pytest.mark.req("P-06")]

LOG = log(1, 1)[0]
LAST = LOG[-1].offset
ULP = Decimal("1e-18")

_tokens = count(1)


class Landed(NamedTuple):
    """A row to be stored."""

    table: Table
    record: dict[str, Any]

    @property
    def place(self) -> str:
        return "{raw_partition}:{raw_offset}:{derived_seq}".format_map(self.record)


Rows = list[Landed]


@cache
def judged() -> list[Emitted]:
    again = Replay(0, SCHEMAS.get)
    return [sent for raw in LOG for sent in again.fold(raw) if sent.topic != topics.PORTFOLIO]


def rows() -> Rows:
    """What the sink lands of the log."""
    return [Landed(stored.table_of(topic, record), dict(record)) for _, topic, record in judged()]


def fill(store: Store, landed: Rows) -> None:
    for table in CAUSED:
        schema = output_schema(table.record)
        encode = codec.Encoder(schema, 0).encode
        bodies = [encode(row.record)[codec.HEADER.size :] for row in landed if row.table is table]
        if bodies:
            store.insert(table, schema, bodies, f"row-{next(_tokens)}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as server:
        store = Store(server.url)
        migrate.migrate(store)
        yield store
        store.close()


@pytest.fixture
def store(engine: Store) -> Store:
    """A store of nothing."""
    for table in CAUSED:
        engine.command(f"TRUNCATE TABLE {table.full_name}")
    return engine


def from_store(store: Store, last: int = LAST) -> Outcome:
    return replay.compare(store, 0, last, SCHEMAS.get, patience=0)


def from_topic(store: Store, last: int = LAST, end: int = LAST + 1) -> Outcome:
    return replay.compare(store, 0, last, SCHEMAS.get, raws=LOG[:end], patience=0)


@pytest.mark.parametrize("source", [from_store, from_topic])
@pytest.mark.parametrize("page", [97, stored.PAGE])
def test_what_was_judged_is_equal_to_the_last_digit(
    store: Store, source: Callable[[Store], Outcome], page: int
) -> None:
    landed = rows()
    fill(store, landed)
    assert {row.table.name for row in landed} == {table.name for table in CAUSED}
    with patch.object(stored, "PAGE", page):
        outcome = source(store)
    assert outcome.agrees
    assert (outcome.records, outcome.equal, outcome.different) == (LAST + 1, len(landed), 0)
    assert (outcome.first, outcome.gap, outcome.set_aside, dict(outcome.other_core)) == (None, None, 0, {})


def pick(landed: Rows, table: Table, skip: int = 0) -> Landed:
    return [row for row in landed if row.table is table][skip]


def one_ulp_more(landed: Rows) -> tuple[Any, ...]:
    row = pick(landed, RISK, 3)
    was = row.record["cost_quote"]
    row.record["cost_quote"] = was + ULP
    return row.place, "risk", "cost_quote", text(was + ULP), text(was)


def a_finding_less(landed: Rows) -> tuple[Any, ...]:
    row = next(row for row in landed if row.table is EVENTS and row.record["findings"])
    findings = row.record["findings"]
    row.record["findings"] = []
    return row.place, "events", "findings", "[]", replay.shown(findings)[:160]


def another_reason(landed: Rows) -> tuple[Any, ...]:
    row = next(row for row in landed if row.table is QUARANTINE and row.record["reasons"])
    reasons = row.record["reasons"]
    row.record["reasons"] = ["other"]
    return row.place, "quarantine", "reasons", '["other"]', json.dumps(list(reasons), separators=(",", ":"))


def a_figure_less(landed: Rows) -> tuple[Any, ...]:
    row = pick(landed, RISK, 5)
    landed.remove(row)
    return row.place, "risk", "row", None, "risk"


def an_alert_more(landed: Rows) -> tuple[Any, ...]:
    row = pick(landed, ALERTS, 1)
    landed.append(Landed(ALERTS, row.record | {"derived_seq": 40}))
    return landed[-1].place, "alerts", "row", "alerts", None


def a_verdict_twice(landed: Rows) -> tuple[Any, ...]:
    row = pick(landed, EVENTS, 2)
    landed.append(row)
    return row.place, "events", "row", "2 rows", "1 row"


def a_duplicate_accepted(landed: Rows) -> tuple[Any, ...]:
    row = next(row for row in landed if row.record.get("disposition") == "duplicate")
    landed[landed.index(row)] = Landed(EVENTS, row.record)
    return row.place, "events", "table", "events", "quarantine"


@pytest.mark.parametrize("source", [from_store, from_topic])
@pytest.mark.parametrize(
    "change",
    [
        one_ulp_more,
        a_finding_less,
        another_reason,
        a_figure_less,
        an_alert_more,
        a_verdict_twice,
        a_duplicate_accepted,
    ],
)
def test_a_change_is_named_with_its_place_and_both_values(
    store: Store, source: Callable[[Store], Outcome], change: Callable[[Rows], tuple[Any, ...]]
) -> None:
    landed = rows()
    expected = change(landed)
    fill(store, landed)
    outcome = source(store)
    assert not outcome.agrees
    assert outcome.first is not None
    found = outcome.first._asdict()
    if found["replayed"] is not None:
        found["replayed"] = found["replayed"].removesuffix("…")
    assert tuple(found.values()) == expected
    assert (outcome.different, outcome.records) == (1, LAST + 1)


def test_a_hole_in_the_store_stops_its_replay_and_is_a_difference_to_the_topic(store: Store) -> None:
    fill(store, [row for row in rows() if not 5 <= row.record["raw_offset"] <= 7])
    stopped = from_store(store)
    assert not stopped.agrees
    assert (stopped.gap, stopped.records, stopped.different) == ((5, 7), 5, 0)
    whole = from_topic(store)
    assert whole.gap is None
    assert whole.first is not None
    assert (whole.first.place, whole.first.stored) == ("0:5:0", None)
    assert whole.records == LAST + 1


def test_a_topic_that_ends_before_the_store_is_a_hole(store: Store) -> None:
    fill(store, rows())
    assert from_topic(store, end=100).gap == (100, LAST)
    assert from_store(store, last=LAST + 3).gap == (LAST + 1, LAST + 3)


def test_what_another_core_judged_is_folded_and_counted_apart(store: Store) -> None:
    landed = [Landed(row.table, row.record | _by_another_core(row.record)) for row in rows()]
    fill(store, landed)
    outcome = from_store(store)
    assert outcome.agrees
    assert outcome.other_core == {"another": 50}
    assert outcome.equal == sum(row.record["core_version"] == CORE_VERSION for row in landed)


def _by_another_core(record: dict[str, Any]) -> dict[str, Any]:
    return {"core_version": "another"} if record["raw_offset"] < 50 else {}


def test_what_the_store_refused_is_set_aside(store: Store) -> None:
    decoded, bytes_only = [sent for sent in judged() if sent.record.get("disposition") == "accepted"][:2]
    kept = {decoded.key.decode(), bytes_only.key.decode()}
    fill(store, [row for row in rows() if row.place not in kept])
    schema = output_schema("audited")
    for sent, decoder in ((decoded, codec.Decoder(schema)), (bytes_only, None)):
        value = codec.Encoder(schema, 1).encode(sent.record)
        quarantine(store, topics.AUDITED, [(Record(parse_key(sent.key), value, 0), "no UUID")], decoder, nothing)
    whole = from_topic(store)
    assert (whole.agrees, whole.set_aside, whole.equal) == (True, 2, len(rows()) - 2)
    stopped = from_store(store)
    lost = bytes_only.record["raw_offset"]
    assert (stopped.gap, stopped.set_aside) == ((lost, lost), 1)


def test_a_figure_may_land_after_its_verdict(store: Store) -> None:
    landed = rows()
    late = pick(landed, RISK, 2)
    landed.remove(late)
    fill(store, landed)
    with patch("time.sleep", lambda _: fill(store, [late])):
        outcome = replay.compare(store, 0, LAST, SCHEMAS.get)
    assert outcome.agrees
    assert outcome.equal == len(landed) + 1


def run(stack: Tradetape, source: str) -> tuple[int, dict[str, Any]]:
    done = stack.run("replay", source, "--output", "json", check=False)
    assert done.returncode in {0, 1}, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def traffic(stack: Tradetape) -> Tradetape:
    """A stack that has judged and stored orders with defects, repeats, refused events and poison."""
    found = settings.load(stack.home)
    sender = Sender(found.bootstrap_servers)
    sender.send(Load(Registry(found.registry_url)).records(uuid.uuid4().int % 10**6, 400))
    sender.flush()
    assert completeness.wait_until_stored(Store(found.clickhouse_url), found.bootstrap_servers, 60) == 0
    return stack


def stored_now(stack: Tradetape) -> tuple[dict[int, int], int]:
    """Records by raw partition, and the rows of all that they caused."""
    completed = {row["raw_partition"]: row["rows"] for row in stack.rows("completeness")}
    counts = " UNION ALL ".join(f"SELECT count() AS n FROM {table.full_name}" for table in CAUSED)
    return completed, sum(row["n"] for row in stack.sql(counts))


@pytest.mark.parametrize("source", ["--from-topic", "--from-store"])
def test_the_command_agrees_with_the_running_stack(traffic: Tradetape, source: str) -> None:
    before, rows_before = stored_now(traffic)
    code, answer = run(traffic, source)
    after, rows_after = stored_now(traffic)
    assert code == 0, answer
    assert answer["agrees"] is True
    assert answer["first_difference"] is None
    # The stack is alive: the watchdog may write down who has fallen silent meanwhile.
    records = {part["partition"]: part["records"] for part in answer["partitions"]}
    assert all(before[number] <= records.get(number, 0) <= after[number] for number in after)
    assert rows_before <= sum(part["equal"] + part["set_aside"] for part in answer["partitions"]) <= rows_after
    assert "equal to the last digit" in traffic.run("replay", source).stdout.decode()


def test_the_command_names_the_place_of_an_altered_row(traffic: Tradetape) -> None:
    store = Store(settings.load(traffic.home).clickhouse_url)
    where = {"instance": traffic.sql("SELECT max(instance_name) AS n FROM tradetape.risk WHERE fills > 1")[0]["n"]}
    query = (
        "SELECT raw_partition, raw_offset, derived_seq, toString(realised_quote) AS was FROM tradetape.risk "
        f"WHERE instance_name = '{where['instance']}' ORDER BY raw_offset LIMIT 1"
    )
    (row,) = traffic.sql(query)
    place = "{raw_partition}:{raw_offset}:{derived_seq}".format_map(row)

    def add(ulps: int) -> None:
        store.command(
            f"ALTER TABLE tradetape.risk UPDATE realised_quote = realised_quote + toDecimal128('{ulps}e-18', 18) "
            f"WHERE raw_partition = {row['raw_partition']} AND raw_offset = {row['raw_offset']} "
            f"AND derived_seq = {row['derived_seq']} SETTINGS mutations_sync = 2"
        )

    add(1)
    try:
        code, answer = run(traffic, "--from-store")
        told = traffic.run("replay", "--from-store", "--partition", str(row["raw_partition"]), check=False)
    finally:
        add(-1)
    assert code == 1
    was = Decimal(row["was"])
    assert answer["first_difference"] == {
        "place": place,
        "table": "risk",
        "field": "realised_quote",
        "stored": text(was + ULP),
        "replayed": text(was),
    }
    assert told.returncode == 1
    line = f"first difference: risk {place} realised_quote: stored {text(was + ULP)}, replayed {text(was)}"
    assert line in told.stdout.decode()
    assert eventually(lambda: run(traffic, "--from-store")[0] == 0)

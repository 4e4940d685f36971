"""Quantum's Redis streams, all the way: `tradetape connect quantum` → Kafka → ClickHouse, read back in order.

Costs about 15 s beside the stack.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from tests.integration.conftest import Tradetape
from tests.producers.quantum_redis import PAST, Failing, client_of, entries_in_order, opened, through, tick
from tests.stores import Valkey
from tests.support import eventually

from tradetape.producers.connectors.quantum import source as quantum
from tradetape.producers.connectors.quantum.letters import dead_letters
from tradetape.producers.simulator import Ledger
from tradetape.producers.simulator.quantum.fleet import DEFECTS, simulate
from tradetape.schemas import times

pytestmark = pytest.mark.integration

STORED_SECONDS = 60.0

TRADE = (
    "market_candle",
    "regime_classified",
    "signal_generated",
    "risk_evaluated",
    "trade_requested",
    "order_created",
    "order_filled",
    "position_opened",
    "position_state",
    "exit_decided",
    "order_filled",
    "position_closed",
)
"""The document's trade lifecycle; its ninth step is that time passes."""
KILL_SWITCH = ("position_closed", "risk_status", "kill_switch_activated", "system_alert")


@dataclass(frozen=True, slots=True)
class Bot:
    """One simulated bot, and how to ask the record about it."""

    stack: Tradetape
    url: str
    ledger: Ledger

    @property
    def source_id(self) -> str:
        return quantum.fingerprint(self.url)

    def connect(self) -> str:
        done = self.stack.run("connect", "quantum", self.url, "--once", "--instance", f"quantum-{self.source_id}")
        return done.stdout.decode()

    def rows(self, select: str, table: str = "events", where: str = "1") -> list[dict[str, Any]]:
        """Rows of what is stored of this bot, in the order of the record."""
        return self.stack.sql(
            f"SELECT {select} FROM tradetape.{table} WHERE source_id = '{self.source_id}' AND {where} "
            "ORDER BY raw_partition, raw_offset"
        )

    def ends(self) -> int:
        return len(self.rows("event_id", where="event_type = 'source_ended'"))


def simulated(stack: Tradetape, url: str, **more: Any) -> Bot:
    bot = Bot(stack, url, simulate(url, bots=1, **more))
    bot.connect()
    eventually(lambda: bot.ends() == 1, STORED_SECONDS, "the end of the streams")
    return bot


@pytest.fixture(scope="module")
def bot(stack: Tradetape, valkey: Valkey) -> Bot:
    return simulated(stack, valkey.database(), steps=24, seed=17, defects=list(DEFECTS))


@pytest.fixture(scope="module")
def linked(stack: Tradetape, valkey: Valkey) -> Bot:
    """A bot whose entries carry correlation ids."""
    return simulated(stack, valkey.database(), steps=2, seed=18, correlate=True)


@pytest.mark.req("S4-01", "S3-10")
def test_every_entry_reads_back_in_the_order_of_ids(bot: Bot) -> None:
    columns = "source_stream, toString(source_position) AS position, native_type, raw_partition, raw_offset"
    stored = [
        row for table in ("events", "quarantine") for row in bot.rows(columns, table, "source_position IS NOT NULL")
    ]
    stored.sort(key=lambda row: (int(row["raw_partition"]), int(row["raw_offset"])))
    assert [(row["source_stream"], int(row["position"])) for row in stored] == entries_in_order(bot.url)
    assert {row["native_type"] == row["source_stream"] for row in stored} == {True}
    (rows,) = bot.ledger.rows.values()
    assert Counter(row["source_stream"] for row in stored) == rows


@pytest.mark.req("S4-11", "P-04")
def test_every_injected_defect_is_found(bot: Bot) -> None:
    codes: Counter[str] = Counter()
    for row in bot.rows("arrayMap(f -> (f.1, f.3), findings) AS found", where="notEmpty(findings)"):
        codes.update(code for code, status in row["found"] if status in ("opened", "noted"))
    for row in bot.rows("reasons", "quarantine"):
        codes.update(row["reasons"])
    for injected in bot.ledger.injected:
        assert codes[injected.expected] or injected.why_not, injected


@pytest.mark.req("S1-11", "P-06", "S3-09")
def test_a_second_run_adds_nothing_and_what_the_source_holds_is_what_is_stored(bot: Bot) -> None:
    before = bot.rows("raw_partition, raw_offset")
    assert "nothing new" in bot.connect()
    assert bot.rows("raw_partition, raw_offset") == before
    deltas = [row for row in bot.stack.rows("count_delta") if row["source_id"] == bot.source_id]
    assert deltas
    assert [row for row in deltas if row["delta"]] == []


@pytest.mark.req("S4-08", "S3-02")
@pytest.mark.parametrize("flow", [TRADE, KILL_SWITCH], ids=["trade", "kill switch"])
def test_the_documents_flows_read_back_as_one_linked_chain(linked: Bot, flow: Sequence[str]) -> None:
    roots = linked.rows("correlation_id", where="link = 'root' AND event_type != 'source_ended'")
    chains = [linked.stack.rows("chain", correlation_id=row["correlation_id"]) for row in roots]
    chain = next(each for each in chains if follows([row["event_type"] for row in each], flow))
    assert [row["link"] for row in chain] == ["root"] + ["asserted"] * (len(chain) - 1)
    assert [row["causation_id"] for row in chain[1:]] == [row["event_id"] for row in chain[:-1]]
    offsets = [int(row["raw_offset"]) for row in chain]
    assert offsets == sorted(offsets)
    if flow is TRADE:
        payloads = {row["event_type"]: json.loads(row["payload"]) for row in chain}
        assert payloads["risk_evaluated"]["signal_id"] == payloads["signal_generated"]["signal_id"]
        assert payloads["trade_requested"]["evaluation_id"] == payloads["risk_evaluated"]["evaluation_id"]
        assert payloads["position_closed"]["position_id"] == payloads["position_opened"]["position_id"]


@pytest.mark.req("S4-08", "S3-03")
def test_without_ids_of_its_own_a_flow_reads_back_in_order_and_is_labelled(bot: Bot) -> None:
    rows = bot.rows("event_type, link", where="event_type NOT IN ('source_ended', 'system_gap')")
    assert follows([row["event_type"] for row in rows], TRADE)
    assert {row["link"] for row in rows} == {"backfilled", "inferred"}


def follows(types: Sequence[str], flow: Sequence[str]) -> bool:
    """Whether ``flow`` is in ``types``, in its order, with whatever is between."""
    left = iter(types)
    return all(step in left for step in flow)


@pytest.mark.req("S4-03", "S4-10")
def test_what_is_missing_is_on_record_with_its_count(stack: Tradetape, valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    for number in range(40):
        client.xadd("market.tick.price", tick(), id=f"{PAST + number}-0")
        client.xadd("position.state.update", {"n": "1"}, id=f"{PAST + number}-0", maxlen=4, approximate=False)
    bot = Bot(stack, url, Ledger())
    bot.connect()
    eventually(lambda: bot.ends() == 1, STORED_SECONDS, "the end of the streams")
    gaps = [json.loads(row["payload"]) for row in bot.rows("payload", where="event_type = 'system_gap'")]
    told = {(gap["reason"], gap["stream"], gap["count"]) for gap in gaps}
    assert told == {("trimmed", "position.state.update", 36), ("rate_limited", "market.tick.price", 30)}


@pytest.mark.req("S4-04")
def test_a_dead_letter_that_is_driven_again_is_accepted(stack: Tradetape, valkey: Valkey) -> None:
    url = valkey.database()
    client_of(url).xadd("market.tick.price", tick("1801.5"), id=f"{PAST}-0")
    failing = opened(url, adapt=Failing("market.tick.price", 99), sleep=lambda seconds: None)
    (evidence,) = failing.poll(10)
    saved = through(failing.state())
    failing.close()
    assert evidence["event_type"] == "unmapped_record"
    burying = opened(url, saved)
    burying.acknowledge()
    burying.close()
    (letter,) = dead_letters(url)
    stack.run("dead-letters", "redrive", url, letter.letter_id)
    bot = Bot(stack, url, Ledger())
    bot.connect()
    eventually(lambda: bot.ends() == 1, STORED_SECONDS, "the end of the streams")
    rows = bot.rows(
        "JSONExtractString(payload, 'price') AS price, toUnixTimestamp64Micro(ts_utc) AS at", where="price = '1801.5'"
    )
    assert [int(row["at"]) for row in rows] == [PAST * 1000]
    assert times.text(PAST * 1000).startswith("2024-05-01")

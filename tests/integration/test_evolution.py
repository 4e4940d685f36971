"""A contract that changes under a running stack: new fields flow with no restart, a breaking change is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.integration import next_version
from tests.integration.conftest import Tradetape
from tests.integration.next_version import ORDER
from tests.support import eventually

from tradetape.infra import settings
from tradetape.infra.embedded import processes
from tradetape.producers.consumer import Consumer
from tradetape.producers.recorder import Recorder
from tradetape.schemas import times, topics

pytestmark = [pytest.mark.integration, pytest.mark.req("P-05")]

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("supervisor", "kafka", "registry", "clickhouse", "worker", "sink", "bridge")
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
MOMENT = {"type": "long", "logicalType": "timestamp-micros"}
CREATED, FILLED = (f"{topics.EVENTS}-tradetape.v1.{name}" for name in ("OrderCreated", "OrderFilled"))

Change = Callable[[dict[str, Any]], None]


def adding(*fields: tuple[str, Any]) -> Change:
    """The change of a record that gets these fields, each of them nullable."""

    def change(record: dict[str, Any]) -> None:
        for name, kind in fields:
            record["fields"].append({"name": name, "type": ["null", kind], "default": None, "doc": "new"})

    return change


def turning(field: str, into: Any) -> Change:
    """The change of a record whose ``field`` becomes something else."""

    def change(record: dict[str, Any]) -> None:
        next(each for each in record["fields"] if each["name"] == field)["type"] = into

    return change


NEWER = {
    "order/order_created.avsc": adding(("arrival_price", DECIMAL), ("decided_at", MOMENT)),
    "context/signal_context.avsc": adding(("strength", DECIMAL)),
}
BREAKING = {
    "order/order_created.avsc": turning("side", "long"),
    "order/order_filled.avsc": turning("fee_amount", {**DECIMAL, "scale": 8}),
    "order/order_failed.avsc": adding(("desk", "string")),
}


class NextVersion:
    """A running ``next_version`` whose schemas are this code's with ``changes``, by file."""

    def __init__(self, folder: Path, changes: dict[str, Change], home: Path, bot: str) -> None:
        rooms = folder / "lib" / "tradetape"
        rooms.mkdir(parents=True)
        for room in ("producers", "processors", "sinks", "infra"):
            (rooms / room).symlink_to(ROOT / room)
        shutil.copytree(ROOT / "schemas", rooms / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
        for name, change in changes.items():
            path = rooms / "schemas" / "avro" / name
            record = json.loads(path.read_text(encoding="utf-8"))
            change(record)
            path.write_text(json.dumps(record), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", next_version.__name__, str(home), bot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{rooms.parent}{os.pathsep}{ROOT}"},
        )
        self.schemas: dict[str, Any] = self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def order(self, **more: Any) -> str:
        """Record an order; its event_id once Kafka has it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(more) + "\n")
        self._process.stdin.flush()
        event_id: str = self.answer()
        return event_id

    def close(self) -> None:
        self._process.communicate(timeout=30)


@contextmanager
def running(folder: Path, changes: dict[str, Change], home: Path, bot: str) -> Iterator[NextVersion]:
    version = NextVersion(folder, changes, home, bot)
    try:
        yield version
    finally:
        version.close()


@pytest.fixture
def bot() -> str:
    return f"evolving-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def recorder(stack: Tradetape, bot: str) -> Iterator[Recorder]:
    """The bot as it is today; it goes on recording all the time."""
    found = settings.load(stack.home)
    with Recorder(
        instance_name=bot,
        producer="today",
        connector_name="kucoin",
        trading_pair="A-B",
        bootstrap_servers=found.bootstrap_servers,
        registry_url=found.registry_url,
    ) as recorder:
        yield recorder


def order(recorder: Recorder, **more: Any) -> str:
    event_id = recorder.order_created(**{**ORDER, **more}).event_id
    recorder.flush()
    return event_id


def pids(stack: Tradetape) -> dict[str, tuple[int, float]]:
    """Which processes run as the members of the stack."""
    found = {name: processes.find(stack.home, name) for name in MEMBERS}
    return {name: (process.pid, process.create_time()) for name, process in found.items() if process is not None}


def stored(stack: Tradetape, bot: str) -> list[dict[str, Any]]:
    """The orders of ``bot`` in the order of their partition, by `tradetape sql`."""
    return stack.sql(
        "SELECT order_id, toString(event_id) AS event_id, raw_schema_id, link, length(findings) AS findings, "
        "JSONExtractString(payload, 'arrival_price') AS arrival_price, payload FROM tradetape.events "
        f"WHERE instance_name = '{bot}' AND event_type = 'order_created' ORDER BY raw_offset"
    )


def refused(answer: dict[str, Any]) -> dict[str, str]:
    """The problems of the subjects that are refused."""
    return {
        name: "; ".join(state["problems"]) for name, state in answer["changed"].items() if state["state"] == "refused"
    }


@pytest.mark.req("S3-06")
def test_a_new_field_flows_beside_the_old_version_with_no_restart(
    stack: Tradetape, bot: str, recorder: Recorder, tmp_path: Path
) -> None:
    before = pids(stack)
    assert before.keys() == {*MEMBERS}
    # Before the contract has the key it is one that no schema knows.
    ids = [order(recorder, client_order_id="o1"), order(recorder, client_order_id="o2", arrival_price="1.25")]
    moment = "2026-11-22T03:04:05.000006Z"
    context = {"signal": {"system": "S1", "strength": "0.75"}}
    with running(tmp_path, NEWER, stack.home, bot) as newer:
        check, register = newer.schemas["check"], newer.schemas["register"]
        assert (check["code"], register["code"]) == (0, 0), check["said"] + register["said"]
        assert check["changed"].keys() == register["changed"].keys()
        assert {state["state"] for state in check["changed"].values()} == {"changed"}
        assert register["changed"][CREATED]["versions"] == [1, 2]
        ids.append(newer.order(client_order_id="o3", arrival_price="1.49", decided_at=moment, context=context))
        ids.append(order(recorder, client_order_id="o4"))
        ids.append(newer.order(client_order_id="o5", desk="fx"))
        ids.append(order(recorder, client_order_id="o6", arrival_price="1.75"))
    for number in range(1, 7):
        fill = {"fill_price": "1.5", "fill_qty_base": "2", "fill_qty_quote": "3", "liquidity_side": "maker"}
        recorder.order_filled(client_order_id=f"o{number}", fee_asset="B", fee_amount="0.01", **fill)
    recorder.flush()
    fills = f"SELECT max(fills) AS n FROM tradetape.risk WHERE instance_name = '{bot}'"
    eventually(lambda: stack.sql(fills) == [{"n": 6}], 60, "the figures after the last fill")

    rows = stored(stack, bot)
    assert [row["event_id"] for row in rows] == ids
    today, newest = rows[0]["raw_schema_id"], register["changed"][CREATED]["schema_id"]
    assert [row["raw_schema_id"] for row in rows] == [today, today, newest, today, newest, today]
    assert today != newest
    assert {(row["link"], row["findings"]) for row in rows} == {("root", 0)}
    assert [row["arrival_price"] for row in rows] == ["", "1.25", "1.49", "", "", "1.75"]
    payloads = [json.loads(row["payload"]) for row in rows]
    assert all({**ORDER, "client_order_id": f"o{n}"}.items() <= said.items() for n, said in enumerate(payloads, 1))
    assert (payloads[2]["decided_at"], payloads[2]["context"], payloads[4]["desk"]) == (moment, context, "fx")

    found = stack.rows("payload_key", key="arrival_price", instance_name=bot)
    assert [(row["event_id"], row["value"]) for row in found] == [(ids[1], "1.25"), (ids[2], "1.49"), (ids[5], "1.75")]
    (inner,) = stack.rows("payload_key", key="context.signal.strength", instance_name=bot)
    assert (inner["event_id"], inner["value"]) == (ids[2], "0.75")
    keys = {row["key"]: int(row["n"]) for row in stack.rows("payload_keys", instance_name=bot)}
    assert (keys["arrival_price"], keys["decided_at"], keys["desk"]) == (3, 1, 1)
    (position,) = stack.rows("positions", instance_name=bot)
    assert (position["net_base"], position["avg_cost"]) == ("12", "1.5")
    assert stack.sql(f"SELECT count() AS n FROM tradetape.quarantine WHERE instance_name = '{bot}'") == [{"n": 0}]

    for topic in (topics.AUDITED, topics.EVENTS):
        read = read_by_today(stack, topic, bot)
        assert list(read) == ids
        assert read[ids[2]]["arrival_price"] == Decimal("1.49")
        assert read[ids[2]]["decided_at"] == times.parse(moment)
        assert read[ids[2]]["context"] == {"signal": {"system": "S1", "strength": Decimal("0.75")}}
        assert read[ids[4]] == {**read[ids[0]], "client_order_id": "o5", "desk": "fx"}
    assert pids(stack) == before


def read_by_today(stack: Tradetape, topic: str, bot: str) -> dict[str, Any]:
    """The payloads of the orders of ``bot`` by event_id, as a consumer of this version reads them."""
    found = settings.load(stack.home)
    with Consumer(
        f"evolution-{uuid.uuid4().hex[:8]}",
        topic=topic,
        bootstrap_servers=found.bootstrap_servers,
        registry_url=found.registry_url,
        filter=lambda message: message.instance_name == bot and message.event_type == "order_created",
        until_end=True,
    ) as consumer:
        return {message.event_id: message.payload for message in consumer if message.ack()}


def test_a_breaking_change_is_refused_with_its_reason_and_nothing_is_registered(
    stack: Tradetape, bot: str, recorder: Recorder, tmp_path: Path
) -> None:
    before = pids(stack)
    there = {state["subject"]: state["versions"] for state in stack.ask("schemas", "list")}
    with running(tmp_path, BREAKING, stack.home, bot) as breaking:
        answers = breaking.schemas
        said = breaking.answer()
    for answer in answers.values():
        assert answer["code"] == 1
        assert "2 of" in answer["said"]
        assert "a breaking change is a new event_version" in answer["said"]
        problems = refused(answer)
        assert problems.keys() == {CREATED, FILLED}
        reason = "the registry refuses it under FULL_TRANSITIVE: in older records payload.side is string, expected long"
        assert f"version 1: {reason}" in problems[CREATED]
        assert "version 1: payload.fee_amount: decimal(38,18) becomes decimal(38,8)" in problems[FILLED]
    assert answers["check"]["changed"].keys() - {CREATED, FILLED}, "the compatible change beside them"
    assert "is not registered" in said["error"]
    assert "schemas register" in said["hint"]
    assert {state["subject"]: state["versions"] for state in stack.ask("schemas", "list")} == there

    event_id = order(recorder, client_order_id="after")
    eventually(lambda: [row["event_id"] for row in stored(stack, bot)] == [event_id], 60, "today's version goes on")
    assert pids(stack) == before

"""The bridge among records that anyone may have written: it believes what the processor accepts (S4-06, P-08)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from tests.folding import IDS
from tests.folding import encode as framed
from tests.processors.events import created, event
from tests.producers.test_bridge_orders import ORDER, TAKEN_IN

from tradetape.producers.bridge import service
from tradetape.producers.bridge.service import Bridge
from tradetape.schemas import codec
from tradetape.schemas.catalogue import event_types, output_schema
from tradetape.schemas.registry import UnknownSchemaId

pytestmark = pytest.mark.req("S4-06", "P-08")

START = TAKEN_IN // 1_000_000
ALERTS_ID, FOREIGN_ID = 1_000, 1_001
FOREIGN: dict[str, Any] = {"type": "record", "namespace": "other", "fields": [{"name": "x", "type": "long"}]}


class Topic:
    """Records of one topic, and the consumer that reads them."""

    def __init__(self) -> None:
        self.fresh: list[Any] = []
        self.ends = dict.fromkeys(range(2), 0)

    def append(self, value: bytes, key: str = "", partition: int = 0) -> None:
        offset, self.ends[partition] = self.ends[partition], self.ends[partition] + 1
        answers = {
            "error": None,
            "value": value,
            "key": key.encode(),
            "partition": partition,
            "offset": offset,
            "timestamp": (2, START * 1000),
        }
        self.fresh.append(SimpleNamespace(**{name: lambda answer=answer: answer for name, answer in answers.items()}))

    def consume(self, *_: Any) -> list[Any]:
        taken, self.fresh = self.fresh, []
        return taken

    def offsets_for_times(self, places: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 0) for place in places]

    def committed(self, places: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        return places

    def get_watermark_offsets(self, place: TopicPartition, **_: Any) -> tuple[int, int]:
        return 0, self.ends[place.partition]

    def assign(self, *_: Any) -> None: ...

    def commit(self, **_: Any) -> None: ...


class Registered:
    """The registry of ``folding``'s ids, of alerts and of one foreign schema."""

    def __init__(self, name: str = "Heartbeat", changed: Mapping[int, Any] | None = None) -> None:
        self.schemas = {IDS[name]: known.schema for name, known in event_types().items()}
        self.schemas |= {ALERTS_ID: output_schema("alerts"), FOREIGN_ID: {**FOREIGN, "name": name}, **(changed or {})}

    def look_up(self, *_: Any) -> int:
        return ALERTS_ID

    def by_id(self, schema_id: int) -> Any:
        if schema_id not in self.schemas:
            raise UnknownSchemaId(str(schema_id))
        return self.schemas[schema_id]


class Bridged:
    """A bridge on topics in memory; ``now`` are seconds since 1970."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, registry: Registered) -> None:
        self.alerts, self.events, self.now = Topic(), Topic(), float(START)
        self.sent: list[Mapping[str, Any]] = []
        self.told: list[str] = []
        emitter = SimpleNamespace(
            look_up=lambda _: None,
            partitions=lambda: 2,
            flush=lambda: None,
            emit=lambda each, *_, **__: self.sent.append(each),
        )
        consumers = iter((self.alerts, self.events))
        monkeypatch.setattr(service, "Emitter", lambda *_, **__: emitter)
        monkeypatch.setattr(service, "Registry", lambda _: registry)
        monkeypatch.setattr(service, "Consumer", lambda _: next(consumers))
        notify = (lambda kill: self.told.append(kill["payload"]["kill_id"]),)
        self.bridge = Bridge("kafka", "registry", clock=lambda: self.now, notify=notify)

    def hear(self, *values: bytes, key: str = "", partition: int = 0) -> None:
        for value in values:
            self.events.append(value, key, partition)
        self.bridge.step()

    def wait(self, seconds: int) -> list[str]:
        """Look each second; returns who was written down as silent meanwhile."""
        before = len(self.sent)
        for _ in range(seconds):
            self.now += 1
            self.bridge.step()
        return [each["instance_name"] for each in self.sent[before:] if each["event_type"] == "instance_silent"]


@pytest.fixture
def bridged(monkeypatch: pytest.MonkeyPatch) -> Bridged:
    return Bridged(monkeypatch, Registered())


def limits_set(text: str) -> bytes:
    record = event("limits_set", {"limits": {}, "digest": "d", "set_by": "ann"}, instance_name="")
    record["payload"]["limits"] = text
    return framed(record)


def ordered(kill_id: str, **fields: Any) -> bytes:
    record = event("kill_ordered", {"kill_id": kill_id, "trigger": "operator"}, instance_name="")
    record["payload"] |= fields.pop("payload", {})
    return framed(record | fields)


def foreign() -> bytes:
    return codec.Encoder({**FOREIGN, "name": "x"}, FOREIGN_ID).encode({"x": 1})


def alert(code: str = "kill_switch", detail: Any = ORDER, **fields: Any) -> bytes:
    texts = {field["name"]: "x" for field in output_schema("alerts")["fields"] if field["type"] == "string"}
    numbers = dict.fromkeys(("raw_partition", "raw_offset", "derived_seq"), 0)
    times = {"ts_utc": TAKEN_IN, "ingest_ts_utc": TAKEN_IN}
    said = {"code": code, "detail": detail if isinstance(detail, str) else json.dumps(detail)}
    return codec.Encoder(output_schema("alerts"), ALERTS_ID).encode({**texts, **numbers, **times, **said, **fields})


@pytest.mark.parametrize(
    "text",
    ["not json", "[1]", "null", "[" * 100_000, '{"silent_after_seconds":-5}'],
    ids=["no JSON", "a list", "null", "deep", "negative"],
)
def test_limits_that_are_none_leave_the_old_ones(bridged: Bridged, text: str) -> None:
    bridged.hear(framed(created("a")), key="bot1", partition=1)
    bridged.hear(limits_set('{"silent_after_seconds":20}'))
    bridged.hear(limits_set(text))
    assert bridged.wait(20) == []
    assert bridged.wait(1) == ["bot1"]


@pytest.mark.parametrize("name", ["Heartbeat", "KillReset", "KillOrdered", "InstanceSilent", "Whatever"])
@pytest.mark.parametrize("namespace", ["other", "tradetape.v1"])
def test_records_of_others_are_nobodys_word(monkeypatch: pytest.MonkeyPatch, name: str, namespace: str) -> None:
    schema = {**FOREIGN, "name": name, "namespace": namespace}
    bridged = Bridged(monkeypatch, Registered(changed={FOREIGN_ID: schema}))
    bridged.hear(limits_set('{"silent_after_seconds":20}'))
    bridged.hear(foreign(), b"no avro", codec.HEADER.pack(0, 77), b"", key="bot1")
    bridged.alerts.append(foreign())
    assert bridged.wait(60) == []
    assert not bridged.told
    assert not bridged.sent


def test_what_the_processor_rejects_orders_nothing(bridged: Bridged) -> None:
    bridged.hear(ordered("late", ts_utc=9 * 10**18), ordered("odd", payload={"trigger": "foo"}), ordered("k1"))
    assert bridged.told == ["k1"]
    bad = event("heartbeat", {"service": "execution"}) | {"environment": "prod"}
    bridged.hear(limits_set('{"silent_after_seconds":20}'))
    bridged.hear(framed(bad), key="bot1")
    assert bridged.wait(200) == []


@pytest.mark.parametrize(
    "poison",
    [alert(detail="not json"), alert(detail=[1]), alert(detail={}), alert(ingest_ts_utc=9 * 10**18), foreign(), b""],
    ids=["no JSON", "a list", "no order", "no time", "of another schema", "nothing"],
)
def test_an_alert_that_is_none_does_not_hold_up_the_next(bridged: Bridged, poison: bytes) -> None:
    for value in (poison, alert("overfill"), alert()):
        bridged.alerts.append(value)
    bridged.bridge.step()
    assert [(each["event_type"], each["payload"]["kill_id"]) for each in bridged.sent] == [
        ("kill_ordered", ORDER["kill_id"])
    ] * 2


def test_an_older_writers_record_has_what_it_could_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    known = event_types()["kill_ordered"].schema
    older = without(known, {"value", "threshold", "rule"})
    bridged = Bridged(monkeypatch, Registered(changed={FOREIGN_ID: older}))
    record = event("kill_ordered", {"kill_id": "k1", "trigger": "operator"}, instance_name="")
    bridged.hear(codec.Encoder(older, FOREIGN_ID).encode(record))
    assert bridged.told == ["k1"]


def without(schema: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``schema`` as it was before its payload had the fields ``names``."""
    copied: dict[str, Any] = json.loads(json.dumps(schema))
    (payload,) = (field["type"] for field in copied["fields"] if field["name"] == "payload")
    payload["fields"] = [field for field in payload["fields"] if field["name"] not in set(names)]
    return copied

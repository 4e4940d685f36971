"""The emitter against a stand-in for librdkafka: counting, back-pressure, failures that reach the caller."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from tests.producers.support import Listed

from tradetape.producers import emitter as emitting
from tradetape.producers import unmapped
from tradetape.producers.emitter import Emitter, EventTooLarge
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.errors import TradetapeError

ORDER = {"client_order_id": "1", "side": "buy", "order_type": "market", "amount_base": Decimal(1), "is_live": True}


class FakeProducer:
    """Keeps what is produced until ``poll`` or ``flush`` delivers it; takes ``room`` messages at most."""

    topics: dict[str, Any] = {topics.EVENTS: SimpleNamespace(partitions={0: object()})}  # noqa: RUF012

    def __init__(self, config: dict[str, Any], logger: Any = None) -> None:
        self.config = config
        self.waiting: list[tuple[bytes, bytes, Callable[[Any, Any], None]]] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.room = 1000
        self.error: str | None = None
        self.stuck = False

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics=self.topics, cluster_id="cluster-1")

    def produce(
        self, topic: str, *, value: bytes, key: bytes, on_delivery: Callable[[Any, Any], None], partition: int = -1
    ) -> None:
        assert topic == topics.EVENTS
        if len(self.waiting) >= self.room:
            raise BufferError
        self.waiting.append((key, value, on_delivery))

    def poll(self, timeout: float = 0) -> None:
        if timeout:
            self.deliver()

    def flush(self, timeout: float = 0) -> int:
        self.deliver()
        return len(self.waiting)

    def deliver(self) -> None:
        while self.waiting and not self.stuck:
            key, value, on_delivery = self.waiting.pop(0)
            self.sent.append((key, value))
            on_delivery(self.error, SimpleNamespace(key=lambda key=key: key))

    def __len__(self) -> int:
        return len(self.waiting)


class FakeRegistry:
    ids = {event_type.record: number for number, event_type in enumerate(event_types().values(), 1)}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[list[str]] = []

    def look_up_all(self, topic: str, schemas: list[dict[str, Any]]) -> list[int]:
        assert topic == topics.EVENTS
        records = [f"{schema['namespace']}.{schema['name']}" for schema in schemas]
        self.asked.append(records)
        missing = [record for record in records if record not in self.ids]
        if missing:
            raise TradetapeError(f"{missing[0]} is not registered")
        return [self.ids[record] for record in records]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitting, "Producer", FakeProducer)
    monkeypatch.setattr(emitting, "Registry", FakeRegistry)


def made(**more: Any) -> tuple[Emitter, FakeProducer]:
    emitter = Emitter("broker:9092", "http://registry", **more)
    producer = emitter._producer
    assert isinstance(producer, FakeProducer)
    return emitter, producer


def asked(emitter: Emitter) -> list[list[str]]:
    """What it looked up, one entry a time."""
    registry = emitter._registry
    assert isinstance(registry, FakeRegistry)
    return registry.asked


def event(text: str = "x") -> dict[str, Any]:
    return unmapped.unmapped(format="f", error=text, native=b"n", fields={"instance_name": "bot1"})


@pytest.mark.req("P-01")
def test_events_go_out_framed_under_their_instance() -> None:
    emitter, producer = made()
    with emitter:
        emitter.emit(event(), "unmapped_record")
    ((key, value),) = producer.sent
    assert key == b"bot1"
    assert codec.schema_id_of(value) == FakeRegistry.ids["tradetape.v1.UnmappedRecord"]
    assert (emitter.emitted, emitter.acknowledged, emitter.failed) == (1, 1, 0)
    assert emitter.cluster_id() == "cluster-1"


@pytest.mark.req("P-01")
def test_the_producer_is_idempotent_and_partitions_like_java() -> None:
    config = made()[1].config
    assert config["enable.idempotence"] is True
    assert config["acks"] == "all"
    assert config["partitioner"] == "murmur2_random"


def test_schemas_are_looked_up_ahead_or_with_the_first_event_of_their_type() -> None:
    ahead, later = made()[0], made(ahead=False)[0]
    order = event() | {"event_type": "order_created", "payload": ORDER}
    for emitter in (ahead, later):
        for _ in range(2):
            emitter.emit(event(), "unmapped_record")
            emitter.emit(order, "order_created")
    assert asked(ahead) == [list(FakeRegistry.ids)]
    assert asked(later) == [["tradetape.v1.UnmappedRecord"], ["tradetape.v1.OrderCreated"]]


@pytest.mark.req("P-01")
def test_a_schema_that_is_not_registered_is_told_before_the_first_event_or_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = FakeRegistry.ids
    monkeypatch.setattr(FakeRegistry, "ids", {"tradetape.v1.UnmappedRecord": 1})
    with pytest.raises(TradetapeError, match="is not registered"):
        made()
    emitter, producer = made(ahead=False)
    order = event() | {"event_type": "order_created", "payload": ORDER}
    with pytest.raises(TradetapeError, match="OrderCreated is not registered"):
        emitter.emit(order, "order_created")
    assert (emitter.emitted, producer.waiting) == (0, [])
    monkeypatch.setattr(FakeRegistry, "ids", known)
    emitter.emit(order, "order_created")
    assert emitter.emitted == 1
    monkeypatch.setattr(FakeRegistry, "ids", {})
    with pytest.raises(TradetapeError, match="UnmappedRecord is not registered"):
        made(ahead=False)


def test_failed_deliveries_reach_the_caller() -> None:
    emitter, producer = made()
    producer.error = "Broker: Not enough in-sync replicas"
    emitter.emit(event(), "unmapped_record")
    producer.deliver()
    with pytest.raises(TradetapeError, match="1 events not delivered, the first: Broker: Not enough"):
        emitter.emit(event(), "unmapped_record")
    emitter.emit(event(), "unmapped_record")
    with pytest.raises(TradetapeError, match="2 events not delivered"):
        emitter.flush()
    assert emitter.acknowledged == 0


def test_flush_says_what_kafka_has_not_acknowledged() -> None:
    emitter, producer = made()
    producer.stuck = True
    emitter.emit(event(), "unmapped_record")
    with pytest.raises(TradetapeError, match="1 events not acknowledged"):
        emitter.flush(0.01)


def test_a_full_queue_waits_or_raises() -> None:
    emitter, producer = made(block=True)
    producer.room = 1
    for _ in range(3):
        emitter.emit(event(), "unmapped_record")
    emitter.flush()
    assert emitter.acknowledged == 3
    emitter, producer = made(block=False)
    producer.room = 1
    emitter.emit(event(), "unmapped_record")
    with pytest.raises(TradetapeError, match="wait for Kafka"):
        emitter.emit(event(), "unmapped_record")
    assert emitter.emitted == 1


def test_delivery_reports_go_to_the_callback() -> None:
    seen: list[Any] = []
    emitter, _ = made(on_delivery=lambda error, message: seen.append((error, message.key())))
    emitter.emit(event(), "unmapped_record")
    emitter.flush()
    assert seen == [(None, b"bot1")]


def test_an_event_larger_than_the_topic_takes() -> None:
    emitter, producer = made()
    large = event() | {"native": b"n" * topics.MAX_EVENT_BYTES}
    with pytest.raises(EventTooLarge):
        emitter.emit(large, "unmapped_record")
    assert producer.waiting == []
    cut = unmapped.unmapped(format="f", error="e" * 9000, native=b"n" * 2**25, fields={"producer": "p" * 1000})
    emitter.emit(cut, "unmapped_record")


def test_leaving_on_an_error_does_not_hide_it() -> None:
    emitter, producer = made()
    producer.stuck = True
    with pytest.raises(RuntimeError, match="mine"), emitter:
        emitter.emit(event(), "unmapped_record")
        raise RuntimeError("mine")


def test_a_topic_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProducer, "topics", {})
    with pytest.raises(TradetapeError, match=r"has no topic tradetape\.events; create the topics with `tradetape up`"):
        made()


def test_a_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(TradetapeError, match=r"Kafka at 127\.0\.0\.1:1 does not take events .*tradetape up"):
        Emitter("127.0.0.1:1", "http://127.0.0.1:1", timeout=0.3)


def test_the_fake_of_the_other_tests_is_an_emitter() -> None:
    emitter: emitting.Emits = Listed()
    assert emitter.cluster_id() == "test"

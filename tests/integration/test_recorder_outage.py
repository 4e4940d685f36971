"""A bot records through an outage of Kafka and the registry, on the real servers (P-07)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.forks import Forks
from tests.integration.conftest import Tradetape
from tests.support import ports_apart

from tradetape.infra import settings
from tradetape.producers.recorder import Recorder
from tradetape.producers.spool import PatientEmitter, Spool
from tradetape.schemas.codec import Decoder, schema_id_of
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry, register_all
from tradetape.schemas.topics import EVENTS

pytestmark = [pytest.mark.integration, pytest.mark.req("P-06", "P-07")]

SERVERS = "kafka,registry"
BEFORE, DURING = 500, 5_000
SECONDS = 60.0


@pytest.fixture
def servers(tmp_path: Path, forks: Forks) -> Iterator[Tradetape]:
    """Kafka and a registry that this test may stop, with the schemas registered."""
    tradetape = Tradetape(tmp_path / "home", forks)
    tradetape.run("up", "--only", SERVERS, *ports_apart("kafka", "registry"))
    try:
        register_all(Registry(addresses(tradetape)["registry_url"]))
        yield tradetape
    finally:
        tradetape.run("down")


def addresses(tradetape: Tradetape) -> dict[str, str]:
    found = settings.load(tradetape.home, require=["bootstrap_servers", "registry_url"])
    return {"bootstrap_servers": found.bootstrap_servers, "registry_url": found.registry_url}


def received(bootstrap_servers: str, registry_url: str) -> dict[str, list[int]]:
    """The source positions of every record on the raw topic, by bot, in Kafka's order."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "outage", "enable.auto.commit": False})
    registry, decoders = Registry(registry_url), dict[int, Decoder]()
    found: dict[str, list[int]] = {}
    partitions = consumer.list_topics(EVENTS, timeout=SECONDS).topics[EVENTS].partitions
    ends = {p: consumer.get_watermark_offsets(TopicPartition(EVENTS, p), timeout=SECONDS)[1] for p in partitions}
    consumer.assign([TopicPartition(EVENTS, p, 0) for p in ends])
    left = sum(ends.values())
    while left:
        messages = consumer.consume(min(left, 10_000), timeout=SECONDS)
        assert messages, f"{left} records do not come"
        for message in messages:
            value = message.value()
            schema_id = schema_id_of(value)
            if schema_id not in decoders:
                decoders[schema_id] = Decoder(registry.by_id(schema_id))
            event = decoders[schema_id].decode(value)
            found.setdefault(event["instance_name"], []).append(event["source_position"])
        left -= len(messages)
    consumer.close()
    return found


def test_bots_record_through_an_outage_and_everything_arrives_once_in_order(
    servers: Tradetape, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = addresses(servers)
    spool = Spool(tmp_path / "spool")
    spool.start(partial(PatientEmitter, **where))
    bot = Recorder(instance_name="bot-1", producer="p", connector_name="kucoin", trading_pair="BTC-USDT", spool=spool)

    def record(count: int) -> list[float]:
        took = []
        for number in range(count):
            began = perf_counter()
            bot.order_created(
                client_order_id=f"c{number}", side="buy", order_type="market", amount_base="0.1", is_live=True
            )
            took.append(perf_counter() - began)
        return sorted(took)

    record(BEFORE)
    bot.flush(SECONDS)
    record(BEFORE)  # some of these are on their way when the broker goes
    servers.run("down")
    with caplog.at_level(logging.WARNING, "tradetape.spool"):
        took = record(DURING)
        late = Recorder(instance_name="bot-2", producer="p", spool=tmp_path / "late", **where)
        for _ in range(DURING // 10):
            late.state_snapshot(state="running")
        with pytest.raises(TradetapeError, match="kept and sent later"):
            bot.flush(3.0)
    print(*(f"{name} {took[int(q * DURING)] * 1e6:.0f} µs" for name, q in (("p50", 0.5), ("p99.9", 0.999))))
    assert spool.health().accepted == 2 * BEFORE + DURING
    assert spool.health().refused == 0
    assert "waits: Kafka at" in caplog.text
    servers.run("up", "--only", SERVERS)
    bot.flush(SECONDS)
    late.flush(SECONDS)
    assert (spool.close(), late.close()) == (0, None)
    assert received(**where) == {
        "bot-1": list(range(1, 2 * BEFORE + DURING + 1)),
        "bot-2": list(range(1, DURING // 10 + 1)),
    }

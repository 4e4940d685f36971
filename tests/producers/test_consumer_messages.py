"""Records of any topic as messages, and dead letters as records (S4-05)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.folding import ENCODERS, IDS, Partition
from tests.schemas.examples import cases, name_of

from tradetape.producers.consumer.dead_letters import MAX_REASON, DeadLetter, letter_of, parse
from tradetape.producers.consumer.deliveries import Exhausted, Record
from tradetape.producers.consumer.messages import EventReader, Message, Unreadable
from tradetape.producers.consumer.redrive import DeadLetterReader
from tradetape.schemas import envelope_json, times, topics
from tradetape.schemas.catalogue import event_types, output_schema
from tradetape.schemas.codec import HEADER, Encoder
from tradetape.schemas.registry import Registry, UnknownSchemaId

pytestmark = [pytest.mark.req("S4-05")]

AUDITED_ID, RISK_ID, FOREIGN_ID = 9001, 9002, 9003
FOREIGN = {"type": "record", "name": "Other", "namespace": "elsewhere", "fields": []}
AUDITED = Encoder(output_schema("audited"), AUDITED_ID)


class Schemas(Registry):
    """The schemas of this code without a server; counts what is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._by_id = {IDS[name]: event_type.schema for name, event_type in event_types().items()}
        self._by_id |= {
            AUDITED_ID: output_schema("audited"),
            RISK_ID: output_schema("risk"),
            FOREIGN_ID: FOREIGN,
        }

    def by_id(self, schema_id: int) -> dict[str, Any]:
        self.asked.append(schema_id)
        if schema_id not in self._by_id:
            raise UnknownSchemaId(f"schema id {schema_id}")
        return self._by_id[schema_id]


def event(document: dict[str, Any]) -> dict[str, Any]:
    reading = envelope_json.read(json.dumps(document, default=str).encode(), source_id="test")
    assert reading.ok, reading.violations
    return reading.event


def both(document: dict[str, Any]) -> tuple[Message, Message]:
    """One event as read from ``tradetape.events`` and from ``tradetape.audited``."""
    typed = event(document)
    raw = ENCODERS[typed["event_type"]].encode(typed)
    (output,) = Partition().take([raw])
    reader = EventReader(Schemas())
    read = [
        reader.read(Record(topic, 0, 0, b"bot", value))
        for topic, value in ((topics.EVENTS, raw), (topics.AUDITED, AUDITED.encode(output.audited)))
    ]
    assert read[0] is not None
    assert read[1] is not None
    return read[0], read[1]


def evaluated(**changes: Any) -> dict[str, Any]:
    return {
        "event_id": "0b7f0f0e-7a60-4c7e-9a39-7a4a4d9be001",
        "event_type": "risk_evaluated",
        "event_version": "v1",
        "ts_utc": "2026-11-20T10:00:00Z",
        "producer": "risk_kernel",
        "instance_name": "bot1",
        "controller_id": "",
        "connector_name": "binance",
        "trading_pair": "BTC-USDT",
        "correlation_id": "chain-1",
        "payload": {
            "decision": "approved",
            "modifications": {"size": 0.5},
            "position_allowed": {"symbol": "BTCUSDT", "max_size": "0.250", "max_risk_usd": 100},
            "score": 0.75,
        },
        **changes,
    }


EMITTED = [case for case in cases("valid") if not event_types()[case[0]].control]


@pytest.mark.parametrize(("name", "example"), EMITTED, ids=name_of)
def test_an_event_is_the_same_from_both_topics(name: str, example: dict[str, Any]) -> None:
    raw, audited = both(example["event"])
    assert raw.payload == audited.payload
    assert (raw.event_id, raw.ts_utc, raw.instance_name) == (audited.event_id, audited.ts_utc, audited.instance_name)
    assert (raw.event_type, raw.disposition, audited.disposition) == (name, "", "accepted")


def test_numbers_are_exact_times_are_microseconds_and_documents_are_parsed() -> None:
    for message in both(evaluated()):
        assert message.payload == {
            "decision": "approved",
            "modifications": {"size": "0.5"},
            "position_allowed": {"symbol": "BTCUSDT", "max_size": Decimal("0.25"), "max_risk_usd": Decimal(100)},
            "score": "0.75",
        }
        assert isinstance(message.payload["position_allowed"]["max_risk_usd"], Decimal)
        assert message.ts_utc == times.parse("2026-11-20T10:00:00Z")
        assert (message.correlation_id, message.causation_id) == ("chain-1", "")


def test_a_message_that_was_not_handed_out_cannot_be_acknowledged() -> None:
    message, _ = both(evaluated())
    assert not message.ack()
    assert not message.fail("why")


def test_each_schema_is_asked_for_once() -> None:
    schemas = Schemas()
    reader = EventReader(schemas)
    value = ENCODERS["risk_evaluated"].encode(event(evaluated()))
    for offset in range(3):
        assert reader.read(Record(topics.EVENTS, 0, offset, None, value)) is not None
    assert schemas.asked == [IDS["risk_evaluated"]]


def test_a_filter_and_the_dispositions_say_what_is_passed_over() -> None:
    value = ENCODERS["risk_evaluated"].encode(event(evaluated()))
    verdicts = [AUDITED.encode(output.audited) for output in Partition().take([value, value, b"no avro"])]
    records = [Record(topics.AUDITED, 0, offset, None, value) for offset, value in enumerate(verdicts)]

    def kept(reader: EventReader) -> list[str]:
        return [message.disposition for record in records if (message := reader.read(record)) is not None]

    assert kept(EventReader(Schemas())) == ["accepted"]
    assert kept(EventReader(Schemas(), dispositions=("duplicate", "rejected"))) == ["duplicate", "rejected"]
    assert kept(EventReader(Schemas(), filter=lambda m: m.payload["decision"] == "rejected")) == []
    assert kept(EventReader(Schemas(), filter=lambda m: m.payload["decision"] == "approved")) == ["accepted"]


def test_a_figure_is_its_own_payload() -> None:
    created = {"client_order_id": "o-1", "side": "buy", "order_type": "limit", "price": 2, "amount_base": 1}
    typed = event(evaluated(event_type="order_created", payload={**created, "is_live": True}))
    (output,) = Partition().take([ENCODERS["order_created"].encode(typed)])
    assert output.risk is not None
    value = Encoder(output_schema("risk"), RISK_ID).encode(output.risk)
    message = EventReader(Schemas()).read(Record(topics.RISK, 0, 0, b"0:0:1", value))
    assert message is not None
    assert (message.payload["open_orders"], message.event_type) == (1, "order_created")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "undecodable"),
        (b"{}", "undecodable"),
        (HEADER.pack(0, 424_242) + b"x", "no schema to read it by"),
        (HEADER.pack(0, AUDITED_ID) + b"\xff\xff", "undecodable"),
        (HEADER.pack(0, FOREIGN_ID), "no record of Tradetape"),
    ],
)
def test_what_is_no_event_says_so(value: bytes | None, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        EventReader(Schemas()).read(Record(topics.EVENTS, 0, 0, None, value))


@pytest.mark.parametrize("text", ["{", "[" * 200_000, '{"a": 1e99999999999999999999}'])
def test_a_payload_that_is_no_json_is_unreadable(text: str) -> None:
    typed = event(evaluated())
    (output,) = Partition().take([ENCODERS["risk_evaluated"].encode(typed)])
    value = AUDITED.encode(output.audited | {"payload": text})
    with pytest.raises(Unreadable, match="payload"):
        EventReader(Schemas()).read(Record(topics.AUDITED, 0, 0, None, value))


ORIGINAL = Record(topics.AUDITED, 3, 77, b"3:77:0", b"bytes", (("trace", b"t-1"),))


def stored(letter: DeadLetter, offset: int = 0) -> Record:
    """``letter`` as it comes back from Kafka."""
    return Record(topics.DEAD_LETTERS, 3, offset, letter.record.key, letter.record.value, tuple(letter.headers()))


@pytest.mark.req("S4-04")
def test_a_dead_letter_keeps_reason_attempts_and_the_original() -> None:
    letter = letter_of(Exhausted(1, ORIGINAL, 4, "ValueError: no ‘such’ \ud800 account"), "execution")
    back = parse(stored(letter))
    assert back == DeadLetter(ORIGINAL, "execution", "ValueError: no ‘such’ ? account", 4)


@pytest.mark.req("S4-04")
def test_a_re_driven_letter_that_fails_keeps_its_origin_and_adds_its_attempts() -> None:
    first = letter_of(Exhausted(1, ORIGINAL, 4, "first"), "execution")
    second = letter_of(Exhausted(2, stored(first, 9), 4, "x" * 5000), "execution.redrive")
    back = parse(stored(second, 10))
    assert back == DeadLetter(ORIGINAL, "execution", "x" * MAX_REASON, 8)


def test_what_is_no_dead_letter_is_none() -> None:
    assert parse(ORIGINAL) is None
    assert parse(Record(topics.DEAD_LETTERS, 0, 0, None, b"x")) is None
    headers = DeadLetter(ORIGINAL, "execution", "why", 4).headers()
    broken = tuple((name, b"none" if name.endswith("offset") else value) for name, value in headers)
    assert parse(Record(topics.DEAD_LETTERS, 0, 0, None, b"x", broken)) is None


@pytest.mark.req("S4-04")
def test_a_re_drive_reads_its_own_groups_letters_as_the_messages_that_they_were() -> None:
    value = ENCODERS["risk_evaluated"].encode(event(evaluated()))
    letter = DeadLetter(Record(topics.EVENTS, 2, 31, b"bot1", value), "execution", "why", 4)
    message = DeadLetterReader("execution", Schemas()).read(stored(letter))
    assert message is not None
    assert (message.topic, message.partition, message.offset, message.key) == (topics.EVENTS, 2, 31, b"bot1")
    assert message.payload["decision"] == "approved"
    assert DeadLetterReader("another", Schemas()).read(stored(letter)) is None
    assert DeadLetterReader("another", Schemas()).read(Record(topics.DEAD_LETTERS, 0, 0, None, b"x")) is None

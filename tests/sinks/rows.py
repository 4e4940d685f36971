"""Records of the processor's output topics, made by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import fastavro

from tradetape.schemas import topics
from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import HEADER, Encoder, strip_times
from tradetape.sinks import intents
from tradetape.sinks.batch import STREAMS, Record
from tradetape.sinks.landing import Batch, Landed, Landing, Reached
from tradetape.sinks.ledger import Identity
from tradetape.sinks.store import Store

START = 1_700_000_000_000_000
SCHEMA_IDS = {"audited": 1, "risk": 2, "alerts": 3}
_ENCODERS = {name: Encoder(output_schema(name), number) for name, number in SCHEMA_IDS.items()}


def schema_by_id(schema_id: int) -> dict[str, Any]:
    """The look-up of a registry that has the three schemas."""
    return output_schema(next(name for name, number in SCHEMA_IDS.items() if number == schema_id))


def land(
    store: Store,
    records: Sequence[Record],
    reached: Reached | None = None,
    *,
    topic: str = topics.AUDITED,
    partition: int = 0,
) -> Landed:
    """Land ``records`` of ``topic`` as a sink lands a batch of their partition."""
    intent = intents.together(topic, {partition: intents.of(records)})[partition]
    batch = Batch(partition, records, intent, reached or Reached())
    return Landing(store, schema_by_id).land(STREAMS[topic], [batch])[0]


def empty(topic: str) -> dict[str, Any]:
    """A record of ``topic`` in which every field has its emptiest value."""
    row: dict[str, Any] = {}
    for field in output_schema(topic)["fields"]:
        kind = field["type"]
        if isinstance(kind, list):
            row[field["name"]] = None
        elif isinstance(kind, dict):
            empties = {"array": [], "map": {}, "bytes": Decimal(0), "long": 0}
            row[field["name"]] = empties[kind["type"]]
        else:
            row[field["name"]] = {"string": "", "bytes": b"", "int": 0, "long": 0}[kind]
    row["_end"] = "tt"
    return row


def audited(offset: int, partition: int = 0, **fields: Any) -> dict[str, Any]:
    """The verdict on an event of bot1 at ``offset``; ``payload`` may be given as a dict."""
    event_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{partition}:{offset}"))
    row = empty("audited") | {
        "disposition": "accepted",
        "raw_partition": partition,
        "raw_offset": offset,
        "link": "root",
        "core_version": "test",
        "ingest_ts_utc": START + offset * 1000 + 500,
        "event_id": event_id,
        "event_type": "order_created",
        "event_version": "v1",
        "ts_utc": START + offset * 1000,
        "producer": "test",
        "instance_name": "bot1",
        "connector_name": "kucoin",
        "trading_pair": "ONE-USDT",
        "correlation_id": event_id,
        "source_id": "source-1",
        "environment": "paper",
        "account": "main",
        "ingest_source": "test",
        "payload": "{}",
        "raw": b"\x00\x00\x00\x00\x07raw",
        "raw_schema_id": 7,
        **fields,
    }
    if isinstance(row["payload"], dict):
        row["payload"] = json.dumps(row["payload"])
    return row


def risk(offset: int, partition: int = 0, **fields: Any) -> dict[str, Any]:
    """Figures after the event at ``offset``."""
    return empty("risk") | {
        "raw_partition": partition,
        "raw_offset": offset,
        "derived_seq": 1,
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{partition}:{offset}")),
        "event_type": "order_filled",
        "ts_utc": START + offset * 1000,
        "ingest_ts_utc": START + offset * 1000,
        "environment": "paper",
        "account": "main",
        "instance_name": "bot1",
        "connector_name": "kucoin",
        "trading_pair": "ONE-USDT",
        "fills": 1,
        **fields,
    }


def finding(code: str, status: str, subject: str, severity: str = "error", detail: str = "{}") -> dict[str, str]:
    return {"code": code, "severity": severity, "status": status, "subject": subject, "detail": detail}


def encode(topic: str, row: dict[str, Any]) -> bytes:
    """``row`` as a Kafka value."""
    return _ENCODERS[topic].encode(row)


def body(topic: str, row: dict[str, Any]) -> bytes:
    return encode(topic, row)[HEADER.size :]


def record(topic: str, row: dict[str, Any]) -> Record:
    """``row`` as the sink reads it."""
    identity = Identity(row["raw_partition"], row["raw_offset"], row["derived_seq"])
    return Record(identity, encode(topic, row), START)


def reading_schema(topic: str) -> Any:
    """The schema with times as plain numbers, for fastavro."""
    return fastavro.parse_schema(strip_times(output_schema(topic)))

"""What is sent for an output: each record with its topic and key (G2). The worker and replay both send by this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from tradetape.processors.core import Output
from tradetape.schemas import topics


class Emitted(NamedTuple):
    """One record of an output topic; ``key`` is its identity ``raw_partition:raw_offset:derived_seq``."""

    key: bytes
    topic: str
    record: dict[str, Any]


def emitted(output: Output) -> Iterator[Emitted]:
    """The records of ``output``, in the order of derived_seq."""
    yield _emitted(topics.AUDITED, output.audited)
    for record in output.derived:
        yield _emitted(topics.AUDITED, record)
    if output.risk is not None:
        yield _emitted(topics.RISK, output.risk)
    for delta in output.deltas:
        yield _emitted(topics.PORTFOLIO, delta)
    for alert in output.alerts:
        yield _emitted(topics.ALERTS, alert)


def key_of(record: Mapping[str, Any]) -> bytes:
    """The identity of an output record."""
    return b"%d:%d:%d" % (record["raw_partition"], record["raw_offset"], record["derived_seq"])


def place_of(output: Emitted, partition: int, partitions: int) -> tuple[str, int]:
    """Topic and partition of ``output``: the event's own, for a delta that of its portfolio."""
    if output.topic != topics.PORTFOLIO:
        return output.topic, partition
    name = f"{output.record['environment']}/{output.record['portfolio']}"
    return output.topic, crc32(name.encode()) % partitions


def _emitted(topic: str, record: dict[str, Any]) -> Emitted:
    return Emitted(key_of(record), topic, record)

"""What the sink knows about its topics: where a record belongs, and what names a batch (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tradetape.schemas import topics
from tradetape.schemas.codec import HEADER
from tradetape.sinks.ledger import Identity
from tradetape.sinks.tables import ALERTS, EVENTS, PORTFOLIOS, QUARANTINE, RISK, Table

MAX_ROWS = 50_000
MAX_BYTES = 32 * 1024 * 1024
"""Records of one topic partition that are landed together; a larger one is landed alone."""

UNSTORABLE = "unstorable"
"""Reason code of a record that ClickHouse refused; derived_seq 0 in quarantine is an event, above it is an output."""

# An audited body begins with the string `disposition`: behind the framing and the length its first letter.
_DISPOSITION = HEADER.size + 1
_BY_LETTER: Mapping[int, Table] = {ord("a"): EVENTS, ord("d"): QUARANTINE, ord("r"): QUARANTINE}


@dataclass(frozen=True, slots=True)
class Stream:
    """One topic that the sink reads.

    ``contiguous``: raw offsets at derived_seq 0 follow each other, and the topic's partition is the raw partition.
    ``sources`` are the tables in which its rows lie, each with the condition on the rows that are of this topic.
    """

    topic: str
    contiguous: bool
    table: Table | None
    sources: Sequence[tuple[Table, str]]

    def route(self, value: bytes) -> Table | None:
        """The table for ``value``, undecoded; None where its bytes say nothing."""
        if self.table is not None:
            return self.table
        return _BY_LETTER.get(value[_DISPOSITION]) if len(value) > _DISPOSITION else None


_OF_AUDITED = f"(derived_seq = 0 OR startsWith(reason_detail, '{topics.AUDITED}: '))"
"""Rows of the quarantine that are of the audited topic: what was judged, and refused records that it caused."""

STREAMS: Mapping[str, Stream] = {
    stream.topic: stream
    for stream in (
        Stream(topics.AUDITED, True, None, ((EVENTS, "1"), (QUARANTINE, _OF_AUDITED))),
        Stream(topics.RISK, False, RISK, ((RISK, "1"), (QUARANTINE, "derived_seq > 0"))),
        Stream(topics.ALERTS, False, ALERTS, ((ALERTS, "1"), (QUARANTINE, "derived_seq > 0"))),
        Stream(topics.PORTFOLIOS, False, PORTFOLIOS, ((PORTFOLIOS, "1"), (QUARANTINE, "derived_seq > 0"))),
    )
}


class Record(NamedTuple):
    """One Kafka record: ``value`` with the registry's framing, ``timestamp`` its time in UTC microseconds.

    ``offset`` is its place in its topic partition, -1 where it was not read from there.
    """

    identity: Identity
    value: bytes
    timestamp: int
    offset: int = -1

    @property
    def body(self) -> bytes:
        return self.value[HEADER.size :]


def token(table: Table, topic: str, records: Sequence[Record]) -> str:
    """The deduplication token of ``records``: the same rows again give the same token, other rows another."""
    digest = hashlib.sha256(f"{table.name}\n{topic}\n{records[0].identity}\n{records[-1].identity}\n".encode())
    for record in records:
        digest.update(len(record.value).to_bytes(4))
        digest.update(record.value)
    return digest.hexdigest()

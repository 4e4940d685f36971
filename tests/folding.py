"""Run the core over events without any server: the same functions that the worker calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tradetape.processors import core
from tradetape.processors.core import Output
from tradetape.processors.horizons import DEFAULT, Horizons
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState, apply
from tradetape.schemas import codec
from tradetape.schemas.catalogue import event_types

INGEST = 1_790_000_000_000_000
"""LogAppendTime of folded records, microseconds: 2026-09."""

IDS = {name: number for number, name in enumerate(event_types(), 1)}
SCHEMAS = {IDS[name]: WriterSchema(event_type.schema) for name, event_type in event_types().items()}
ENCODERS = {name: codec.Encoder(event_type.schema, IDS[name]) for name, event_type in event_types().items()}


def encode(event: dict[str, Any]) -> bytes:
    """``event`` as it stands on ``tradetape.events``."""
    return ENCODERS[event["event_type"]].encode(event)


class Partition:
    """One partition: takes values in, keeps state between batches, hands outputs back."""

    def __init__(self, number: int = 0, horizons: Horizons = DEFAULT) -> None:
        self.number = number
        self.horizons = horizons
        self.store: dict[bytes, bytes] = {}
        self.state = PartitionState(number, self.store, horizons)
        self.offset = 0
        self.now = INGEST

    def take(self, values: Iterable[bytes]) -> list[Output]:
        """Process ``values`` as one batch and commit it."""
        outputs = self.fold(values)
        self.commit()
        return outputs

    def fold(self, values: Iterable[bytes]) -> list[Output]:
        """Process ``values``, appended at ``now``, as part of a batch."""
        outputs = []
        for value in values:
            raw = RawRecord(self.number, self.offset, self.now, value)
            outputs.append(core.process(raw, self.state, SCHEMAS.get))
            self.state.progress.applied = self.offset
            self.offset += 1
        return outputs

    def commit(self) -> None:
        """Write the changes to the store, as the worker does after each batch."""
        apply(self.store, self.state.changes())
        self.state.committed()

    def restart(self) -> None:
        """Lose everything but what was committed."""
        self.state = PartitionState(self.number, self.store, self.horizons)


def fold(events: Iterable[dict[str, Any]]) -> list[Output]:
    """The outputs of ``events`` in one partition."""
    return Partition().take(encode(event) for event in events)


def open_findings(outputs: Iterable[Output]) -> dict[str, int]:
    """Subjects with an open finding, by code."""
    status: dict[tuple[str, str], str] = {}
    for output in outputs:
        for record in (output.audited, *output.derived):
            for found in record["findings"]:
                if found["status"] != "noted":
                    status[found["code"], found["subject"]] = found["status"]
    counts: dict[str, int] = {}
    for (code, _), last in status.items():
        if last == "opened":
            counts[code] = counts.get(code, 0) + 1
    return counts

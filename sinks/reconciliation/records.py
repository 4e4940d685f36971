"""An event in the terms in which it is reconciled: the native record mapped again, and the row that is stored. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tradetape.processors.outputs import payload_json
from tradetape.schemas import identity, times
from tradetape.schemas.catalogue import event_types

ABOUT_THE_SOURCE = ("source_ended", "system_gap")
"""Written by connectors about the source itself: no native record stands behind them."""

UNMAPPED = "unmapped_record"
_ENVELOPE = (
    *("event_type", "native_type", "native_event_id", "instance_name", "controller_id", "connector_name"),
    *("trading_pair", "environment", "account", "owner", "dry_run", "run_id", "sequence", "source"),
    *("aggregate_type", "aggregate_id", "aggregate_sequence", "outcome", "outcome_reason", "causation_id"),
)
COLUMNS = ("event_id", "source_id", "source_stream", "source_position", "correlation_id", *_ENVELOPE)
"""What ``of_row`` needs besides disposition, place, ts_utc (microseconds), payload and native (hex)."""

_NOT_COMPARED = frozenset({"payload.location"})
"""Where an unmapped record was read: the same file may be named otherwise."""


class Record(NamedTuple):
    """``fields`` are the compared ones as text, by name; those of the payload as ``payload.<key>``.

    ``disposition`` is empty on the native side. ``chain`` is the correlation id, empty where the record says none.
    ``place`` is where a person finds it.
    """

    source_id: str
    event_id: str
    stream: str
    position: int | None
    event_type: str
    native_type: str
    chain: str
    disposition: str
    place: str
    fields: Mapping[str, str]

    @property
    def digest(self) -> bytes:
        """Of ``fields``: equal where all of them are."""
        return blake2b(json.dumps(sorted(self.fields.items())).encode(), digest_size=16).digest()


def of_event(event: Mapping[str, Any]) -> Record:
    """An event as an adapter makes it."""
    event_type = event_types()[event["event_type"]]
    native = (event["native"] or b"").hex() if event_type.name == UNMAPPED else ""
    stream, position = event["source_stream"] or "", event["source_position"]
    where = str(position) if position is not None else event["native_event_id"] or event["event_id"]
    return _record(
        event,
        ts_utc=event["ts_utc"],
        payload=payload_json(event, event_type),
        native=native,
        disposition="",
        place=f"{stream} {where}".strip(),
    )


def of_row(row: Mapping[str, Any]) -> Record:
    """A row of ``stored.rows``."""
    return _record(
        row,
        ts_utc=row["ts_utc"],
        payload=row["payload"],
        native=row["native"] if row["event_type"] == UNMAPPED else "",
        disposition=row["disposition"],
        place=f"{row['raw_partition']}:{row['raw_offset']}:0",
    )


def _record(said: Mapping[str, Any], *, ts_utc: int, payload: str, native: str, disposition: str, place: str) -> Record:
    fields = {name: _text(said[name]) for name in _ENVELOPE if said[name] not in (None, "")}
    if times.EARLIEST <= ts_utc < times.LATEST:
        fields["ts_utc"] = times.text(ts_utc)
    for key, value in _open(payload).items():
        name = f"payload.{key}"
        if name not in _NOT_COMPARED:
            fields[name] = _text(value)
    if native:
        fields["native"] = native
    event_id = said["event_id"] or ""
    return Record(
        source_id=said["source_id"] or "",
        event_id=identity.canonical(event_id) or event_id,
        stream=said["source_stream"] or "",
        position=said["source_position"],
        event_type=said["event_type"],
        native_type=said["native_type"] or "",
        chain=said["correlation_id"] or "",
        disposition=disposition,
        place=place,
        fields=fields,
    )


def _open(payload: str) -> Mapping[str, Any]:
    """Numbers that no schema knows stay as they were written."""
    opened = json.loads(payload, parse_float=str)
    return opened if isinstance(opened, dict) else {"": opened}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)

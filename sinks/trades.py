"""The trades of an instance, recomputed from the original bytes of its events (S0-11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tradetape.processors import reading, trade_statistics
from tradetape.processors.reading import RawRecord, SchemaById
from tradetape.processors.views.plain import plain
from tradetape.schemas import times
from tradetape.sinks import views
from tradetape.sinks.store import Store
from tradetape.sinks.tables import EVENTS

_EVENTS = f"""
SELECT raw_partition, raw_offset, toUnixTimestamp64Micro(ingest_ts_utc), hex(raw) FROM {views.full_name(EVENTS)}
WHERE instance_name = {{name:String}} AND derived_seq = 0 ORDER BY raw_partition, raw_offset
"""


def of_instance(store: Store, schema_by_id: SchemaById, name: str, position_id: str = "") -> list[dict[str, Any]]:
    """What ``trade_statistics.statistics`` gives for the events of the instance ``name``, decimals and times as text.

    ``position_id`` asks for the trades of one position. Raises what Store.query and ``schema_by_id`` raise.
    """
    found = trade_statistics.statistics(_events(store, schema_by_id, name), position_id)
    return [_shown(trade._asdict()) for trade in found]


def _events(store: Store, schema_by_id: SchemaById, name: str) -> Iterator[Mapping[str, Any]]:
    for partition, offset, at, raw in store.query(_EVENTS, {"name": name}):
        event = reading.read(RawRecord(partition, offset, at, bytes.fromhex(raw)), schema_by_id).event
        if event is not None:
            yield event


def _shown(trade: Mapping[str, Any]) -> dict[str, Any]:
    moments = {key: None if trade[key] is None else times.text(trade[key]) for key in ("opened", "closed")}
    shown: dict[str, Any] = plain({**trade, **moments})
    return shown

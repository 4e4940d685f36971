"""The latest figures of every position, as ``tradetape.risk_latest`` keeps them (P-02)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tradetape.infra.api.filters import Filters
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import results
from tradetape.sinks.store import Store
from tradetape.sinks.tables import RISK, RISK_LATEST, SENTINEL

COLUMNS: Mapping[str, Any] = {
    field["name"]: field["type"] for field in output_schema(RISK.record)["fields"] if field["name"] != SENTINEL
}
"""Column → Avro type of what is told of a position."""


def pieces(store: Store, wanted: Filters, output_format: str) -> Iterator[bytes]:
    """The last figures of each position in ``output_format``, in order. Raises what Store.raw raises."""
    conditions, params = wanted.conditions()
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM {RISK_LATEST} FINAL WHERE {' AND '.join(conditions) or '1'} "
        "ORDER BY environment, account, instance_name, connector_name, trading_pair"
    )
    yield from store.raw(sql, params, results.SETTINGS, output_format)

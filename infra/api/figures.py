"""The latest figures of every position, as ``tradetape.risk_latest`` keeps them (P-02)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tradetape.infra.api.events import Values
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks import results
from tradetape.sinks.store import Store
from tradetape.sinks.tables import RISK, RISK_LATEST, SENTINEL

COLUMNS: Mapping[str, Any] = {
    field["name"]: field["type"] for field in output_schema(RISK.record)["fields"] if field["name"] != SENTINEL
}
"""Column → Avro type of what is told of a position."""

_FILTERS = {
    "instance": "instance_name",
    "environment": "environment",
    "account": "account",
    "connector": "connector_name",
    "pair": "trading_pair",
}
"""Parameter → column that must have one of its values."""


class RiskFilters(BaseModel):
    """Which positions; a parameter may be repeated, and then any of its values will do."""

    model_config = ConfigDict(extra="forbid")

    instance: Values = Field([], description="Bots.")
    environment: Values = Field([], description="live, paper, testnet or backtest.")
    account: Values = Field([], description="Exchange accounts; empty: bots that name none.")
    connector: Values = Field([], description="Exchange connectors.")
    pair: Values = Field([], description="Trading pairs, such as BTC-USDT.")


def pieces(store: Store, wanted: RiskFilters, output_format: str) -> Iterator[bytes]:
    """The last figures of each position in ``output_format``, in order. Raises what Store.raw raises."""
    given = {name: values for name in _FILTERS if (values := getattr(wanted, name))}
    where = " AND ".join(f"{_FILTERS[name]} IN {{{name}:Array(String)}}" for name in given) or "1"
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM {RISK_LATEST} FINAL WHERE {where} "
        "ORDER BY environment, account, instance_name, connector_name, trading_pair"
    )
    yield from store.raw(sql, given, results.SETTINGS, output_format)

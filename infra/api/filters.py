"""Which rows a request asks for, by what they name (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Values = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]


class Filters(BaseModel):
    """A parameter may be repeated, and then any of its values will do. ``COLUMNS`` are those that must have it."""

    model_config = ConfigDict(extra="forbid")

    COLUMNS: ClassVar[Mapping[str, str]] = {
        "instance": "instance_name",
        "environment": "environment",
        "account": "account",
        "connector": "connector_name",
        "pair": "trading_pair",
    }

    instance: Values = Field([], description="Bots.")
    environment: Values = Field([], description="live, paper, testnet or backtest.")
    account: Values = Field([], description="Exchange accounts; empty: bots that name none.")
    connector: Values = Field([], description="Exchange connectors.")
    pair: Values = Field([], description="Trading pairs, such as BTC-USDT.")

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """The conditions in SQL, all of which must hold, and their parameters."""
        given = {name: values for name in self.COLUMNS if (values := getattr(self, name))}
        return [f"{self.COLUMNS[name]} IN {{{name}:Array(String)}}" for name in given], given

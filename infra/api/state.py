"""The record as of any time: what ``tradetape state`` tells (S1-06, N-05)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tradetape.infra.api.moments import Moment
from tradetape.infra.api.scope import Scope
from tradetape.processors.reading import SchemaById
from tradetape.sinks import portfolio_travel, travel
from tradetape.sinks.store import Store
from tradetape.sinks.travel import When

FOLD_SECONDS = 120.0
"""How long the folds of one answer may take."""

FOLDS = 2
"""Folds at a time: each takes a whole core."""


class StateAt(BaseModel):
    """Up to when, and whose."""

    model_config = ConfigDict(extra="forbid")

    at: Moment | None = Field(None, description="Only events that happened up to then.")
    known_at: Moment | None = Field(None, description="Only what was taken in up to then.")

    @property
    def when(self) -> When:
        return When(self.at, self.known_at)


class PortfolioAt(StateAt):
    """A portfolio's."""

    environment: str = Field("", max_length=200, description="Only of this environment.")


class InstanceAt(PortfolioAt):
    """An instance's."""

    account: str | None = Field(None, max_length=200, description="Only of this account; empty: bots that name none.")


class PositionAt(InstanceAt):
    """A position's."""

    pair: str = Field("", max_length=200, description="Only the position in this trading pair.")


class TimelineAt(InstanceAt):
    """The history of a position."""

    pair: str = Field(max_length=200, description="The trading pair of the position.")


Work = Callable[[Store, SchemaById], Any]


def instance(name: str, wanted: InstanceAt) -> Work:
    """Figures, open orders, own state, limits and kills of an instance."""
    return lambda store, schemas: travel.instance_at(
        store, schemas, name, wanted.when, environment=wanted.environment, account=wanted.account
    )


def position(name: str, wanted: PositionAt) -> Work:
    """Positions of an instance, all or one: cost, FIFO lots, mark, P&L."""
    return lambda store, schemas: travel.position_at(
        store, schemas, name, wanted.pair, wanted.when, environment=wanted.environment, account=wanted.account
    )


def timeline(name: str, wanted: TimelineAt) -> Work:
    """P&L of a position after every event that changed a figure of it."""
    return lambda store, schemas: {
        "timeline": travel.position_timeline(
            store, schemas, name, wanted.pair, wanted.when, environment=wanted.environment, account=wanted.account
        )
    }


def portfolio(name: str, wanted: PortfolioAt) -> Work:
    """Figures of a portfolio, by environment and quote asset."""
    return lambda store, schemas: portfolio_travel.portfolio_at(
        store, schemas, name, wanted.when, environment=wanted.environment
    )


def order(order_id: str, wanted: StateAt, scope: Scope) -> Work:
    """The orders with that client order id that may be seen, as their own last events left them."""
    return lambda store, schemas: travel.order_at(store, schemas, order_id, wanted.when, allows=scope.allows)

"""One aggregate, event by event: what each of them changed in the state (S1-08). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tradetape.processors.reading import RawRecord
from tradetape.processors.replay import Replay
from tradetape.processors.views import instances, orders
from tradetape.processors.views.look import Look
from tradetape.processors.views.plain import plain


class About(NamedTuple):
    """What an event is about; ``at`` is its time as figures count it, microseconds. ``order_id`` may be empty."""

    environment: str
    account: str
    instance_name: str
    connector_name: str
    trading_pair: str
    order_id: str
    at: int


class Change(NamedTuple):
    """One field of the state, by its path, before and after; None where there was or is none."""

    field: str
    before: Any
    after: Any


def step(replay: Replay, raw: RawRecord, about: About) -> list[Change]:
    """Fold ``raw``, which is ``about`` that; what it changed. Raises Gap as Replay.fold does."""
    before = _seen(Look.at(replay), about)
    replay.fold(raw)
    return list(changes(before, _seen(Look.at(replay), about)))


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Where two views part, field by field."""
    was, now = dict(_flat(before, "")), dict(_flat(after, ""))
    for name in dict.fromkeys((*was, *now)):
        if was.get(name) != now.get(name):
            yield Change(name, was.get(name), now.get(name))


def _seen(look: Look, about: About) -> dict[str, Any]:
    owner = about[:3]
    key = (*owner, about.connector_name)
    view = {
        "order": orders.order(look, (*key, about.order_id)) if about.order_id else None,
        "figures": instances.figure(look, (*key, about.trading_pair), about.at),
        "trading_state": instances.own_state(look, owner),
        "limits": {" ".join([held["limit"], *held["of"]]): held for held in instances.limits(look, owner)},
        "kills": {kill["kill_id"]: kill for kill in instances.kills(look, owner)},
    }
    plainly: dict[str, Any] = plain(view)
    return plainly


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Leaves by path; an empty mapping is no leaf."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path, value

"""An instance as everything it said stands: figures, orders, its TradingState, limits and kills (S2-03, N-05)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tradetape.processors import shelf, trading_state
from tradetape.processors.control.holding import Held
from tradetape.processors.control.kill import Kills, Notice, Obedience
from tradetape.processors.risk import figures as risk_figures
from tradetape.processors.state import SEPARATOR
from tradetape.processors.trading_state.records import Settings, Standing
from tradetape.processors.views import orders, positions
from tradetape.processors.views.look import Look

Owner = tuple[str, str, str]
"""Environment, account and name of an instance."""


class Shown(NamedTuple):
    """When the last figure of an instance was shown, by the time that counts for it (microseconds), and where."""

    at: int
    connector_name: str
    trading_pair: str


def instance(look: Look, owner: Owner, shown: Shown | None) -> dict[str, Any]:
    """Everything that is known of the instance ``owner``. Without a figure ``shown`` it has none."""
    return {
        **dict(zip(positions.KEY, owner, strict=False)),
        "figures": [] if shown is None else list(figures(look, owner, shown)),
        "open_orders": list(orders.open_orders(look, owner)),
        "trading_state": own_state(look, owner),
        "limits": list(limits(look, owner)),
        "kills": list(kills(look, owner)),
    }


def figures(look: Look, owner: Owner, shown: Shown) -> Iterator[dict[str, Any]]:
    """Figures as ``tradetape.risk`` names them, of each position and of where the last one was shown, which is first.

    That one is the last figure to the digit. The others are what an event of their pair would have shown then.
    """
    last = (*owner, shown.connector_name, shown.trading_pair)
    for key in dict.fromkeys((last, *positions.keys(look, owner))):
        yield {**dict(zip(positions.KEY, key, strict=True)), **figure(look, key, shown.at)}


def figure(look: Look, key: tuple[str, ...], at: int) -> dict[str, Any]:
    """The figures of the position at ``key`` at the time ``at``."""
    return risk_figures.shown(key, at, look.state)._asdict()


def own_state(look: Look, owner: Owner) -> Mapping[str, Any] | None:
    """The TradingState of an instance that has one."""
    state = look.state
    if state.find(Settings, *owner) is None and state.find(Standing, *owner) is None:
        return None
    return trading_state.view(state, *owner)


def limits(look: Look, owner: Owner) -> Iterator[dict[str, Any]]:
    """The limits that the instance does not keep, or is on its way to break; of all others nothing is kept."""
    for name, held in shelf.names_and_entries(look.state, Held, *owner):
        limit, *told_apart = name.split(SEPARATOR)
        counting = {
            mark: which.seen for mark, which in (("warning", held.warning), ("breached", held.breach)) if which.seen
        }
        yield {"limit": limit, "of": list(filter(None, told_apart)), "level": held.level, "counting": counting}


def kills(look: Look, owner: Owner) -> Iterator[dict[str, Any]]:
    """The kills that the instance is under, and what it did after them."""
    instance_fields = dict(zip(positions.KEY, owner, strict=False))
    notices = look.state.get(Obedience, *owner).notices
    for kill in look.state.get(Kills).active:
        if kill.covers(instance_fields):
            notice = notices.get(kill.kill_id, Notice())
            yield {
                "kill_id": kill.kill_id,
                "ordered_ts_utc": kill.ordered,
                "acknowledged_ts_utc": notice.acknowledged or None,
                "flat_ts_utc": notice.flat or None,
            }

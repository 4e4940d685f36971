"""How long rows stay in the store before a verified archive may take them, from the catalogue (S4-02, pure).

A row has the class of its event's type: an event its own, a figure that of the event that caused it. An alert stays
as long as what caused it, and at least as long as ``system_alert``. What the catalogue does not know stays for good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from tradetape.schemas.catalogue import event_types
from tradetape.sinks.tables import ALERTS, Table

PERMANENT = "permanent"
COLUMN = "retention"
"""The column of every table of the record; it is computed as it is read, so a new catalogue holds for old rows."""

_CLASS = re.compile(r"(\d+)([hd])\Z")
_SECONDS = {"h": 3_600, "d": 86_400}


def seconds(name: str) -> int | None:
    """How long rows of the class ``name`` stay; None: for good. Raises ValueError where it is no class."""
    if name == PERMANENT:
        return None
    found = _CLASS.match(name)
    if found is None:
        raise ValueError(f"{name!r} is no retention class")
    return int(found[1]) * _SECONDS[found[2]]


@cache
def classes() -> Mapping[str, int | None]:
    """Every class of the catalogue and how long its rows stay, the shortest first."""
    found = {event_type.retention for event_type in event_types().values()} | {PERMANENT}
    return dict(sorted(((name, seconds(name)) for name in found), key=lambda each: (each[1] is None, each[1])))


def expression(table: Table) -> str:
    """The class of a row of ``table`` in SQL."""
    order = list(classes())
    least = order.index(event_types()["system_alert"].retention) if table is ALERTS else 0
    by_class: dict[str, list[str]] = {}
    for name, event_type in sorted(event_types().items()):
        kept = order[max(order.index(event_type.retention), least)]
        if kept != PERMANENT:
            by_class.setdefault(kept, []).append(name)
    pairs = [(name, kept) for kept in order for name in by_class.get(kept, ())]
    types = ", ".join(f"'{name}'" for name, _ in pairs)
    kept_as = ", ".join(f"'{kept}'" for _, kept in pairs)
    return f"transform(event_type, [{types}], [{kept_as}], '{PERMANENT}')"


def expired(before: str) -> str:
    """In SQL: whether a row's class has expired when the day ``before`` (YYYY-MM-DD, UTC) begins."""
    known = {name: length for name, length in classes().items() if length is not None}
    names = ", ".join(f"'{name}'" for name in known)
    lengths = ", ".join(str(length) for length in known.values())
    midnight = f"toDateTime64('{before} 00:00:00', 6, 'UTC')"
    return (
        f"{COLUMN} != '{PERMANENT}' AND ingest_ts_utc < {midnight} "
        f"AND ingest_ts_utc < {midnight} - toIntervalSecond(transform({COLUMN}, [{names}], [{lengths}], 0))"
    )

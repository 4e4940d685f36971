"""Events that a spool did not take: counted, and told by ``system_gap`` when there is room again (P-07)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from tradetape.producers.spool import saved
from tradetape.schemas import times
from tradetape.schemas.catalogue import EVENT_VERSION

GAP = "system_gap"
FULL, DAMAGED = "spool_full", "spool_damaged"

MOST_BOTS = 200
"""Bots whose refusals are told apart; those of further ones are told together, under no name."""

LONGEST = 256
"""Characters of a text that is kept to say whose events were refused."""

_WHO = ("instance_name", "producer", "controller_id", "connector_name", "trading_pair", "environment", "account")
_WHERE = ("run_id", "source_system", "source_id", "source_stream")


def identity_of(document: Mapping[str, Any]) -> dict[str, str]:
    """The envelope fields of ``document`` that say whose event it is."""
    found = {name: document.get(name) for name in (*_WHO, *_WHERE)}
    return {name: value for name, value in found.items() if isinstance(value, str) and len(value) <= LONGEST}


def gap(
    who: Mapping[str, str],
    *,
    event_id: str,
    at: datetime,
    name: str,
    reason: str,
    count: int | None,
    first: str,
    last: str,
    detail: str,
) -> dict[str, Any]:
    """The envelope document of a ``system_gap``. It has no position: it is known again by ``event_id``."""
    return {
        **dict.fromkeys(_WHO[:5], ""),
        **{key: value for key, value in who.items() if key != "source_stream"},
        "producer": who.get("producer") or "tradetape.spool",
        "instance_name": who.get("instance_name") or name,
        "event_id": event_id,
        "event_type": GAP,
        "event_version": EVENT_VERSION,
        "ts_utc": times.text(times.to_micros(at)),
        "correlation_id": event_id,
        "payload": {
            "stream": who.get("source_stream") or name,
            "reason": reason,
            "count": count,
            "first": first,
            "last": last,
            "detail": detail,
        },
    }


@dataclass(slots=True)
class Tally:
    """The refusals of one bot since they were told last; ``first`` and ``last`` are ISO-8601 times."""

    who: dict[str, str]
    event_id: str
    first: str
    last: str
    count: int = 0
    causes: dict[str, int] = field(default_factory=dict)

    def document(self, at: datetime, name: str) -> dict[str, Any]:
        """The ``system_gap`` that tells them."""
        detail = "; ".join(f"{count} × {cause}" for cause, count in self.causes.items())
        return gap(
            self.who,
            event_id=self.event_id,
            at=at,
            name=name,
            reason=FULL,
            count=self.count,
            first=self.first,
            last=self.last,
            detail=detail,
        )


class Refusals:
    """What was refused and not told yet; kept at ``path`` by ``save``, so that a killed process does not forget it.

    Safe to share by threads. True where there is something to tell.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self.total = 0
        """Refused since this process opened the spool."""
        self._path = path
        self._clock = clock
        self._new_id = new_id
        self._lock = Lock()
        self._tallies: dict[str, Tally] = _load(path)
        self._changed = False

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def add(self, document: Mapping[str, Any], cause: str) -> None:
        """``document`` was refused, because of ``cause``."""
        who = identity_of(document)
        now = times.text(times.to_micros(self._clock()))
        with self._lock:
            self.total += 1
            key = who.get("instance_name", "")
            if key not in self._tallies and len(self._tallies) >= MOST_BOTS:
                key, who = "", {}
            tally = self._tallies.get(key)
            if tally is None:
                tally = self._tallies[key] = Tally(who, self._new_id(), now, now)
            tally.last = now
            tally.count += 1
            tally.causes[cause] = tally.causes.get(cause, 0) + 1
            self._changed = True

    def take(self) -> Tally | None:
        """A tally to tell; the caller puts it back where it cannot."""
        with self._lock:
            if not self._tallies:
                return None
            self._changed = True
            return self._tallies.pop(next(iter(self._tallies)))

    def put_back(self, tally: Tally) -> None:
        """``tally`` was not told after all."""
        with self._lock:
            key = tally.who.get("instance_name", "")
            later = self._tallies.pop(key, None)
            if later is not None:
                tally.count += later.count
                tally.last = later.last
                for cause, count in later.causes.items():
                    tally.causes[cause] = tally.causes.get(cause, 0) + count
            self._tallies = {key: tally, **self._tallies}
            self._changed = True

    def save(self) -> None:
        """Keep what is not told, if it changed. Raises OSError."""
        with self._lock:
            if not self._changed:
                return
            kept = {key: asdict(tally) for key, tally in self._tallies.items()}
            self._changed = False
        try:
            if kept:
                saved.save(self._path, kept)
            else:
                self._path.unlink(missing_ok=True)
        except OSError:
            self._changed = True
            raise


def _load(path: Path) -> dict[str, Tally]:
    try:
        return {key: Tally(**kept) for key, kept in saved.load(path).items()}
    except TypeError:
        return {}

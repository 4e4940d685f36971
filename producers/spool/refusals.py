"""Events that a spool did not take: counted, and told by ``system_gap`` when there is room again (P-07)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from tradetape.producers.spool import saved
from tradetape.schemas import identity, times
from tradetape.schemas.catalogue import EVENT_VERSION

GAP = "system_gap"
FULL, DAMAGED = "spool_full", "spool_damaged"

MOST_BOTS = 200
"""Bots whose refusals are told apart; those of further ones are told together, under no name."""

MOST_KEPT = 1_000
"""Tallies taken over from earlier processes before those of a bot are told as one."""

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
    """The refusals of one bot since they were told last; ``first`` and ``last`` are ISO-8601 times.

    A ``final`` one may have been told already: it is told again as it was, under its id, and nothing is added to it,
    because what is told twice under one id counts once.
    """

    who: dict[str, str]
    event_id: str
    first: str
    last: str
    count: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    final: bool = False

    @property
    def bot(self) -> str:
        """Whose they are; empty for those told together."""
        return self.who.get("instance_name", "")

    def add(self, later: Tally) -> None:
        """Count the refusals of ``later`` too."""
        self.count += later.count
        self.last = later.last
        for cause, count in later.causes.items():
            self.causes[cause] = self.causes.get(cause, 0) + count

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

    What an earlier process kept it may have told before it was killed. So that is final: told first, as it was kept,
    and what is refused from now on is told by itself. Safe to share by threads. True where there is something to tell.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self.total = 0
        """Refused since this process opened the spool."""
        self._path = path
        self._clock = clock
        self._new_id = new_id
        self._lock = Lock()
        self._final = deque(_load(path))
        self._open: dict[str, Tally] = {}
        self._taken: Tally | None = None
        self._changed = False

    def __bool__(self) -> bool:
        return bool(self._final or self._open)

    def add(self, document: Mapping[str, Any], cause: str) -> None:
        """``document`` was refused, because of ``cause``."""
        who = identity_of(document)
        now = times.text(times.to_micros(self._clock()))
        with self._lock:
            self.total += 1
            key = who.get("instance_name", "")
            if key not in self._open and len(self._open) >= MOST_BOTS:
                key, who = "", {}
            tally = self._open.get(key)
            if tally is None:
                tally = self._open[key] = Tally(who, self._new_id(), now, now)
            tally.last = now
            tally.count += 1
            tally.causes[cause] = tally.causes.get(cause, 0) + 1
            self._changed = True

    def take(self) -> Tally | None:
        """A tally to tell, None where there is none. The one taken before is told, unless it was put back."""
        with self._lock:
            if not self and self._taken is None:
                return None
            self._changed = True
            self._taken = None
            if self:
                self._taken = self._final.popleft() if self._final else self._open.pop(next(iter(self._open)))
            return self._taken

    def put_back(self, tally: Tally, *, final: bool) -> None:
        """``tally`` was not told; ``final`` where that is not certain."""
        with self._lock:
            self._changed = True
            self._taken = None
            tally.final |= final
            if tally.final:
                self._final.appendleft(tally)
                return
            later = self._open.pop(tally.bot, None)
            if later is not None:
                tally.add(later)
            self._open = {tally.bot: tally, **self._open}

    def save(self) -> None:
        """Keep what is not told, if it changed. Raises OSError."""
        with self._lock:
            if not self._changed:
                return
            # One that is being told is kept: the write that tells it may hang, and never end.
            taken = () if self._taken is None else (self._taken,)
            kept = {tally.event_id: _kept(tally) for tally in (*taken, *self._final, *self._open.values())}
            self._changed = False
        try:
            if kept:
                saved.save(self._path, kept)
            else:
                self._path.unlink(missing_ok=True)
        except OSError:
            self._changed = True
            raise


def _kept(tally: Tally) -> dict[str, Any]:
    """What is kept of ``tally``; not ``final``, which every one that is read again is."""
    return {name: value for name, value in asdict(tally).items() if name != "final"}


def _load(path: Path) -> list[Tally]:
    try:
        tallies = [Tally(**kept, final=True) for kept in saved.load(path).values()]
    except TypeError:
        return []
    return tallies if len(tallies) <= MOST_KEPT else _joined(tallies)


def _joined(tallies: Iterable[Tally]) -> list[Tally]:
    """One for each bot, under an id of its own: what was told of them already is told twice, but nothing is hidden."""
    bots: dict[str, Tally] = {}
    for tally in tallies:
        joined = bots.setdefault(tally.bot, tally)
        if joined is not tally:
            joined.add(tally)
            # Derived, so that a process that is killed before it kept this joins them to the same again.
            joined.event_id = identity.derive(joined.event_id, FULL, tally.event_id)
    return list(bots.values())

"""Hummingbot's log, followed: its lines of level EVENT_LOG as events, the others skipped and counted.

``logs/logs_<config>.log`` is rotated every night; files, streams and positions are those of ``rolling``. The log is
known by its path. It tells what the trade database tells: take one of the two in.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from tradetape.producers.adapters import hummingbot_log as adapter
from tradetape.producers.adapters.hummingbot_log import Known
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.connectors.rolling import LogLine, RollingLog, is_kind
from tradetape.producers.connectors.source import Lag
from tradetape.producers.events import Event
from tradetape.schemas import identity, times
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

REMEMBERED_ORDERS = 2000
"""Latest orders whose pair is remembered for their later events, which do not name it."""

LINES_AT_ONCE = 5000

QUIET_SECONDS = 2.0
"""A poll reads lines for this long at most where none of them is an event."""


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> HummingbotLogSource:
    """The log at ``location`` from ``saved`` on. Raises TradetapeError."""
    return HummingbotLogSource(_log_file(location), origin, saved)


def fingerprint(location: str) -> str:
    """The identity of the log: its path. Raises TradetapeError where there is none."""
    return identity.derive(adapter.SYSTEM, str(_log_file(location).resolve()))


def _log_file(location: str) -> Path:
    path = Path(location)
    if is_kind(path, stat.S_ISDIR) or not RollingLog(path, longest=MAX_LINE_BYTES).exists():
        raise TradetapeError(f"{location} is no log", hint="give the bot's log file (logs/logs_….log)")
    return path


class HummingbotLogSource:
    """One log, open (``Source``). ``skipped`` counts its lines of other levels."""

    def __init__(
        self,
        path: Path,
        origin: Origin,
        saved: dict[str, Any] | None,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        known = saved if saved is not None and saved.get("adapter") == adapter.SYSTEM else {}
        self.name = origin.instance_name or path.name
        self.source_id = origin.source_id
        self.skipped: int = known.get("skipped", 0)
        self._origin = origin
        self._clock = clock
        self._log = RollingLog(path, longest=MAX_LINE_BYTES, state=known.get("log"))
        self._orders = {order_id: Known(pair) for order_id, pair in known.get("orders", {}).items()}
        self._counts: dict[str, int] = known.get("counts", {})
        self._rows: int = known.get("rows", 0)
        self._latest: int = known.get("latest", 0)
        self._ended: str = known.get("ended", "")

    def poll(self, limit: int) -> Sequence[Event]:
        """The events of the next lines; empty also where QUIET_SECONDS went by without one.

        What was read until then is in ``state``, the next poll reads on behind it, and ``ended`` reads all the rest.
        """
        until = self._clock() + QUIET_SECONDS
        while True:
            found, is_end = self._take(limit, ending=False)
            if found or is_end or self._clock() >= until:
                return found

    def state(self) -> dict[str, Any]:
        """The checkpoint."""
        return {
            "adapter": adapter.SYSTEM,
            "log": self._log.saved(),
            "orders": {order_id: known.pair for order_id, known in self._orders.items()},
            "skipped": self.skipped,
            "counts": dict(self._counts),
            "rows": self._rows,
            "latest": self._latest,
            "ended": self._ended,
        }

    def acknowledge(self) -> None:
        """Nothing to do: a log keeps no readers."""

    def lag(self) -> Lag:
        """Whether there is anything: how many of the waiting lines are events shows only when they are read."""
        return Lag(None, None) if self._log.waiting() else Lag(0, 0.0)

    def ended(self) -> Sequence[Event]:
        """The last line, with or without its end, and the ``source_ended`` of the log."""
        found, is_end = self._take(LINES_AT_ONCE, ending=True)
        while not is_end:
            more, is_end = self._take(LINES_AT_ONCE, ending=True)
            found += more
        event = adapter.ADAPTER.ended(
            self._origin,
            rows={"event_log": self._rows, "other": self.skipped},
            counts=self._counts,
            latest=self._latest,
        )
        if self._rows and event["event_id"] != self._ended:
            self._ended = event["event_id"]
            found.append(event)
        return found

    def close(self) -> None:
        """Nothing is held open between two polls."""

    def _take(self, limit: int, *, ending: bool) -> tuple[list[Event], bool]:
        """Events of the next ``limit`` lines, and whether there were none."""
        lines = self._log.read(limit, ending=ending)
        found = [event for line in lines if (event := self._event(line)) is not None]
        losses, self._log.losses = self._log.losses, []
        for loss in losses:
            gap = adapter.ADAPTER.gap(
                self._origin, loss.payload(), str(loss.line), ts_utc=self._latest or times.EARLIEST
            )
            self._count(gap)
            found.append(gap)
        return found, not lines

    def _event(self, line: LogLine) -> Event | None:
        taken = line.taken
        if not adapter.is_event(taken.content):
            self.skipped += not taken.fragment
            return None
        event = adapter.from_line(
            self._origin,
            taken.content,
            line.stream,
            taken.number,
            orders=self._orders,
            length=taken.length,
            fragment=taken.fragment,
        )
        if not taken.fragment:
            self._rows += 1
            self._count(event)
            self._remember(event)
        return event

    def _count(self, event: Event) -> None:
        self._counts[event["event_type"]] = self._counts.get(event["event_type"], 0) + 1
        self._latest = max(self._latest, event["ts_utc"])

    def _remember(self, event: Event) -> None:
        found = adapter.created(event)
        if found is not None:
            self._orders[found[0]] = found[1]
            while len(self._orders) > REMEMBERED_ORDERS:
                del self._orders[next(iter(self._orders))]

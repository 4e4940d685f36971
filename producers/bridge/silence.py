"""Who has fallen silent: a judgement by the clock, made once and written down as an event (S4-09, G3). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tradetape.producers.bridge.orders import PRODUCER
from tradetape.producers.events import Event, EventRefused, new_event
from tradetape.schemas import identity

SECOND = 1_000_000

HEARTBEAT_SECONDS = 30
MISSED = 3
"""A service that sends heartbeats is silent after this many have not come."""

UNWATCHED_SECONDS = 10
"""A look that comes later than this after the one before: what was between, nobody watched."""

SILENT, RETURNED = "instance_silent", "instance_returned"


@dataclass(slots=True)
class Heard:
    """When a service or an instance was last heard (LogAppendTime, microseconds), and by which record."""

    at: int
    place: str
    silent: bool = False
    untold: list[Event] = field(default_factory=list)
    """Its return, until that is in the record."""


class Watchdog:
    """Remembers when each instance was heard, and says who is silent. Times are microseconds.

    Each service that sends heartbeats is watched by them; with ``silent_after_seconds`` > 0, each instance is watched
    by all of its records. An instance is known by its name: that is what its records are keyed by.
    """

    def __init__(self) -> None:
        self.silent_after_seconds = 0
        self._of_whom: dict[str, tuple[str, str]] = {}
        self._heard: dict[tuple[str, str], Heard] = {}
        self._looked = 0
        self._since = 0

    def knows(self, instance: str) -> bool:
        """Whether the instance was introduced."""
        return instance in self._of_whom

    def introduce(self, instance: str, environment: str, account: str) -> None:
        """Whose the instance is; what is not introduced is not watched."""
        self._of_whom[instance] = (environment, account)

    def heard(self, instance: str, at: int, place: str, service: str = "") -> None:
        """A record of the ``instance``, or a heartbeat of its ``service``, was taken in; ``place`` names the record."""
        known = self._heard.get((instance, service))
        if known is None:
            self._heard[instance, service] = Heard(at, place)
            return
        if known.silent:
            known.silent = False
            known.untold += self._event(RETURNED, instance, service, at, silent_seconds=(at - known.at) // SECOND)
        known.at, known.place = at, place

    def told(self, event_type: str, instance: str, service: str) -> None:
        """The record has an ``instance_silent`` or ``instance_returned``: of this watchdog or one before it."""
        if (known := self._heard.get((instance, service))) is not None:
            known.silent = event_type == SILENT
            known.untold.clear()

    def due(self, now: int) -> Iterator[Event]:
        """What is to be written down by ``now``: who has returned, and who has become silent.

        Silence counts only while somebody listens: after a pause (Kafka away, the bridge stopped) it begins anew.
        """
        if now - self._looked > UNWATCHED_SECONDS * SECOND:
            self._since = now
        self._looked = now
        for (instance, service), known in self._heard.items():
            yield from known.untold
            known.untold.clear()
            allowed = HEARTBEAT_SECONDS * MISSED if service else self.silent_after_seconds
            if allowed and not known.silent and now - max(known.at, self._since) > allowed * SECOND:
                known.silent = True
                yield from self._event(
                    SILENT, instance, service, now, last_event_ts_utc=known.at, allowed_seconds=allowed
                )

    def _event(self, event_type: str, instance: str, service: str, at: int, **payload: int) -> Iterator[Event]:
        event_id = identity.derive(PRODUCER, event_type, instance, service, self._heard[instance, service].place)
        environment, account = self._of_whom[instance]
        try:
            yield new_event(
                event_type,
                event_id=event_id,
                correlation_id=event_id,
                ts_utc=at,
                producer=PRODUCER,
                instance_name=instance,
                environment=environment,
                account=account,
                payload={**payload, "service": service or None},
                ingest_source="bridge",
            )
        except EventRefused:
            return  # whose name no event may bear: its own records were rejected as well

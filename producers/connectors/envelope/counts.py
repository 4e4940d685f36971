"""What lines of canonical JSON became: by source and instance, for the ``source_ended`` of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tradetape.producers import events, unmapped
from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.connectors.lines import UNFINISHED, Taken
from tradetape.producers.connectors.rolling import Loss
from tradetape.producers.events import Event
from tradetape.schemas import environments, identity, times


@dataclass(slots=True)
class _Instance:
    source_id: str
    name: str
    environment: str
    lines: int = 0
    latest: int = 0
    events: dict[str, int] = field(default_factory=dict)

    def count(self, event_type: str) -> None:
        self.events[event_type] = self.events.get(event_type, 0) + 1


class Lines:
    """The events of one log's lines, counted from its beginning. ``rejected``: broken rules of this run's lines.

    ``known`` is what ``saved`` gave.
    """

    def __init__(self, origin: adapter.Origin, known: dict[str, Any] | None = None) -> None:
        self.origin = origin
        self.rejected: dict[str, int] = {}
        self.is_incomplete = False
        self._ended: set[str] = set(known["ended"]) if known else set()
        instances = [_Instance(**saved) for saved in known["instances"]] if known else []
        self._instances = {(instance.source_id, instance.name): instance for instance in instances}

    def saved(self) -> dict[str, Any]:
        """What is counted, as JSON."""
        return {
            "ended": sorted(self._ended),
            "instances": [asdict(instance) for instance in self._instances.values()],
        }

    def event(self, line: Taken, *, source_id: str, stream: str = adapter.STREAM) -> Event:
        """The event of ``line`` in ``stream`` of the source, counted."""
        event, broken = adapter.from_line(
            self._origin(source_id), line.content, line.number, length=line.length, fragment=line.fragment
        )
        _place(event, line, stream)
        self.is_incomplete |= line.fragment == UNFINISHED
        for code in sorted({violation.code for violation in broken}):
            self.rejected[code] = self.rejected.get(code, 0) + 1
        if event["instance_name"] and not line.fragment:
            instance = self._instance(source_id, event["instance_name"], event["environment"])
            instance.lines += 1
            instance.latest = max(instance.latest, event["ts_utc"])
            if event["event_type"] != unmapped.TYPE:
                instance.count(event["event_type"])
        return event

    def gap(self, loss: Loss, *, source_id: str, instance_name: str) -> Event:
        """The ``system_gap`` of lines that were gone before they were read, counted."""
        event_id = identity.derive(source_id, "system_gap", loss.stream, str(loss.line))
        instance = self._instance(source_id, instance_name, environments.LIVE)
        instance.count("system_gap")
        event = events.envelope(
            event_id=event_id,
            event_type="system_gap",
            ts_utc=max((known.latest for known in self._instances.values()), default=0) or times.EARLIEST,
            producer=adapter.SYSTEM,
            instance_name=instance_name,
            connector_name="",
            correlation_id=event_id,
            source_system=adapter.SYSTEM,
            source_id=source_id,
            adapter=adapter.ADAPTER,
            environment=instance.environment,
            ingest_source=self.origin.ingest_source,
        )
        return event | {"payload": {"count": None, "last": None, **loss.payload()}}

    def ended(self) -> Iterator[Event]:
        """The control events of what was not told yet."""
        for instance in self._instances.values():
            if instance.events:
                event = adapter.ended(
                    self._origin(instance.source_id),
                    instance.name,
                    environment=instance.environment,
                    lines=instance.lines,
                    counts=instance.events,
                    ts_utc=instance.latest or times.EARLIEST,
                )
                if event["event_id"] not in self._ended:
                    self._ended.add(event["event_id"])
                    yield event

    def _origin(self, source_id: str) -> adapter.Origin:
        return self.origin if source_id == self.origin.source_id else replace(self.origin, source_id=source_id)

    def _instance(self, source_id: str, name: str, environment: str) -> _Instance:
        return self._instances.setdefault((source_id, name), _Instance(source_id, name, environment))


def _place(event: Event, line: Taken, stream: str) -> None:
    """Put ``event`` into ``stream``; an id that was made of its line's number is made of its stream's name too."""
    event["source_stream"] = stream
    key = (str(line.number), line.content.hex()) if line.fragment else (str(line.number),)
    if event["event_id"] == identity.derive(event["source_id"], adapter.STREAM, *key):
        event["event_id"] = identity.derive(event["source_id"], stream, *key)

"""What lines of canonical JSON became: by instance, for the ``source_ended`` of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tradetape.producers import unmapped
from tradetape.producers.adapters import envelope as adapter
from tradetape.producers.connectors.lines import UNFINISHED, Taken
from tradetape.producers.events import Event
from tradetape.schemas import times


@dataclass(slots=True)
class _Instance:
    environment: str
    lines: int = 0
    latest: int = 0
    events: dict[str, int] = field(default_factory=dict)


class Lines:
    """The events of one source's lines, counted from its beginning. ``rejected``: broken rules of this run's lines."""

    def __init__(self, origin: adapter.Origin, known: dict[str, Any] | None = None) -> None:
        self.origin = origin
        self.rejected: dict[str, int] = {}
        self.is_incomplete = False
        self._ended: set[str] = set(known["ended"]) if known else set()
        self._instances = {name: _Instance(**saved) for name, saved in known["instances"].items()} if known else {}

    def saved(self) -> dict[str, Any]:
        """What is counted, as JSON."""
        instances = {name: asdict(instance) for name, instance in self._instances.items()}
        return {"ended": sorted(self._ended), "instances": instances}

    def begin(self, source_id: str) -> None:
        """The lines from here on are those of another source."""
        self.origin = replace(self.origin, source_id=source_id)
        self._ended, self._instances = set(), {}

    def event(self, line: Taken) -> Event:
        """The event of ``line``, counted."""
        event, broken = adapter.from_line(
            self.origin, line.content, line.number, length=line.length, fragment=line.fragment
        )
        self.is_incomplete |= line.fragment == UNFINISHED
        for code in sorted({violation.code for violation in broken}):
            self.rejected[code] = self.rejected.get(code, 0) + 1
        if event["instance_name"] and not line.fragment:
            instance = self._instances.setdefault(event["instance_name"], _Instance(event["environment"]))
            instance.lines += 1
            instance.latest = max(instance.latest, event["ts_utc"])
            name = event["event_type"]
            if name != unmapped.TYPE:
                instance.events[name] = instance.events.get(name, 0) + 1
        return event

    def ended(self) -> Iterator[Event]:
        """The control events of what was not told yet."""
        for name, instance in self._instances.items():
            if instance.events:
                event = adapter.ended(
                    self.origin,
                    name,
                    environment=instance.environment,
                    lines=instance.lines,
                    counts=instance.events,
                    ts_utc=instance.latest or times.EARLIEST,
                )
                if event["event_id"] not in self._ended:
                    self._ended.add(event["event_id"])
                    yield event

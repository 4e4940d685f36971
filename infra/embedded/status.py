"""``<home>/run/status.json``: what the supervisor last saw of every component."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tradetape.infra.embedded import processes
from tradetape.infra.files import read_json

STARTING = "starting"
HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
"""It was healthy, its process runs, and it does not answer now."""
RESTARTING = "restarting"
STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One component as last seen. ``since`` is UTC, ISO 8601; ``detail`` says why it is not healthy.

    ``failed_starts`` counts the starts in a row that ended before the component was healthy.
    """

    name: str
    pid: int | None
    state: str
    restarts: int
    failed_starts: int
    since: str
    detail: str


def path(home: Path) -> Path:
    """The file of this home."""
    return processes.run_dir(home) / "status.json"


def now_utc() -> str:
    """Now, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(home: Path) -> tuple[ComponentStatus, ...]:
    """The components of ``home`` as last reported by a supervisor that is still alive; else all stopped.

    Empty when nothing ever ran here, or when the supervisor that runs has not reported yet.
    """
    document = read_json(path(home))
    if document is None:
        return ()
    supervisor = processes.find(home, processes.SUPERVISOR)
    seen = tuple(ComponentStatus(**entry) for entry in document["components"])
    if supervisor is None:
        return tuple(_stopped(entry) for entry in seen)
    reporter: dict[str, Any] = document["supervisor"]
    return seen if reporter["pid"] == supervisor.pid else ()


def _stopped(entry: ComponentStatus) -> ComponentStatus:
    if entry.state == STOPPED:
        return entry
    return ComponentStatus(
        entry.name, None, STOPPED, entry.restarts, entry.failed_starts, entry.since, "its supervisor is gone"
    )

"""How each source stands, where people look: a line while it changes, and ``<home>/connect/<name>.json``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tradetape.infra.files import read_json, write_json
from tradetape.producers.connectors.taken import AWAY, ENDED, FAILED, Status

STOPPED = "stopped"
_OVER = frozenset({ENDED, FAILED})


class Reports:
    """Takes the reports of ``run_many``: files in ``home``, and ``say`` for the sources that changed."""

    def __init__(
        self, home: Path, say: Callable[[str], None], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._home = home
        self._say = say
        self._clock = clock
        self._said: dict[str, str] = {}

    def __call__(self, statuses: Sequence[Status]) -> None:
        now = self._clock().isoformat(timespec="seconds")
        for status in statuses:
            self._write(
                status,
                {
                    "name": status.name,
                    "source_id": status.source_id,
                    "state": status.state,
                    "events": status.events,
                    "lag_records": status.lag.records,
                    "lag_seconds": status.lag.seconds,
                    "last_error": status.last_error,
                    "updated": now,
                    "pid": os.getpid(),
                },
            )
            line = describe(status)
            if self._said.get(status.name) != line:
                self._said[status.name] = line
                self._say(line)

    def _write(self, status: Status, document: dict[str, Any]) -> None:
        path = _folder(self._home) / f"{quote(status.name, safe='')}.json"
        if not status.source_id:  # never opened: perhaps because another process has it, whose report this is then
            before = read_json(path) or {}
            if before.get("pid") != os.getpid() and _runs(before):
                return
        write_json(path, document)


def read(home: Path) -> list[dict[str, Any]]:
    """What was reported last of every source of ``home``; ``state`` is stopped where its process has ended."""
    found = []
    for path in sorted(_folder(home).glob("*.json")):
        document = read_json(path)
        if document is not None:
            if document.get("state") not in _OVER and not _runs(document):
                document["state"] = STOPPED
            found.append(document)
    return found


def describe(status: Status) -> str:
    """One line about one source."""
    text = f"{status.name}: {status.events:,} events"
    if status.lag.records is not None:
        text += f", {status.lag.records:,} records behind"
    if status.lag.seconds is not None:
        text += (
            f" ({status.lag.seconds:,.1f} s)"
            if status.lag.records is not None
            else f", {status.lag.seconds:,.1f} s behind"
        )
    return f"{text}; {status.state}: {status.last_error}" if status.state in {AWAY, FAILED} else text


def _runs(document: dict[str, Any]) -> bool:
    return document.get("state") not in _OVER and psutil.pid_exists(document.get("pid", -1))


def _folder(home: Path) -> Path:
    return home / "connect"

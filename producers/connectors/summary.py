"""What one ingest did, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int | None], None]
"""Called with what is done and the total (None where it is not known), in rows or bytes."""


@dataclass(slots=True)
class Summary:
    """``events`` are those sent by this run, by type; ``rows`` all records of the source, by table or stream.

    ``skipped`` counts records that an earlier run had taken in, ``rejected`` the broken rules of records that went
    out as UnmappedRecord (reason code → records). ``already_ingested``: there was nothing new. ``incomplete``: the
    file's last line has no end and is no JSON yet.
    """

    name: str
    source_id: str
    rows: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    already_ingested: bool = False
    incomplete: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.events.values())

    def count(self, type_name: str) -> None:
        """One more event of ``type_name`` was sent."""
        self.events[type_name] = self.events.get(type_name, 0) + 1

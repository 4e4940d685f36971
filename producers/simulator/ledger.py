"""What a simulation wrote, and every defect in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

START_MS = 1_700_000_000_000
"""When a simulated fleet begins to trade if nothing else is said; milliseconds since 1970."""


class Injected(NamedTuple):
    """One defect that was written.

    ``subject`` is the native id of the order, run or record it is in. ``expected`` is the code that must catch it: of a
    finding (``processors.findings``), of a rejection (``schemas.rules.REASONS``) or of a repeat
    (``processors.repeats``); empty where nothing can, and ``why_not`` says why.
    """

    kind: str
    instance: str
    subject: str
    expected: str
    why_not: str = ""


@dataclass(slots=True)
class Ledger:
    """The stores written, the records in them by instance and table, and the defects."""

    files: list[Path] = field(default_factory=list)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    injected: list[Injected] = field(default_factory=list)

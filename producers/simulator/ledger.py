"""What a simulation wrote, and every defect in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

START_MS = 1_700_000_000_000
"""When a simulated fleet begins to trade if nothing else is said; milliseconds since 1970."""


SILENT = "silent"
"""The defect that is no record: the bot stops writing."""

Defects = Mapping[str, Any] | Iterable[str]
"""Names of defects, each once, or how often each; a table of known ones (their values no numbers) is each once."""


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


def to_inject(defects: Defects, known: Iterable[str], *, room: int, unit: str = "steps") -> list[str]:
    """The ``known`` defects that one bot is to have, in their order, each as often as ``defects`` says.

    Raises ValueError for one that is not known, and for more than ``room`` of them; ``unit`` names what that counts.
    """
    given = defects if isinstance(defects, Mapping) else dict.fromkeys(defects, 1)
    known = list(known)
    unknown = given.keys() - set(known)
    if unknown:
        raise ValueError(f"no such defect: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    times = {kind: count if isinstance(count, int) else 1 for kind, count in given.items()}
    kinds = [kind for kind in known for _ in range(times.get(kind, 0))]
    if len(kinds) > room:
        raise ValueError(f"{len(kinds)} defects do not fit into {room} {unit}")
    return kinds


def spoken(kinds: Iterable[str]) -> list[str]:
    """``kinds`` without silence: those that are written."""
    return [kind for kind in kinds if kind != SILENT]

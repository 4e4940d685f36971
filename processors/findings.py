"""The catalogue of findings: what an accepted event may show that a person should know (P-04, N-07).

A finding never hides an event. ``opened`` findings stay open until a later event resolves them; ``noted`` ones state
a fact that nothing can change and nobody has to act on.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

OPENED = "opened"
RESOLVED = "resolved"
NOTED = "noted"

ALERTING = frozenset({"error", "critical"})
"""Severities that also become an alert when they open (S0-10)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. ``subject`` says what it is counted by: the order, the event, …; ``example`` is one line,
    ``requirements`` the promises behind it.
    """

    severity: str
    subject: str
    meaning: str
    example: str
    requirements: tuple[str, ...]


class Finding(NamedTuple):
    """A finding as the audited record carries it; ``detail`` is a JSON object with the numbers that prove it."""

    code: str
    severity: str
    status: str
    subject: str
    detail: str


def _read() -> dict[str, Kind]:
    source = files("tradetape.processors").joinpath("findings.toml").read_text(encoding="utf-8")
    return {
        code: Kind(
            severity=entry["severity"],
            subject=entry["subject"],
            meaning=entry["meaning"],
            example=entry["example"],
            requirements=tuple(entry["requirements"]),
        )
        for code, entry in tomllib.loads(source).items()
    }


CATALOGUE = _read()
"""Every kind of finding by its code: ``findings.toml``."""


def detail(**values: Any) -> str:
    """What proves a finding, as JSON."""
    return json.dumps(values, separators=(",", ":"))


def finding(code: str, status: str, subject: str, proof: str = "{}") -> Finding:
    """A finding of a catalogued ``code``."""
    return Finding(code, CATALOGUE[code].severity, status, subject, proof)

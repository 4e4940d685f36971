"""Which ids an event speaks of, and in what role; ``references.toml`` says it for every event type (N-01).

An id is kept as its place: a letter for what it names, and a digest of the id and its scope. So a place is short
whatever a producer writes, and ids of different bots, environments or exchanges never meet.
"""

from __future__ import annotations

import tomllib
from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b
from importlib.resources import files
from typing import Any, NamedTuple

MAKES, MAY_MAKE, NAMES, CAUSE, ITSELF = range(5)
"""Roles of an id: the event begins it, begins it if nothing was before, names it, was caused by it, has it itself."""

EVENT = "e"
"""Letter of event ids."""

ORDER = "o"
"""Letter of client order ids."""

DIGEST_BYTES = 12
_ROLES = {"names": NAMES, "makes": MAKES, "may_make": MAY_MAKE, "causes": CAUSE}


class Kind(NamedTuple):
    """A kind of id: the rank of a chain that it begins (lower goes before), and what it is called."""

    letter: str
    scope: tuple[str, ...]
    rank: int
    key: str


class Reference(NamedTuple):
    """One id of an event: its ``place``, and ``parts``, the scope and the id as they were written."""

    place: str
    parts: tuple[str, ...]
    role: int
    rank: int
    key: str


def _read() -> dict[str, Any]:
    return tomllib.loads(files("tradetape.processors").joinpath("references.toml").read_text(encoding="utf-8"))


_DATA = _read()

KINDS = {
    entry["letter"]: Kind(entry["letter"], tuple(entry["scope"]), number, entry["keys"][0])
    for number, entry in enumerate(_DATA["kinds"].values(), 1)
}
"""Kinds of ids by their letter, upstream first."""

_BY_KEY = {key: KINDS[entry["letter"]] for entry in _DATA["kinds"].values() for key in entry["keys"]}

EVENT_TYPES: Mapping[str, tuple[tuple[str, Kind, int], ...]] = {
    event_type: tuple((key, _BY_KEY[key], role) for name, role in _ROLES.items() for key in entry.get(name, ()))
    for event_type, entry in _DATA["events"].items()
}
"""Payload key, kind and role of each id that an event type has, in the order in which they tie it to a chain."""

_SYSTEMS = frozenset(_DATA["causes"]["systems"])
_NEVER_CAUSES = frozenset(_DATA["causes"]["never"])


def of(event: Mapping[str, Any]) -> list[Reference]:
    """The ids of ``event``, the one that ties it most closely first; the event's own id last, if it may be a cause."""
    declared = EVENT_TYPES.get(event["event_type"])
    found: list[Reference] = []
    payload = event["payload"]
    for key, kind, role in declared or ():
        value = payload.get(key)
        if value:
            found.append(_reference(event, kind, role, key, value))
    if event["causation_id"]:
        found.append(_reference(event, KINDS[EVENT], CAUSE, "causation_id", event["causation_id"]))
    if declared is not None and event["legacy"] and _may_be_cause(event):
        itself = event["native_event_id"] or event["event_id"]
        found.append(_reference(event, KINDS[EVENT], ITSELF, "event_id", itself))
    return found


def _may_be_cause(event: Mapping[str, Any]) -> bool:
    return event["source_system"] in _SYSTEMS and event["event_type"] not in _NEVER_CAUSES


def _reference(event: Mapping[str, Any], kind: Kind, role: int, key: str, value: str) -> Reference:
    parts = (*(event[name] for name in kind.scope), value)
    return Reference(place(kind.letter, parts), parts, role, kind.rank, key)


def place(letter: str, parts: tuple[str, ...]) -> str:
    """The place of the id that ``parts`` are: ``letter`` and 16 characters."""
    digest = blake2b("\x1f".join(parts).encode(), digest_size=DIGEST_BYTES).digest()
    return letter + b64encode(digest).decode()

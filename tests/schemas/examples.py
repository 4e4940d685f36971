"""The examples that ship with the schemas."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from tradetape.schemas.catalogue import event_types


def load(event_type: str) -> dict[str, list[dict[str, Any]]]:
    """``valid`` and ``invalid`` examples of ``event_type``."""
    path = files("tradetape.schemas").joinpath("examples", f"{event_type}.json")
    loaded: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def cases(kind: str) -> list[Any]:
    """(event_type, example) of every example of ``kind``."""
    return [(name, example) for name in event_types() for example in load(name)[kind]]


def name_of(value: object) -> str:
    """Names a parameter in a test's id."""
    return value["why"] if isinstance(value, dict) else str(value)

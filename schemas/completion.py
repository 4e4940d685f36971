"""What an older writer's records lack, filled in with the defaults of the schema that this code knows."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from tradetape.schemas import named
from tradetape.schemas.catalogue import core_type

Complete = Callable[[Any], None]
"""Completes a value in its place."""


def completion(written: Any, known: Any) -> Complete | None:
    """Completes records of ``written`` to ``known``; None where nothing is missing, however deep.

    Fields of one name must have one type (``compatibility.misreading``).
    """
    return _completion(named.expand(written), named.expand(known))


def _completion(written: Any, known: Any) -> Complete | None:
    written, known = core_type(written), core_type(known)
    if not isinstance(known, dict):
        return None
    if known["type"] == "record":
        return _of_record(written, known)
    if known["type"] == "array":
        return _of_each(_completion(written["items"], known["items"]), iter)
    if known["type"] == "map":
        return _of_each(_completion(written["values"], known["values"]), dict.values)
    return None


def _of_record(written: Any, known: Any) -> Complete | None:
    types = {field["name"]: field["type"] for field in written["fields"]}
    missing = {field["name"]: field.get("default") for field in known["fields"] if field["name"] not in types}
    inside = {
        field["name"]: complete
        for field in known["fields"]
        if field["name"] in types and (complete := _completion(types[field["name"]], field["type"])) is not None
    }
    if not missing and not inside:
        return None

    def complete_record(record: dict[str, Any]) -> None:
        for name, default in missing.items():
            record[name] = copy(default)
        for name, complete in inside.items():
            if record[name] is not None:
                complete(record[name])

    return complete_record


def _of_each(complete: Complete | None, values: Callable[[Any], Any]) -> Complete | None:
    if complete is None:
        return None

    def complete_each(container: Any) -> None:
        for value in values(container):
            if value is not None:
                complete(value)

    return complete_each

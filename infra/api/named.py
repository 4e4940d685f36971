"""The named queries over HTTP: what they take, and whether a request gives it (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tradetape.infra.api import moments, problems
from tradetape.infra.api.scope import is_of_fleet
from tradetape.schemas import times
from tradetape.sinks import queries
from tradetape.sinks.queries import NamedQuery, Param

ARCHIVED = "archived"
"""The parameter that every query takes: over archived rows too."""

LONGEST = 1000
"""Characters of a value."""

_INTEGERS = {
    "UInt32": (0, 2**32 - 1),
    "UInt64": (0, 2**64 - 1),
    "Int32": (-(2**31), 2**31 - 1),
    "Int64": (-(2**63), 2**63 - 1),
}
_MOMENTS = frozenset({"since", "until"})
_SWITCH = {"true": True, "false": False}


def listing() -> list[dict[str, Any]]:
    """Every named query with what it takes."""
    return [
        {
            "name": query.name,
            "purpose": query.purpose,
            "notes": query.notes,
            "of_fleet": is_of_fleet(query),
            "href": f"/v1/queries/{query.name}",
            "parameters": [
                {
                    "name": param.name,
                    "type": param.type,
                    "required": param.default is None,
                    "default": param.default,
                    "choices": list(param.choices),
                }
                for param in query.params
            ],
        }
        for query in queries.listing().values()
    ]


def find(name: str) -> NamedQuery:
    """The query ``name``. Raises Problem 404, which names those that are spelt alike."""
    query = queries.listing().get(name)
    if query is None:
        alike = get_close_matches(name, queries.listing())
        meant = f"did you mean {' or '.join(alike)}? " if alike else ""
        raise problems.not_found(f"no query {name[:80]!r}", f"{meant}GET /v1/queries lists them")
    return query


def bind(query: NamedQuery, given: Sequence[tuple[str, str]]) -> tuple[dict[str, str], bool]:
    """The parameters of ``query`` as ClickHouse takes them, and whether archived rows are asked for.

    ``given`` are names and values as they came. Raises Problem 422 with everything that is wrong.
    """
    known = {param.name: param for param in query.params}
    bound: dict[str, str] = {}
    errors: dict[str, str] = {}
    archived: bool | None = None
    for name, value in given:
        if name in bound or (name == ARCHIVED and archived is not None):
            errors[name] = "is given twice"
        elif name == ARCHIVED and value.lower() in _SWITCH:
            archived = _SWITCH[value.lower()]
        elif name == ARCHIVED:
            errors[name] = "is true or false"
        elif name not in known:
            errors[name[:80]] = f"is no parameter of this query; it takes {', '.join([*known, ARCHIVED])}"
        else:
            try:
                bound[name] = _value(known[name], value)
            except ValueError as error:
                errors[name] = str(error)
    for name, param in known.items():
        if param.default is None and name not in bound and name not in errors:
            errors[name] = "is missing"
    if errors:
        raise problems.invalid(
            [{"parameter": name, "message": message} for name, message in errors.items()],
            f"correct it: GET /v1/queries says what {query.name} takes",
        )
    return bound, bool(archived)


def schema(param: Param) -> Mapping[str, Any]:
    """What ``param`` may be, as JSON Schema."""
    if param.choices:
        found: dict[str, Any] = {"enum": list(param.choices)}
    elif param.type in _INTEGERS:
        least, most = _INTEGERS[param.type]
        found = {"type": "integer", "minimum": least, "maximum": most}
    elif param.name in _MOMENTS:
        found = dict(moments.SCHEMA)
    else:
        found = {"type": "string", "maxLength": LONGEST}
    if param.default is not None:
        found["default"] = int(param.default) if param.type in _INTEGERS else param.default
    return found


def _value(param: Param, text: str) -> str:
    """``text`` as the value of ``param``. Raises ValueError."""
    if param.choices and text not in param.choices:
        raise ValueError(f"may be {', '.join(param.choices)}")
    if param.type in _INTEGERS:
        least, most = _INTEGERS[param.type]
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and least <= int(text) <= most):
            raise ValueError(f"is no whole number from {least} to {most}")
        return str(int(text))
    if param.name in _MOMENTS:
        return times.text(moments.read(text))
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    return text

"""Named queries: every ``queries/*.sql`` is one.

The first comment line says what it answers, further ones what a reader must know; lines ``-- param: name Type =
default`` declare what it takes, as ClickHouse's own typed parameters. A parameter without a default must be given;
`` in a|b`` at the end of such a line lists the values it may have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import results
from tradetape.sinks.store import QueryRefused, Store
from tradetape.sinks.tables import ARCHIVE_RUNS, DATABASE, TABLES

_PARAM = re.compile(r"-- param: (\w+) (\w+)(?: = (\S+))?(?: in (\S+))?\Z")
LIST = "`tradetape query --list` lists them"
_TABLE = re.compile(rf"\b{DATABASE}\.(?:{'|'.join(TABLES)})\b")
BAD_PARAMETER = 457
READ_ONLY: Mapping[str, Any] = {"readonly": 2}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter; ``default`` is None where it must be given, ``choices`` are empty where any value will do."""

    name: str
    type: str
    default: str | None
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One named query; ``notes`` are what its head says beyond the purpose."""

    name: str
    purpose: str
    notes: str
    params: Sequence[Param]
    sql: str

    def bind(self, given: Mapping[str, str]) -> dict[str, str]:
        """All parameters, ``given`` over defaults. Raises TradetapeError where one is unknown or missing."""
        known = {param.name: param for param in self.params}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise TradetapeError(
                f"query {self.name} has no parameter {', '.join(unknown)}",
                hint=f"it takes {', '.join(known)}" if known else "it takes none",
            )
        missing = [name for name, param in known.items() if param.default is None and name not in given]
        if missing:
            raise TradetapeError(f"query {self.name} needs {', '.join(missing)}", hint=f"give --param {missing[0]}=…")
        for name, value in given.items():
            choices = known[name].choices
            if choices and value not in choices:
                raise TradetapeError(f"query {self.name}: {name} is {value!r}", hint=f"it may be {', '.join(choices)}")
        return {name: given.get(name, param.default or "") for name, param in known.items()}


@cache
def listing() -> Mapping[str, NamedQuery]:
    """Every named query by name, in alphabetical order."""
    entries = files("tradetape.sinks.queries").iterdir()
    texts = {entry.name[:-4]: entry.read_text(encoding="utf-8") for entry in entries if entry.name.endswith(".sql")}
    return {name: _parse(name, texts[name]) for name in sorted(texts)}


def load(name: str) -> NamedQuery:
    """The query ``name``. Raises TradetapeError, which names those that are spelt alike."""
    query = listing().get(name)
    if query is None:
        alike = get_close_matches(name, listing())
        meant = f"did you mean {' or '.join(alike)}? " if alike else ""
        raise TradetapeError(f"no query {name!r}", hint=f"{meant}{LIST}")
    return query


def run(
    store: Store,
    name: str,
    params: Mapping[str, str] | None = None,
    output_format: str = "JSONEachRow",
    *,
    archived: bool = False,
) -> Iterator[bytes]:
    """The answer of the query ``name`` in ``output_format``, in pieces; ``archived``: over archived rows too.

    Raises TradetapeError: unknown name, missing or ill-typed parameter, ClickHouse down.
    """
    query = load(name)
    bound = query.bind(params or {})
    settings = {**READ_ONLY, **results.SETTINGS}
    try:
        yield from store.raw(with_archive(query.sql) if archived else query.sql, bound, settings, output_format)
    except QueryRefused as error:
        if error.code == BAD_PARAMETER:
            found = re.search(r"query parameter '(\w+)'", error.message)
            name = found.group(1) if found else "?"
            wanted = next((param.type for param in query.params if param.name == name), "another type")
            raise TradetapeError(
                f"query {query.name}: {bound.get(name, '')!r} is no {wanted}", hint=f"correct --param {name}=…"
            ) from error
        raise


def rows(
    store: Store, name: str, params: Mapping[str, str] | None = None, *, archived: bool = False
) -> list[dict[str, Any]]:
    """The rows of the query ``name``. Raises what ``run`` raises."""
    return list(results.rows(run(store, name, params, archived=archived)))


def with_archive(sql: str) -> str:
    """``sql`` over the views that have what is archived beside what is stored; as it is where it reads the ledger."""
    return sql if ARCHIVE_RUNS in sql else _TABLE.sub(r"\g<0>_all", sql)


def ask(store: Store, statement: str, output_format: str = "JSONEachRow") -> Iterator[bytes]:
    """The answer of a read-only ``statement``, in pieces. Raises TradetapeError: refused, or ClickHouse down."""
    yield from store.raw(statement.strip().rstrip(";"), None, {**READ_ONLY, **results.SETTINGS}, output_format)


def _parse(name: str, text: str) -> NamedQuery:
    """Raises ValueError where the head of the file is not as described."""
    lines = text.splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    if not head or head[0].startswith("-- param"):
        raise ValueError(f"{name}.sql does not begin with its purpose")
    params = []
    notes = " ".join(line[3:] for line in head[1:] if not line.startswith("-- param"))
    for line in head:
        if line.startswith("-- param"):
            match = _PARAM.match(line)
            if match is None:
                raise ValueError(f"{name}.sql: {line!r} is no parameter")
            default = match.group(3)
            choices = tuple(match.group(4).split("|")) if match.group(4) else ()
            default = None if default is None else default.strip("'")
            params.append(Param(match.group(1), match.group(2), default, choices))
    return NamedQuery(name, head[0][3:], notes, tuple(params), "\n".join(lines[len(head) :]))

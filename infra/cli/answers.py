"""How commands answer: rows as a table or as JSON lines, and the exit codes of those that compare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from tradetape.schemas.errors import TradetapeError

DIFFERENT, CANNOT = 1, 2
"""Exit codes: something differs · it could not be compared."""


@contextmanager
def or_cannot() -> Iterator[None]:
    """What fails here ends the command with CANNOT."""
    try:
        yield
    except TradetapeError as error:
        error.exit_code = CANNOT
        raise


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output: str, nothing: str = "no rows") -> None:
    """Print ``rows``: whole as JSON lines, or their ``columns`` as a table; ``nothing`` is said where there is none."""
    if output == "json":
        for row in rows:
            click.echo(json.dumps(row))
        return
    body = [[row[name] for name in columns] for row in rows]
    if body:
        table([columns, *body])
    else:
        click.echo(nothing)


def table(rows: Iterable[Sequence[Any]]) -> None:
    """Print ``rows``, the first of which has the names."""
    from tradetape.sinks import results

    for line in results.table(rows):
        click.echo(line)

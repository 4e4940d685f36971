"""Options that every command shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def home_option(command: F) -> F:
    """Adds ``--home``: the command gets ``home: Path`` (absolute), whether given before or after its name."""

    def resolve(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
        from tradetape.infra.settings import resolve_home

        before = (context.find_root().obj or {}).get("home")
        return resolve_home(value if value is not None else before)

    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        callback=resolve,
        help="Folder of the stack and its data [TRADETAPE_HOME, else ./.tradetape].",
    )(command)


output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
"""Adds ``--output table|json``: the command gets ``output: str``."""

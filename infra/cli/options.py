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


def partition_option(text: str) -> Callable[[F], F]:
    """``--partition N``, repeatable, with ``text`` as its help: the command gets ``partitions: tuple[int, ...]``."""
    return click.option("--partition", "partitions", type=click.IntRange(0), multiple=True, help=text)


def source_options(command: F) -> F:
    """Adds what is said of one native store: ``legacy: bool``, and the rest as texts, empty where nothing was said."""
    for option in reversed(
        (
            click.option("--name", default="", help="What the source is called in reports [the bot]."),
            click.option("--instance", default="", help="The bot [name of the file or database]."),
            click.option("--producer", default="", help="The service that emits its events [KIND]."),
            click.option(
                "--connector", default="", help="The exchange connector, where records do not say [as KIND has it]."
            ),
            click.option("--account", default="", help="The exchange account."),
            click.option(
                "--environment",
                default="",
                help="live, paper, testnet or backtest [what the connector's name says].",
            ),
            click.option("--owner", default="", help="Who answers for the bot."),
            click.option("--source-id", default="", help="Identity of the store [its fingerprint]."),
            click.option(
                "--quote",
                metavar="ASSET",
                default="",
                help="What bare symbols such as QQQ are quoted in [as KIND has it].",
            ),
            click.option(
                "--legacy", is_flag=True, help="Records may lack correlation ids (all kinds but envelope may)."
            ),
        )
    ):
        command = option(command)
    return command

"""``tradetape query`` and ``tradetape sql``: questions to the store, read-only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option
from tradetape.schemas.errors import TradetapeError

if TYPE_CHECKING:
    from tradetape.sinks.store import Store

_OUTPUT = click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="For people or for programs; JSON is one object a line, decimals as strings.",
)


@click.command()
@click.argument("name", required=False)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the query; repeatable.")
@_OUTPUT
@click.option("--archived", is_flag=True, help="Answer it over archived rows too.")
@click.option("--list", "list_queries", is_flag=True, help="List the queries and their parameters.")
@home_option
def query(  # noqa: PLR0917 (click passes them by name)
    name: str | None, params: tuple[str, ...], output: str, archived: bool, list_queries: bool, home: Path
) -> None:
    """Answer the named audit query NAME."""
    from tradetape.sinks import queries, results

    if list_queries:
        width = max(map(len, queries.listing()))
        for each in queries.listing().values():
            click.echo(f"{each.name:<{width}} {each.purpose}")
            for param in each.params:
                default = "required" if param.default is None else f"default {param.default!r}"
                choices = f", one of {' '.join(param.choices)}" if param.choices else ""
                click.echo(f"{'':<{width}}   --param {param.name}=… ({param.type}, {default}{choices})")
        return
    if name is None:
        raise TradetapeError("which query?", hint=queries.LIST)
    queries.load(name)
    given = dict(_pair(param) for param in params)
    if name == "completeness":
        _completeness(home, given, output)
        return
    answer = queries.run(_store(home), name, given, results.FORMATS[output], archived=archived)
    for line in results.render(answer, output):
        click.echo(line)


@click.command()
@click.argument("statement")
@_OUTPUT
@home_option
def sql(statement: str, output: str, home: Path) -> None:
    """Answer one read-only STATEMENT of your own; tables are tradetape.events, quarantine, risk and alerts;
    events_all and so on have archived rows too."""
    from tradetape.sinks import queries, results

    answer = queries.ask(_store(home), statement, results.FORMATS[output])
    for line in results.render(answer, output):
        click.echo(line)


COMMANDS = (query, sql)


def _completeness(home: Path, given: dict[str, str], output: str) -> None:
    """The one query with a second witness: what Kafka holds stands beside what is stored."""
    import csv
    import json
    import sys

    from tradetape.infra import completeness, settings
    from tradetape.sinks import queries, results

    queries.load("completeness").bind(given)
    found = settings.load(home, require=("clickhouse_url", "bootstrap_servers"))
    rows = completeness.compare(_store(home), found.bootstrap_servers)
    if output == "json":
        for row in rows:
            click.echo(json.dumps(row))
    elif output == "csv":
        writer = csv.DictWriter(sys.stdout, completeness.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for line in results.table([list(completeness.COLUMNS), *(list(row.values()) for row in rows)]):
            click.echo(line)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise TradetapeError(f"--param {text!r} is not NAME=VALUE", hint="for example --param n=20")
    return name, value


def _store(home: Path) -> Store:
    from tradetape.infra import settings
    from tradetape.sinks.store import Store as ClickHouse

    return ClickHouse(settings.load(home, require=("clickhouse_url",)).clickhouse_url)

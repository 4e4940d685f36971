"""``tradetape query`` and ``tradetape sql``: questions to the store, read-only."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.folding import open_store
from tradetape.infra.cli.options import home_option
from tradetape.schemas.errors import TradetapeError

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
    answer = queries.run(open_store(home), name, given, results.FORMATS[output], archived=archived)
    for line in results.render(answer, output):
        click.echo(line)


@click.command()
@click.argument("statement")
@_OUTPUT
@home_option
def sql(statement: str, output: str, home: Path) -> None:
    """Answer one read-only STATEMENT of your own; tables are tradetape.events, quarantine, risk, alerts and
    portfolios; events_all and so on have archived rows too."""
    from tradetape.sinks import queries, results

    answer = queries.ask(open_store(home), statement, results.FORMATS[output])
    for line in results.render(answer, output):
        click.echo(line)


COMMANDS = (query, sql)


def _completeness(home: Path, given: dict[str, str], output: str) -> None:
    """The one query with a second witness: what Kafka holds stands beside what is stored."""
    import csv
    import sys

    from tradetape.infra import completeness, settings
    from tradetape.sinks import queries

    queries.load("completeness").bind(given)
    found = settings.load(home, require=("clickhouse_url", "bootstrap_servers"))
    rows = completeness.compare(open_store(home), found.bootstrap_servers)
    if output == "csv":
        writer = csv.DictWriter(sys.stdout, completeness.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        answers.show(rows, completeness.COLUMNS, output)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise TradetapeError(f"--param {text!r} is not NAME=VALUE", hint="for example --param n=20")
    return name, value

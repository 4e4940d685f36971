"""``tradetape up``, ``down`` and ``status``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli.options import home_option, output_option

if TYPE_CHECKING:
    from tradetape.infra.embedded.status import ComponentStatus

_NOT_HEALTHY = 3
_PORT = click.IntRange(1, 65535)


@click.command()
@home_option
@click.option("--kafka-port", type=_PORT, envvar="TRADETAPE_KAFKA_PORT", help="Kafka's port [29092 or free].")
@click.option("--registry-port", type=_PORT, envvar="TRADETAPE_REGISTRY_PORT", help="The registry's [28081 or free].")
@click.option("--clickhouse-port", type=_PORT, envvar="TRADETAPE_CLICKHOUSE_PORT", help="ClickHouse's [28123 or free].")
@click.option("--partitions", type=click.IntRange(1, 1000), help="Partitions per topic, for a new home [4].")
@click.option("--only", metavar="NAMES", help="Start these only: kafka,registry,clickhouse,worker,sink,bridge.")
def up(  # noqa: PLR0917 (click passes them by name)
    home: Path,
    kafka_port: int | None,
    registry_port: int | None,
    clickhouse_port: int | None,
    partitions: int | None,
    only: str | None,
) -> None:
    """Start the stack and return when it is healthy."""
    from tradetape.infra.cli.start_view import StartView
    from tradetape.infra.embedded import lifecycle
    from tradetape.infra.stackfile import CLICKHOUSE, KAFKA, REGISTRY

    given = {KAFKA: kafka_port, REGISTRY: registry_port, CLICKHOUSE: clickhouse_port}
    try:
        with StartView() as view:
            started = lifecycle.up(
                home,
                given_ports={service: port for service, port in given.items() if port is not None},
                only=only,
                partitions=partitions,
                watch=view.update,
            )
    except lifecycle.StartError as error:
        click.echo(f"--- end of {error.log}\n{error.tail}\n---", err=True)
        raise
    click.echo(f"the stack is {'already running' if started.was_running else 'up'} in {home}")
    for name, address in started.stack.addresses().items():
        click.echo(f"  {name:<18} {address}")


@click.command()
@home_option
def down(home: Path) -> None:
    """Stop the stack; the data stays."""
    from tradetape.infra.embedded import lifecycle

    stopped = lifecycle.down(home)
    click.echo(f"stopped the stack in {home}" if stopped else f"nothing was running in {home}")


@click.command()
@home_option
@output_option
@click.pass_context
def status(context: click.Context, home: Path, output: str) -> None:
    """Show every component; exit code 3 unless all are healthy."""
    from tradetape.infra.embedded import processes
    from tradetape.infra.embedded import status as states
    from tradetape.infra.stackfile import StackFile

    components = states.read(home)
    stack = StackFile.read(home)
    supervisor = processes.find(home, processes.SUPERVISOR)
    healthy = bool(components) and all(component.state == states.HEALTHY for component in components)
    document: dict[str, Any] = {
        "home": str(home),
        "healthy": healthy,
        "supervisor_pid": supervisor.pid if supervisor else None,
        "addresses": stack.addresses() if stack else {},
        "components": [asdict(component) for component in components],
    }
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    elif not components:
        click.echo(f"no stack is running in {home}; start it with `tradetape up`")
    else:
        _show_table(components, document["addresses"])
    context.exit(0 if healthy else _NOT_HEALTHY)


def _show_table(components: tuple[ComponentStatus, ...], addresses: dict[str, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("component", "state", "pid", "restarts", "since", "detail"):
        table.add_column(column, justify="right" if column in ("pid", "restarts") else "left")
    for entry in components:
        colour = {"healthy": "green", "stopped": "red", "unhealthy": "red"}.get(entry.state, "yellow")
        pid = str(entry.pid or "-")
        state = Text(entry.state, style=colour)
        table.add_row(entry.name, state, pid, str(entry.restarts), entry.since, Text(entry.detail))
    console = Console()
    console.print(table)
    for name, address in addresses.items():
        console.print(f"  {name:<18} {address}", highlight=False)


COMMANDS = (up, down, status)

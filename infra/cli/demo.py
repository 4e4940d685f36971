"""``tradetape demo`` and ``tradetape report``: the whole way at once, and the audit report at its end."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option

if TYPE_CHECKING:
    from tradetape.infra.fleet import Fleet
    from tradetape.infra.settings import Settings

BOTS = 2
"""Of each kind."""
STEPS = 12
STORE_SECONDS = 60.0
WIDTH = 140
"""Columns of the report where no terminal says how wide it is."""


@click.command()
@home_option
@click.option("--seed", type=int, default=7, show_default=True, help="Of the prices and the defects.")
def demo(home: Path, seed: int) -> None:
    """Start the stack, let a simulated fleet trade, take its stores in, and report.

    The fleet's bots trade on at every run: the report grows, and only new rows are sent.
    """
    from tradetape.infra import completeness, fleet, settings
    from tradetape.infra.cli.simulate import HOUR_MS, show
    from tradetape.infra.cli.start_view import StartView
    from tradetape.infra.embedded import lifecycle
    from tradetape.sinks.store import Store

    _say("Starting Kafka, the schema registry, ClickHouse, the worker and the sink; registering the schemas")
    with StartView() as view:
        lifecycle.up(home, watch=view.update)
    found = settings.load(home)
    _say("Simulated bots of five systems trade into their own stores; others post over HTTP")
    start_ms = int(time.time() * 1000) - HOUR_MS
    written = fleet.simulate(found.home, fleet.Plan(BOTS, STEPS, seed, start_ms))
    show(written)
    _say("Taking the native stores in")
    started = time.monotonic()
    sent = _connect(found, written)
    took = time.monotonic() - started
    missing = completeness.wait_until_stored(Store(found.clickhouse_url), found.bootstrap_servers, STORE_SECONDS)
    visible = time.monotonic() - started
    _report(found)
    click.echo(
        f"{sent:,} events sent in {took:.1f} s, all queryable after {visible:.1f} s ({sent / visible:,.0f} events/s)"
    )
    if missing:
        click.echo(
            f"{missing:,} records are not stored after {STORE_SECONDS:.0f} s; see the logs in {found.home / 'logs'}"
        )
    _say("The stack is still up. Ask it something:")
    for example in ("query --list", "query open_orders", "query tail --param n=5", "status", "down"):
        click.echo(f"  {_program()} {example}")
    if missing:
        raise SystemExit(1)


@click.command()
@home_option
def report(home: Path) -> None:
    """Print the audit report of everything stored."""
    from tradetape.infra import settings

    _report(settings.load(home))


COMMANDS: tuple[click.Command, ...] = (demo, report)


def _program() -> str:
    """How this command was called, so that the examples can be pasted."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called) or not called.is_relative_to(Path.cwd()):
        return called.name
    return str(called.relative_to(Path.cwd()))


def _say(text: str) -> None:
    click.secho(f"\n▸ {text}", bold=True)


def _connect(found: Settings, written: Fleet) -> int:
    """Take every source in to its end, as `tradetape connect --once` does; returns how many events were sent."""
    from threading import Event

    from tradetape.infra import connect
    from tradetape.infra.cli.connect import describe
    from tradetape.schemas.errors import TradetapeError

    results = connect.run(
        found.home,
        written.sources,
        partial(connect.to_kafka, found.home, found.bootstrap_servers, found.registry_url),
        follow=False,
        stop=Event(),
        interval=1.0,
        on_report=lambda _: None,
        on_warning=lambda text: click.echo(text, err=True),
    )
    sent = 0
    for result in results:
        if isinstance(result, TradetapeError):
            raise result
        sent += result.sent
        click.echo(f"  {describe(result)}")
    return sent


def _report(found: Settings) -> None:
    from rich.console import Console

    from tradetape.infra import completeness
    from tradetape.infra import report as audit
    from tradetape.sinks.store import Store

    store = Store(found.clickhouse_url)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    audit.show(store, console, completeness.compare(store, found.bootstrap_servers))

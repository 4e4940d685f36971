"""``tradetape demo`` and ``tradetape report``: the whole way at once, and the audit report at its end."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option

if TYPE_CHECKING:
    from tradetape.infra.settings import Settings
    from tradetape.producers.connectors.summary import Summary

BOTS = 5
ORDERS_PER_BOT = 60
LINES = 120
BAD_LINES = 12
HOUR_MS = 3_600_000
"""The fleet trades from an hour ago on."""
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
    from tradetape.infra import completeness, settings
    from tradetape.infra.cli.start_view import StartView
    from tradetape.infra.embedded import lifecycle
    from tradetape.sinks.store import Store

    _say("Starting Kafka, the schema registry, ClickHouse, the worker and the sink; registering the schemas")
    with StartView() as view:
        lifecycle.up(home, watch=view.update)
    found = settings.load(home)
    _say(f"{BOTS} simulated bots trade into their own Hummingbot databases; another one writes JSON lines")
    databases, lines = _simulate(found.home / "demo", seed)
    started = time.monotonic()
    sent = _ingest(found, databases, lines)
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


def _simulate(folder: Path, seed: int) -> tuple[list[Path], Path]:
    from tradetape.producers import simulator

    folder.mkdir(parents=True, exist_ok=True)
    start_ms = int(time.time() * 1000) - HOUR_MS
    ledger = simulator.simulate_hummingbot(
        folder, bots=BOTS, orders_per_bot=ORDERS_PER_BOT, seed=seed, defects=simulator.DEFECTS, start_ms=start_ms
    )
    for path in ledger.files:
        rows = ledger.rows[path.stem]
        click.echo(f"  {path.name}: " + ", ".join(f"{n:,} {table}" for table, n in rows.items()))
    lines = folder / "events.jsonl"
    run = sum(1 for line in lines.open("rb")) // LINES if lines.exists() else 0
    with lines.open("ab") as file:
        for case in simulator.envelope_lines(seed + run, LINES, bad=BAD_LINES, start_ms=start_ms):
            file.write(case.line + b"\n")
    click.echo(f"  {lines.name}: {LINES} lines more, {BAD_LINES} of them broken on purpose")
    return ledger.files, lines


def _ingest(found: Settings, databases: list[Path], lines: Path) -> int:
    """Send everything new; returns how many events that were."""
    from tradetape.infra.cli.ingest import describe
    from tradetape.producers.checkpoints import Checkpoints
    from tradetape.producers.connectors import envelope, hummingbot
    from tradetape.producers.emitter import Emitter

    _say("Taking the native stores in")
    sent = 0

    def tell(summary: Summary) -> None:
        nonlocal sent
        sent += summary.sent
        click.echo(f"  {describe(summary)}")

    with Emitter(found.bootstrap_servers, found.registry_url, client_id="tradetape-demo") as emitter:
        checkpoints = Checkpoints.for_cluster(found.home, emitter.cluster_id())
        for path in databases:
            tell(hummingbot.ingest(path, emitter, checkpoints))
        tell(envelope.ingest_file(lines, emitter, checkpoints))
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

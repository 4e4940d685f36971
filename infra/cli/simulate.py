"""``tradetape simulate``: a fleet that never was, in native stores, with known defects."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option

if TYPE_CHECKING:
    from tradetape.infra.fleet import Fleet

HOUR_MS = 3_600_000
"""A fleet trades from an hour ago on."""


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]…")
@click.option("--bots", type=click.IntRange(1, 1000), default=2, show_default=True, help="Of each kind.")
@click.option("--steps", type=click.IntRange(1), default=12, show_default=True, help="Trades, cycles or runs of a bot.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of the prices and the defects.")
@click.option("--defects/--no-defects", default=True, help="Break some records, each in a known way.")
@home_option
def simulate(kinds: tuple[str, ...], *, bots: int, steps: int, seed: int, defects: bool, home: Path) -> None:
    """Let simulated bots trade into their own stores below HOME/fleet: Postgres, SQLite, JSON lines, Redis.

    KINDs are turtle, catalyst, trend, hummingbot, envelope, quantum and http; all of them by default. The bots of kind
    http have no store: they post to a gateway that runs for that moment, which takes a stack; by default they do if
    one is up. Run again, the bots trade on. HOME/fleet/tradetape.toml then names the sources, and
    HOME/fleet/ledger.json every defect with the code that must catch it. The servers run until `tradetape down`.
    """
    from tradetape.infra import fleet, settings

    resolved = settings.resolve_home(home)
    start_ms = int(time.time() * 1000) - HOUR_MS
    written = fleet.simulate(resolved, fleet.Plan(bots, steps, seed, start_ms, defects), kinds)
    show(written)
    if written.sources:
        click.echo(f"take it in with: tradetape connect --once --config {written.config}")


COMMANDS: tuple[click.Command, ...] = (simulate,)


def show(written: Fleet) -> None:
    """What each kind wrote, and its defects."""
    for kind, ledger in written.ledgers.items():
        rows: Counter[str] = Counter()
        for tables in ledger.rows.values():
            rows.update(tables)
        total = ", ".join(f"{count:,} {table}" for table, count in sorted(rows.items(), key=lambda row: -row[1])[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        caught = sum(bool(defect.expected) for defect in ledger.injected)
        click.echo(f"  {kind:<11} {len(ledger.rows)} bots: {total}{more}")
        if ledger.injected:
            click.echo(f"  {'':<11} {len(ledger.injected)} defects, {caught} of them with a code that must catch them")

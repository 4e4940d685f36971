"""``tradetape trades``: what the trades of an instance came to, by its own events."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.folding import open_record
from tradetape.infra.cli.options import home_option, output_option

_COLUMNS = (
    *("opened", "closed", "trading_pair", "side", "quantity", "entry_price", "exit_price", "result", "hold_seconds"),
    *("max_favorable_excursion", "max_adverse_excursion", "exit_efficiency"),
)


@click.command()
@click.argument("name")
@click.option("--position", "position_id", default="", help="Only the trades of this position id.")
@output_option
@home_option
def trades(name: str, position_id: str, output: str, home: Path) -> None:
    """Trades of the instance NAME: hold duration, best and worst result while it was open, exit efficiency (S0-11)."""
    from tradetape.sinks import trades as recomputed

    store, schemas = open_record(home)
    answers.show(recomputed.of_instance(store, schemas, name, position_id), _COLUMNS, output)


COMMANDS = (trades,)

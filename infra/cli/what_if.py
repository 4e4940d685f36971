"""``tradetape what-if``: a stretch of the record under other limits (N-06)."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.folding import open_record
from tradetape.infra.cli.limits import read_rules
from tradetape.infra.cli.moments import MOMENT
from tradetape.infra.cli.options import home_option, output_option


@click.command("what-if")
@click.option("--limits", "file", type=click.Path(path_type=Path), required=True, help="The other limits (TOML).")
@click.option("--from", "since", type=MOMENT, help="They hold from then on, by ingest time [the first record].")
@click.option("--to", "until", type=MOMENT, help="Look up to then [the last record].")
@output_option
@home_option
def what_if(file: Path, since: int | None, until: int | None, *, output: str, home: Path) -> None:
    """Which decisions change, had other limits held: warnings, breaches and kills that would (not) have been.

    Nothing is written. What bots would have done after another kill is in no record and is not guessed.
    """
    from tradetape.sinks import what_if

    rules = read_rules(file)
    store, schemas = open_record(home)
    changes = what_if.decisions_that_change(store, schemas, rules, since=since, until=until)
    columns = ("ingest_ts_utc", "instance_name", "would", "code", "status", "limit", "value", "threshold", "event_id")
    answers.show(changes, columns, output, "no decision changes")


COMMANDS: tuple[click.Command, ...] = (what_if,)

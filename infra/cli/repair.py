"""``tradetape repair``: what the record lacks is judged again and inserted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from tradetape.infra.cli.options import home_option, output_option, partition_option


@click.command()
@partition_option("Only this raw partition; repeatable [all].")
@click.option("--every-row", is_flag=True, help="Also where no verdict is missing: look for each figure and alert.")
@click.option("--check", is_flag=True, help="Only say where verdicts are missing; exit code 1 if any are.")
@output_option
@home_option
@click.pass_context
def repair(
    context: click.Context, *, partitions: tuple[int, ...], every_row: bool, check: bool, output: str, home: Path
) -> None:
    """Fill holes in the record from tradetape.events, by the same rules (P-11).

    Exit code 0: nothing is missing now. 1: something is, and cannot be repaired, or --check found it.
    """
    from tradetape.infra import settings
    from tradetape.infra.repair import run
    from tradetape.sinks import raws
    from tradetape.sinks.store import Store

    found = settings.load(home)
    holes = raws.holes(Store(found.clickhouse_url))
    if partitions:
        holes = {partition: ranges for partition, ranges in holes.items() if partition in partitions}
    if output == "table":
        for partition, ranges in holes.items():
            for first, last in ranges:
                click.echo(f"raw partition {partition}: offsets {first} to {last} are missing")
    if check:
        if output == "json":
            click.echo(json.dumps({"holes": holes}))
        elif not holes:
            click.echo("no verdict is missing")
        context.exit(1 if holes else 0)
    done = run(found, partitions if every_row else sorted(holes), every_partition=every_row and not partitions)
    if output == "json":
        click.echo(json.dumps({"holes": holes, "repaired": [asdict(each) for each in done]}))
        return
    for each in done:
        click.echo(
            f"raw partition {each.partition}: {each.judged} records judged, {each.events} events and "
            f"{each.rows - each.events} other rows inserted"
        )
    if not any(each.rows for each in done):
        click.echo("nothing was missing")


COMMANDS = (repair,)

"""``tradetape migrate``: bring the tables up to date, as an owner of theirs (S1-09)."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli.folding import open_store
from tradetape.infra.cli.options import home_option


@click.command()
@home_option
def migrate(home: Path) -> None:
    """Apply the migrations that ClickHouse does not have; a sink whose user may not do that starts after it."""
    import os

    from tradetape.sinks import cluster
    from tradetape.sinks.migrate import migrate as apply

    applied = apply(open_store(home), cluster=os.environ.get(cluster.SETTING, ""))
    for migration in applied:
        click.echo(f"applied {migration.name}")
    if not applied:
        click.echo("everything was applied before")


COMMANDS = (migrate,)

"""``tradetape backup`` and ``tradetape restore``: the embedded home as one file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli.options import home_option


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@home_option
def backup(path: Path, home: Path) -> None:
    """Write the home to PATH, a new .tar.zst file or a folder for one; `tradetape down` first (P-11)."""
    from datetime import UTC, datetime

    from tradetape.infra import backup as backups

    now = datetime.now(UTC)
    done = backups.backup(home, backups.target(path, now), now)
    click.echo(f"{done.files} files, {done.size} bytes of {home} are in {done.path}")


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@home_option
def restore(path: Path, home: Path) -> None:
    """Make the home, which must be new or empty, from the backup PATH; every file is checked first (P-11)."""
    from tradetape.infra import backup as backups

    done = backups.restore(path, home)
    click.echo(f"{home} is as it was at {done.made_at}: {done.files} files; start it with `tradetape up`")


COMMANDS = (backup, restore)

"""``tradetape archive``: old rows into verified Parquet files, out of the store."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.folding import open_store
from tradetape.infra.cli.options import home_option, output_option
from tradetape.schemas.errors import TradetapeError

if TYPE_CHECKING:
    from tradetape.sinks.archive import Archive
    from tradetape.sinks.archive_files import Manifest

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_FILE = ("table", "date", "instance_name", "rows", "bytes", "sha256", "path")


@click.command()
@click.option("--before", type=_DAY, help="Take rows whose retention class has expired when this day (UTC) begins.")
@click.option("--dry-run", is_flag=True, help="With --before: only say what would be taken.")
@click.option("--list", "list_files", is_flag=True, help="List the files of the archive.")
@click.option("--verify", "verify_files", is_flag=True, help="Check every file; exit code 1 if one has changed.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder of the archive [<home>/archive].")
@click.option("--seen-as", metavar="PATH", help="That folder as ClickHouse sees it, where that is another path.")
@output_option
@home_option
@click.pass_context
def archive(  # noqa: PLR0917 (click passes them by name)
    context: click.Context,
    before: datetime | None,
    dry_run: bool,
    list_files: bool,
    verify_files: bool,
    folder: Path | None,
    seen_as: str | None,
    output: str,
    home: Path,
) -> None:
    """Move expired rows from the store to Parquet files, by table, day and instance (S1-10).

    Nothing is deleted before its file was read back and entered into the ledger; permanent events stay. Interrupted,
    the same command does the rest. Queries reach archived rows as tradetape.events_all, risk_all and so on.
    """
    from tradetape.infra import archive as archives
    from tradetape.infra.files import locked
    from tradetape.sinks import cluster

    if [before is not None, list_files, verify_files].count(True) != 1:
        raise TradetapeError("what is to be done?", hint="give one of --before YYYY-MM-DD, --list and --verify")
    if os.environ.get(cluster.SETTING):
        raise TradetapeError(
            "a cluster's tables are not archived from here",
            hint=f"see docs/guides/archive-and-backup.md, or unset {cluster.SETTING}",
        )
    store = open_store(home)
    opened, root = archives.open_archive(store, home, folder, seen_as)
    if list_files:
        answers.show((_row(manifest) for manifest in opened.manifests()), _FILE, output)
    elif verify_files:
        context.exit(_verify(opened, output))
    elif before is not None:
        day = archives.check_day(before.date(), _today())
        if dry_run:
            answers.show(
                (
                    {"table": g.table, "date": g.day, "instance_name": g.instance_name, "rows": g.rows}
                    for g in opened.plan(day)
                ),
                ("table", "date", "instance_name", "rows"),
                output,
            )
            return
        with locked(root / ".lock", timeout=1.0, what=f"another `tradetape archive` in {root}"):
            _run(opened, day, root, output)


def _run(opened: Archive, day: str, root: Path, output: str) -> None:
    if output == "json":
        for manifest in opened.run(day):
            click.echo(json.dumps(_row(manifest)))
        return
    done = opened.run(day, lambda manifest: click.echo(f"{manifest.path}: {manifest.rows} rows, {manifest.size} bytes"))
    rows = sum(manifest.rows for manifest in done)
    click.echo(f"{rows} rows left the store, in {len(done)} files below {root}" if done else "nothing has expired")


def _verify(opened: Archive, output: str) -> int:
    problems = [{"path": problem.path, "problem": problem.what} for problem in opened.verify()]
    if output == "json":
        answers.show(problems, ("path", "problem"), output)
    else:
        for each in problems:
            click.echo(f"{each['path']}: {each['problem']}")
        for path in opened.strays():
            click.echo(f"{path} is in no ledger; no query reads it")
        click.echo(f"{len(problems)} problems in {len(opened.manifests())} files")
    return 1 if problems else 0


def _row(manifest: Manifest) -> dict[str, Any]:
    document = manifest.document()
    return {name: document[name] for name in _FILE}


def _today() -> date:
    return datetime.now(UTC).date()


COMMANDS = (archive,)

"""``tradetape ingest``: native stores and JSON lines into Kafka."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option

if TYPE_CHECKING:
    from tradetape.producers.checkpoints import Checkpoints
    from tradetape.producers.connectors.summary import Progress, Summary
    from tradetape.producers.emitter import Emitter

_STDIN = Path("-")
_STORE_SECONDS = 60.0
"""How long an ingest waits for the store; what is in Kafka is safe in any case."""

_WAIT = click.option("--wait/--no-wait", default=True, help="Return when queries show it, or as soon as Kafka has it.")
_FILES = click.Path(path_type=Path, allow_dash=True)

Job = Callable[["Emitter", "Checkpoints", "Progress"], "Summary"]


@click.group()
def ingest() -> None:
    """Take a bot's records in. Running it again sends only what is new."""


@ingest.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--source-id", help="Identity of the store [its fingerprint]; for one FILE.")
@_WAIT
@home_option
def hummingbot(files: tuple[Path, ...], source_id: str | None, wait: bool, home: Path) -> None:
    """Hummingbot trade databases (SQLite); a bot may be writing to them."""
    from tradetape.producers.connectors.hummingbot import ingest as connector

    _one_source(files, source_id)
    for path in files:
        connector.check(path)

    def job(path: Path) -> Job:
        return lambda emitter, checkpoints, progress: connector.ingest(
            path, emitter, checkpoints, source_id=source_id, on_progress=progress
        )

    _run(home, [(path.name, job(path)) for path in files], wait=wait)


@ingest.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…|-", type=_FILES)
@click.option("--source-id", help="Identity of the file [its path]; for one FILE.")
@click.option("--legacy", is_flag=True, help="The source may lack correlation ids; they are backfilled and labelled.")
@_WAIT
@home_option
def envelope(files: tuple[Path, ...], source_id: str | None, legacy: bool, wait: bool, home: Path) -> None:
    """JSON lines of the canonical contract. Lines that break it are kept as evidence, with the reasons."""
    from tradetape.producers.connectors.envelope import source as connector

    _one_source(files, source_id)
    for path in files:
        if path != _STDIN:
            connector.check(path)

    def job(path: Path) -> Job:
        def run(emitter: Emitter, checkpoints: Checkpoints, progress: Progress) -> Summary:
            if path == _STDIN:
                stream = sys.stdin.buffer
                return connector.ingest_stream(
                    stream, emitter, source_id=source_id, legacy=legacy, on_progress=progress
                )
            return connector.ingest_file(
                path, emitter, checkpoints, source_id=source_id, legacy=legacy, on_progress=progress
            )

        return run

    _run(home, [(path.name, job(path)) for path in files], wait=wait)


COMMANDS: tuple[click.Command, ...] = (ingest,)


def _one_source(files: Sequence[Path], source_id: str | None) -> None:
    if source_id is not None and len(files) > 1:
        raise click.UsageError("--source-id names one source: give one FILE")


def _run(home: Path, jobs: Sequence[tuple[str, Job]], *, wait: bool) -> None:
    from tradetape.infra import settings
    from tradetape.producers.checkpoints import Checkpoints
    from tradetape.producers.emitter import Emitter

    found = settings.load(home, require=("bootstrap_servers", "registry_url"))
    with Emitter(found.bootstrap_servers, found.registry_url, client_id="tradetape-ingest", ahead=False) as emitter:
        checkpoints = Checkpoints.for_cluster(found.home, emitter.cluster_id())
        for name, job in jobs:
            with _progress(name) as progress:
                summary = job(emitter, checkpoints, progress)
            click.echo(describe(summary))
    if wait:
        _wait_until_stored(found.home)


def _wait_until_stored(home: Path) -> None:
    """Return when the store shows what was sent, so that the next query does too; say so where it does not."""
    from tradetape.infra import completeness, settings
    from tradetape.sinks.store import Store

    found = settings.load(home, require=())
    if not found.clickhouse_url:
        click.echo("in Kafka; no ClickHouse is configured to wait for", err=True)
        return
    left = completeness.wait_until_stored(Store(found.clickhouse_url), found.bootstrap_servers, timeout=_STORE_SECONDS)
    if left:
        click.echo(f"in Kafka; {left:,} records are not stored yet, see `tradetape query completeness`", err=True)


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar on standard error where a person is watching."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def describe(summary: Summary) -> str:
    """One line that says what an ingest did; notes on further lines."""
    rows = ", ".join(f"{count:,} {table}" for table, count in summary.rows.items())
    if summary.already_ingested:
        text = f"{summary.name}: nothing new ({rows or 'no rows'})"
    else:
        sent = ", ".join(f"{count:,} {name}" for name, count in sorted(summary.events.items()))
        text = f"{summary.name}: {summary.sent:,} events sent ({sent or 'none'}) from {rows or 'no rows'}"
        if summary.skipped:
            text += f"; {summary.skipped:,} taken in before"
    if summary.rejected:
        reasons = ", ".join(f"{count:,} {code}" for code, count in sorted(summary.rejected.items()))
        text += f"; rejected by the contract: {reasons}"
    if summary.incomplete:
        text += "; the last line is incomplete and is read again when it is whole"
    return "\n".join([f"{text} [source {summary.source_id}]", *(f"  note: {note}" for note in summary.notes)])

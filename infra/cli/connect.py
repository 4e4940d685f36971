"""``tradetape connect``: one native store, or all of a ``tradetape.toml``, followed into Kafka."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli.options import home_option, output_option, source_options

if TYPE_CHECKING:
    from tradetape.infra.connect import SourceConfig
    from tradetape.producers.connectors.summary import Summary

_FILES = 65_536
SHOWN = 4
"""Event types named in the line that says what was taken in."""


@click.command()
@click.argument("kind", required=False)
@click.argument("location", required=False)
@click.option("--config", type=click.Path(path_type=Path), help="All sources of this file [./tradetape.toml].")
@source_options
@click.option("--follow/--once", default=True, help="Wait for new records, or stop at the end [--follow].")
@click.option(
    "--interval", type=click.FloatRange(0.01, 3600), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--status", "show_status", is_flag=True, help="Show how the sources of this home stand.")
@output_option
@home_option
def connect(
    kind: str | None,
    location: str | None,
    *,
    config: Path | None,
    legacy: bool,
    follow: bool,
    interval: float,
    show_status: bool,
    output: str,
    home: Path,
    **said: str,
) -> None:
    """Take native stores in, from where the last run was, and follow them.

    KIND and LOCATION name one: turtle (Postgres URL), catalyst, trend, hummingbot, hummingbot-log, envelope (files),
    quantum (Redis URL). Without them all sources of ./tradetape.toml, or of --config, are taken in. ${NAME} in a
    location is read from the environment. SIGTERM or Ctrl-C finish the batch at hand and save.
    """
    if show_status:
        _show_status(home, output)
    elif kind is None:
        refuse_of_one(said, legacy=legacy)
        _run(home, from_file(config), follow=follow, interval=interval)
    elif location is None or config is not None:
        raise click.UsageError("give KIND and LOCATION, or --config FILE")
    else:
        _run(home, [one(kind, location, legacy=legacy, said=said)], follow=follow, interval=interval)


COMMANDS: tuple[click.Command, ...] = (connect,)


def refuse_of_one(said: Mapping[str, str], *, legacy: bool) -> None:
    """Raise UsageError where options of one source were given without one."""
    given = [f"--{name.replace('_', '-')}" for name, value in said.items() if value] + ["--legacy"] * legacy
    if given:
        raise click.UsageError(f"{' and '.join(given)} are of one source: give KIND and LOCATION, or write the file")


def from_file(path: Path | None) -> list[SourceConfig]:
    """The sources of the file at ``path``, without one of ./tradetape.toml. Raises TradetapeError."""
    from tradetape.infra import connect_file

    return connect_file.read(path or connect_file.DEFAULT, os.environ)


def one(kind: str, location: str, *, legacy: bool, said: Mapping[str, Any]) -> SourceConfig:
    """The source that a command line names. Raises UsageError and TradetapeError."""
    from tradetape.infra import connect_file
    from tradetape.infra.connect import SourceConfig, expand

    config = SourceConfig(kind, expand(location, os.environ), legacy=legacy or None, **said)
    try:
        connect_file.check(config)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return config


def _run(home: Path, sources: Sequence[SourceConfig], *, follow: bool, interval: float) -> None:
    from tradetape.infra import connect as connecting
    from tradetape.infra import settings
    from tradetape.infra.connect_status import Reports
    from tradetape.schemas.errors import TradetapeError

    found = settings.load(home, require=("bootstrap_servers", "registry_url"))
    _allow_many_files()
    with _stopped_by_signals() as stop:
        results = connecting.run(
            found.home,
            sources,
            partial(connecting.to_kafka, found.home, found.bootstrap_servers, found.registry_url),
            follow=follow,
            stop=stop,
            interval=interval,
            on_report=Reports(found.home, _say if follow else lambda _: None),
            on_warning=_say,
        )
    failed = [result for result in results if isinstance(result, TradetapeError)]
    for result in results:
        if not isinstance(result, TradetapeError):
            click.echo(describe(result))
    if len(results) == 1 and failed:
        raise failed[0]
    for error in failed:
        _say(str(error))
    if failed:
        raise TradetapeError(f"{len(failed)} of {len(results)} sources failed", hint="run the same again: it resumes")


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second one ends the process at once, which loses nothing either."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_many_files() -> None:
    """A source holds a few open files: thousands of them need more than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def describe(summary: Summary) -> str:
    """One line that says what was taken in."""
    by_count = sorted(summary.events.items(), key=lambda event: (-event[1], event[0]))
    sent = ", ".join(f"{count:,} {name}" for name, count in by_count[:SHOWN])
    if len(by_count) > SHOWN:
        sent += f" and {len(by_count) - SHOWN} types more"
    text = (
        f"{summary.sent:,} events sent ({sent})" if sent else "nothing new" if summary.already_ingested else "no events"
    )
    return f"{summary.name}: {text} [source {summary.source_id}]"


def _say(text: str) -> None:
    click.echo(f"tradetape: {' '.join(text.split())}", err=True)


def _show_status(home: Path, output: str) -> None:
    from tradetape.infra import connect_status

    sources = connect_status.read(home)
    if output == "json":
        click.echo(json.dumps(sources, indent=2))
    elif not sources:
        click.echo(f"no source was connected in {home}; see `tradetape connect --help`")
    else:
        _show_table(sources)


def _show_table(sources: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("source", "state", "events", "behind", "seconds behind", "updated", "last error"):
        table.add_column(column, justify="right" if column in {"events", "behind", "seconds behind"} else "left")
    for source in sources:
        state = str(source["state"])
        colour = {"following": "green", "ended": "green", "failed": "red", "away": "red"}.get(state, "yellow")
        behind, seconds = source["lag_records"], source["lag_seconds"]
        table.add_row(
            Text(source["name"]),
            Text(state, style=colour),
            f"{source['events']:,}",
            "-" if behind is None else f"{behind:,}",
            "-" if seconds is None else f"{seconds:,.1f}",
            source["updated"],
            Text(source["last_error"]),
        )
    Console().print(table)

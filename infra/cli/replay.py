"""``tradetape replay``: the same record judged again, compared with what is stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli import step as stepping
from tradetape.infra.cli.folding import progress
from tradetape.infra.cli.options import home_option, output_option, partition_option

if TYPE_CHECKING:
    from tradetape.sinks.portfolio_check import Checked
    from tradetape.sinks.replay import Difference, Outcome


@click.command()
@click.option("--from-topic", "source", flag_value="topic", help="Fold the records of tradetape.events in Kafka.")
@click.option("--from-store", "source", flag_value="store", help="Fold the original bytes in ClickHouse.")
@partition_option("Only this raw partition; repeatable [all].")
@click.option("--step", metavar="AGGREGATE", help="Walk one order, position, chain or instance, event by event.")
@output_option
@home_option
@click.pass_context
def replay(  # noqa: PLR0917 (click passes them by name)
    context: click.Context, source: str | None, partitions: tuple[int, ...], step: str | None, output: str, home: Path
) -> None:
    """Judge the record again from its first event on, and compare every verdict, figure and alert with the store.

    With --step nothing is compared: each event of one aggregate is shown with what it changed in the state.

    Exit code 0: equal to the last digit. 1: something differs or is missing, the first place is named. 2: it could not
    run. What another version of the core judged is folded and counted, not compared.
    """
    if step is not None:
        stepping.show(home, step, output)
        return
    if source is None:
        raise click.UsageError("give --from-topic or --from-store, or --step AGGREGATE")
    with answers.or_cannot():
        outcomes = _run(home, source, partitions)
    if output == "json":
        click.echo(json.dumps(_document(source, outcomes), indent=2))
    else:
        show(outcomes, source)
    if not all(outcome.agrees for outcome in outcomes):
        context.exit(answers.DIFFERENT)
    if not any(outcome.equal for outcome in outcomes):
        context.exit(answers.CANNOT)


COMMANDS: tuple[click.Command, ...] = (replay,)


def _run(home: Path, source: str, partitions: Sequence[int]) -> list[Outcome]:
    from tradetape.infra import replay as replaying
    from tradetape.infra import settings

    needed = ("registry_url", "clickhouse_url", *(("bootstrap_servers",) if source == "topic" else ()))
    found = settings.load(home, require=needed)
    with progress() as on_progress:
        return replaying.run(found, from_topic=source == "topic", partitions=set(partitions), on_progress=on_progress)


def _document(source: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    from tradetape.processors.version import CORE_VERSION

    first = _first(outcomes)
    return {
        "source": source,
        "core_version": CORE_VERSION,
        "agrees": all(outcome.agrees for outcome in outcomes),
        "first_difference": first._asdict() if first else None,
        "partitions": [document_of(outcome) for outcome in outcomes],
    }


def document_of(found: Outcome | Checked) -> dict[str, Any]:
    """What became of a partition, or of portfolios, as JSON."""
    return {**asdict(found), "first": found.first._asdict() if found.first else None}


def _first(outcomes: Sequence[Outcome]) -> Difference | None:
    return next((outcome.first for outcome in outcomes if outcome.first), None)


def show(outcomes: Sequence[Outcome], source: str) -> None:
    """Print what became of each partition, for people."""
    from tradetape.processors.version import CORE_VERSION

    head = ("partition", "records", "events/s", "equal", "different")
    body = [
        (o.partition, o.records, round(o.records / o.seconds) if o.seconds else 0, o.equal, o.different)
        for o in outcomes
    ]
    answers.table([head, *body])
    for note in _notes(outcomes, source, CORE_VERSION):
        click.echo(note)


def _notes(outcomes: Sequence[Outcome], source: str, core_version: str) -> Iterator[str]:
    """What the table does not say, the verdict last."""
    other_core: Counter[str] = Counter()
    for outcome in outcomes:
        other_core.update(outcome.other_core)
        if outcome.gap:
            place = "the store" if source == "store" else "the topic"
            missing = "{:,} to {:,}".format(*outcome.gap)
            yield f"partition {outcome.partition} stopped: offsets {missing} are not in {place}"
    for version, count in sorted(other_core.items()):
        yield f"{count:,} records were judged by core {version}, replay is core {core_version}: not compared"
    set_aside = sum(outcome.set_aside for outcome in outcomes)
    if set_aside:
        yield f"{set_aside:,} rows could not be stored as they were (quarantine, reason unstorable): not compared"
    behind = sum(outcome.not_stored for outcome in outcomes)
    if behind:
        yield f"{behind:,} records are not stored yet: not compared"
    first = _first(outcomes)
    if first:
        yield f"first difference: {first.table} {first.place} {told(first)}"
    equal, different = sum(o.equal for o in outcomes), sum(o.different for o in outcomes)
    if different:
        yield f"{different:,} rows differ, {equal:,} are equal"
    elif not equal:
        yield "nothing was compared"
    elif all(outcome.agrees for outcome in outcomes):
        yield f"all {equal:,} rows are equal to the last digit"


def told(difference: Difference) -> str:
    """What a difference is, in a line."""
    if difference.stored is None:
        return "is not stored"
    if difference.replayed is None:
        return "is stored, and nothing caused it"
    from tradetape.sinks.results import printable

    return f"{difference.field}: stored {printable(difference.stored)}, replayed {printable(difference.replayed)}"

"""``tradetape verify``: the auditor's command. Does everything stored follow from the stored bytes? (P-06, S3-09)"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli import answers, replay
from tradetape.infra.cli.folding import progress
from tradetape.infra.cli.options import home_option, output_option, partition_option

if TYPE_CHECKING:
    from tradetape.infra.verification import Verdict


@click.command()
@partition_option("Only this raw partition, and no portfolios; repeatable [all].")
@output_option
@home_option
@click.pass_context
def verify(context: click.Context, partitions: tuple[int, ...], *, output: str, home: Path) -> None:
    """Compute everything that is stored again from the stored original bytes, and compare to the last digit.

    Verdicts, links, findings, figures, alerts and Turtle's arithmetic as `replay --from-store` does; that no record is
    missing or doubled; that no row stands where no record is; figures of portfolios; snapshots.

    Exit code 0: OK. 1: something differs, the places are named. 2: it could not run. Whether Kafka has more than the
    store is another question: `query completeness`, `replay --from-topic`.
    """
    with answers.or_cannot():
        verdict = _run(home, partitions)
    if output == "json":
        click.echo(json.dumps(_document(verdict), indent=2))
    else:
        replay.show(verdict.outcomes, "store")
        for line in _lines(verdict):
            click.echo(line)
    if not verdict.agrees:
        context.exit(answers.DIFFERENT)
    if not verdict.equal:
        context.exit(answers.CANNOT)


COMMANDS: tuple[click.Command, ...] = (verify,)


def _run(home: Path, partitions: tuple[int, ...]) -> Verdict:
    from tradetape.infra import settings, verification

    found = settings.load(home, require=("registry_url", "clickhouse_url"))
    with progress() as on_progress:
        return verification.run(found, partitions=set(partitions), on_progress=on_progress)


def _document(verdict: Verdict) -> dict[str, Any]:
    from tradetape.processors.version import CORE_VERSION

    return {
        "ok": verdict.agrees,
        "core_version": CORE_VERSION,
        "differences": [found._asdict() for found in verdict.differences()],
        "partitions": [replay.document_of(outcome) for outcome in verdict.outcomes],
        "portfolios": None if verdict.portfolios is None else replay.document_of(verdict.portfolios),
        "snapshots": verdict.snapshots,
    }


def _lines(verdict: Verdict) -> Iterator[str]:
    checked = verdict.portfolios
    if checked is None:
        yield "figures of portfolios follow from all partitions without a hole: not compared"
    else:
        yield f"portfolios: {checked.books} books, {checked.equal:,} figures equal, {checked.different:,} different"
        if checked.later:
            yield f"{checked.later:,} figures of portfolios follow from what came in meanwhile: not compared"
        if checked.not_compared:
            yield f"{checked.not_compared} books of portfolios have rows of another core, or set aside: not compared"
    if verdict.snapshots:
        yield f"{verdict.snapshots} snapshots are what the fold comes to"
    for found in verdict.differences():
        yield f"differs: {found.table} {found.place} {replay.told(found)}"
    if verdict.agrees and verdict.equal:
        yield "OK: everything that is stored follows from the stored bytes"
    elif verdict.agrees:
        yield "nothing could be compared"
    else:
        yield "NOT OK"

"""What each benchmark found, as tables; ``budgets`` is the one that says whether a budget is met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table

from benchmarks import audited_form, connectors, emit, instances, latency, queries, recovery, replaying, sink, worker
from benchmarks.budgets import Budget


def _table(title: str, headings: Sequence[str]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def budgets(console: Console, found: Iterable[Budget]) -> None:
    table = _table("Budgets", ("what", "measured", "budget", ""))
    for one in found:
        verdict = "" if one.met is None else "met" if one.met else "not met"
        table.add_row(one.what, one.found, one.promised, verdict)
    console.print(table)


def sides(console: Console, found: Iterable[Sequence[worker.Cost]]) -> None:
    table = _table("The same work, CPU µs per event", ("side", "least", "every round", "events/s"))
    for rounds in found:
        least = rounds[0]
        every = " ".join(f"{cost.cpu_us:.0f}" for cost in rounds)
        table.add_row(least.name, f"{least.cpu_us:.0f}", every, f"{least.events_per_second:,.0f}")
    console.print(table)


def sinks(console: Console, found: Iterable[sink.Cost]) -> None:
    headings = ("side", "µs", "ClickHouse µs", "rows per INSERT", "rows/s")
    table = _table("The same rows stored, CPU µs per row, least of the rounds", headings)
    for cost in found:
        us = (f"{cost.cpu_us:.1f}", f"{cost.clickhouse_us:.1f}")
        table.add_row(cost.name, *us, f"{cost.rows_per_insert:,.0f}", f"{cost.rows_per_second:,.0f}")
    console.print(table)


def growth(console: Console, found: Sequence[instances.Growth]) -> None:
    middle = next(one for one in found if one.instances == instances.MIDDLE)
    headings = ("instances", "CPU µs", "ratio", "records", "bytes", "ratio", "lz4", "keys", "state bytes")
    table = _table("The worker by instances, per event: CPU and changelog; state at the end", headings)
    for one in found:
        table.add_row(
            f"{one.instances:,}",
            f"{one.cpu_us:.0f}",
            f"{one.cpu_us / middle.cpu_us:.2f}",
            f"{one.records:.2f}",
            f"{one.written:.0f}",
            f"{one.written / middle.written:.2f}",
            f"{one.stored:.0f}",
            f"{one.keys:,}",
            f"{one.state_bytes:,}",
        )
    console.print(table)


def recoveries(console: Console, found: Iterable[recovery.Recovery]) -> None:
    table = _table(
        "Start of a worker without local state to its first output, s", ("keys", "changelog records", "least", "most")
    )
    for one in found:
        table.add_row(f"{one.keys:,}", f"{one.records:,}", f"{one.seconds:.1f}", f"{one.longest:.1f}")
    console.print(table)


def forms(console: Console, forms: audited_form.Forms) -> None:
    kafka = Table(title="Audited record: worker CPU µs per event, bytes per record on Kafka")
    for heading in ("form", "build", "encode", "lz4", "sum", "bytes", "bytes lz4"):
        kafka.add_column(heading, justify="left" if heading == "form" else "right")
    for form in forms.kafka:
        worker_us = (form.build_us, form.encode_us, form.lz4_us, form.worker_us)
        kafka.add_row(form.form, *(f"{us:.1f}" for us in worker_us), f"{form.bytes_plain:.0f}", f"{form.bytes_lz4:.0f}")
    console.print(kafka)
    flushes = Table(title="Audited record: one flush of the sink, CPU µs per row")
    for heading in ("rows", "form", "types", "sink", "ClickHouse", "sum", "wall ms", "INSERTs", "parts"):
        flushes.add_column(heading, justify="left" if heading == "form" else "right")
    for flush in forms.flushes:
        row_us = (flush.sink_us, flush.clickhouse_us, flush.cpu_us)
        flushes.add_row(
            f"{flush.rows:,}",
            flush.form,
            str(flush.types),
            *(f"{us:.1f}" for us in row_us),
            f"{flush.wall_ms:.0f}",
            f"{flush.inserts:.0f}",
            f"{flush.parts:.0f}",
        )
    console.print(flushes)


def emitting(console: Console, found: list[emit.Emitting]) -> None:
    table = Table(title=f"One event in the bot's thread, µs; budget of the median {emit.BUDGET_US:.0f}")
    for heading in ("what", "p50", "p99", "p99.9", "CPU", "drained events/s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for one in found:
        drained = "" if one.drained_per_second is None else f"{one.drained_per_second:,.0f}"
        table.add_row(one.name, *(f"{us:.1f}" for us in (one.p50, one.p99, one.p999, one.cpu)), drained)
    console.print(table)


def stores(console: Console, found: list[connectors.Reading]) -> None:
    table = Table(title="Native stores read into encoded events, CPU µs per record")
    for heading in ("store", "records", "µs", "records/s", "peer µs", "peer records/s", "ratio"):
        table.add_column(heading, justify="left" if heading == "store" else "right")
    for one in found:
        rates = (f"{one.own_us:.0f}", f"{one.own_per_second:,.0f}", f"{one.peer_us:.1f}", f"{one.peer_per_second:,.0f}")
        table.add_row(one.kind, f"{one.records:,}", *rates, f"{one.own_us / one.peer_us:.1f}")
    console.print(table)


def latencies(console: Console, found: latency.Latency) -> None:
    headings = ("events/s", "events", "behind at the end", "held", "p50 s", "p90 s", "p99 s", "longest s")
    table = _table("From an event's send to its row being queryable", headings)
    for one in found.rates:
        seconds = (f"{value:.2f}" for value in (one.p50, one.p90, one.p99, one.longest))
        held = "yes" if one.held else "no"
        table.add_row(f"{one.rate:,.0f}", f"{one.events:,}", f"{one.behind:,}", held, *seconds)
    console.print(table)


def answers(console: Console, found: Sequence[queries.Size]) -> None:
    headings = ["query", *(text for size in found for text in (f"rows read, {size.rows / 1e6:.0f} M", "%", "ms"))]
    table = _table("Named queries: rows read, in percent of the rows of the tables they name, milliseconds", headings)
    for asked in found[-1].answers:
        cells: list[str] = []
        for size in found:
            answer = size.answers[asked]
            read = ("failed", "", f"{answer.ms:,.0f}")
            cells += read if answer.error else (f"{answer.read_rows:,}", f"{answer.percent:.2f}", f"{answer.ms:,.0f}")
        table.add_row(", ".join(filter(None, asked)), *cells)
    console.print(table)
    for size in found:
        for asked, answer in size.answers.items():
            if answer.error:
                console.print(f"{asked[0]}, {size.rows:,} rows: {answer.error}", markup=False, soft_wrap=True)


def kept(console: Console, found: Sequence[queries.Size]) -> None:
    per_size = [(f"rows, {size.rows / 1e6:.0f} M", "bytes/row", "bytes/event") for size in found]
    table = _table("On disk, with indexes; an event is a record of tradetape.events", ("table", *chain(*per_size)))
    for name in dict.fromkeys(each.table for size in found for each in size.kept):
        table.add_row(
            name, *chain(*(_kept(size, [each for each in size.kept if each.table == name]) for size in found))
        )
    table.add_row("all", *chain(*(_kept(size, size.kept) for size in found)))
    console.print(table)
    for size in found:
        console.print(f"{size.rows:,} rows: {size.events:,} events, {size.days} days, {size.seconds:.0f} s to make")


def _kept(size: queries.Size, of: Sequence[queries.Kept]) -> tuple[str, str, str]:
    rows, count = sum(each.rows for each in of), sum(each.bytes for each in of)
    return f"{rows:,}", f"{count / max(rows, 1):.0f}", f"{count / size.events:.1f}"


def foldings(console: Console, found: Iterable[replaying.Folding]) -> None:
    headings = ("command", "events", "rows compared", "events/s", "CPU µs", "ClickHouse µs")
    table = _table("The record folded again and compared, per event, best of the rounds", headings)
    for one in found:
        us = (f"{one.cpu_us:.0f}", f"{one.clickhouse_us:.0f}")
        table.add_row(one.name, f"{one.events:,}", f"{one.rows:,}", f"{one.per_second:,.0f}", *us)
    console.print(table)

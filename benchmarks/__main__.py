"""``python -m benchmarks [NAME …]``: run the measurements named, by default worker and sink.

Ends with 0 whether a ratio is within its budget or over: a benchmark is no test.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks import audited_form, connectors, emit, sink, worker

DEFAULT = ("worker", "sink")
OTHERS = ("audited_form", "emit", "connectors")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A cost against that of its peer; ``budget`` is the ratio promised, None where none is."""

    what: str
    peer: str
    own_us: float
    peer_us: float
    budget: float | None

    @property
    def value(self) -> float:
        return self.own_us / self.peer_us


def _worker() -> list[Ratio]:
    own, peer = worker.run()
    return [Ratio("worker, per event", peer.name, own.cpu_us, peer.cpu_us, worker.BUDGET)]


def _sink() -> list[Ratio]:
    own, peer = sink.run()
    return [
        Ratio("sink, per row", peer.name, own.cpu_us, peer.cpu_us, sink.BUDGET),
        Ratio("ClickHouse under the sink, per row", peer.name, own.clickhouse_us, peer.clickhouse_us, None),
    ]


RATIOS: dict[str, Callable[[], list[Ratio]]] = {"worker": _worker, "sink": _sink}


def _print_ratios(console: Console, ratios: list[Ratio]) -> None:
    table = Table(title="CPU, embedded stack, least of the rounds")
    for heading in ("what", "peer", "µs", "peer µs", "ratio", "budget", ""):
        table.add_column(heading, justify="left" if heading in ("what", "peer", "") else "right")
    for ratio in ratios:
        verdict = "" if ratio.budget is None else "within" if ratio.value <= ratio.budget else "over"
        budget = "" if ratio.budget is None else f"≤ {ratio.budget:.2f}"
        costs = (f"{ratio.own_us:.1f}", f"{ratio.peer_us:.1f}", f"{ratio.value:.2f}")
        table.add_row(ratio.what, ratio.peer, *costs, budget, verdict)
    console.print(table)


def _print_forms(console: Console, forms: audited_form.Forms) -> None:
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


def _print_emitting(console: Console, found: list[emit.Emitting]) -> None:
    table = Table(title=f"One event in the bot's thread, µs; budget of the median {emit.BUDGET_US:.0f}")
    for heading in ("what", "p50", "p99", "p99.9", "CPU", "drained events/s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for one in found:
        drained = "" if one.drained_per_second is None else f"{one.drained_per_second:,.0f}"
        table.add_row(one.name, *(f"{us:.1f}" for us in (one.p50, one.p99, one.p999, one.cpu)), drained)
    console.print(table)


def _print_connectors(console: Console, found: list[connectors.Reading]) -> None:
    table = Table(title="Native stores read into encoded events, CPU µs per record")
    for heading in ("store", "records", "µs", "records/s", "peer µs", "peer records/s", "ratio"):
        table.add_column(heading, justify="left" if heading == "store" else "right")
    for one in found:
        rates = (f"{one.own_us:.0f}", f"{one.own_per_second:,.0f}", f"{one.peer_us:.1f}", f"{one.peer_per_second:,.0f}")
        table.add_row(one.kind, f"{one.records:,}", *rates, f"{one.own_us / one.peer_us:.1f}")
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run and print. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join((*RATIOS, *OTHERS))}")
    names = parser.parse_args(arguments).names or list(DEFAULT)
    unknown = [name for name in names if name not in (*RATIOS, *OTHERS)]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    console = Console()
    ratios = [ratio for name in names if name in RATIOS for ratio in RATIOS[name]()]
    if ratios:
        _print_ratios(console, ratios)
    if "audited_form" in names:
        _print_forms(console, audited_form.run())
    if "emit" in names:
        _print_emitting(console, emit.run())
    if "connectors" in names:
        _print_connectors(console, connectors.run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

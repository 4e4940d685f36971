"""``python -m benchmarks [NAME …]``: run the measurements named, by default those of worker and sink.

Ends with 0 whether a budget is met or not: a benchmark is no test. 1 where a benchmark could not run; the others do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from rich.console import Console

from benchmarks import (
    audited_form,
    connectors,
    emit,
    instances,
    latency,
    queries,
    recovery,
    replaying,
    sink,
    stack,
    tables,
    worker,
)
from benchmarks.budgets import Budget
from tradetape.schemas.errors import TradetapeError

DEFAULT = ("worker", "instances", "recovery", "sink")


def _worker(console: Console) -> list[Budget]:
    rounds = worker.run()
    tables.sides(console, rounds.values())
    found = {name: costs[0] for name, costs in rounds.items()}
    own = found["worker"].cpu_us
    return [
        Budget("worker against the bare loop", own / found["bare loop"].cpu_us, most=worker.BUDGET),
        Budget("Quix Streams against the worker", found["Quix Streams"].cpu_us / own, least=worker.QUIX_BUDGET),
        Budget("vanilla Faust against the worker", found["vanilla Faust"].cpu_us / own),
    ]


def _instances(console: Console) -> list[Budget]:
    found = instances.run()
    tables.growth(console, found)
    flat = found[-1].cpu_us / found[0].cpu_us
    low, high = 1 - instances.FLAT, 1 + instances.FLAT
    named = f"{found[-1].instances:,} instances against {found[0].instances}"
    return [
        Budget(f"worker's CPU with {named}", flat, least=low, most=high),
        *(
            Budget(
                f"changelog per event, {one.instances:,} instances",
                one.written,
                most=instances.CHANGELOG_BUDGET,
                unit="bytes",
            )
            for one in found
        ),
        *(
            Budget(
                f"the same, {one.instances:,} instances, events one by one",
                one.single_written,
                most=instances.CHANGELOG_BUDGET,
                unit="bytes",
            )
            for one in found
            if one.single_written is not None
        ),
    ]


def _recovery(console: Console) -> list[Budget]:
    found = recovery.run()
    tables.recoveries(console, found)
    return [Budget(f"start to first output, {one.keys:,} keys of state", one.seconds, unit="s") for one in found]


def _sink(console: Console) -> list[Budget]:
    own, peer, alone = sink.run()
    tables.sinks(console, (own, peer, alone))
    return [
        Budget("sink against decode and insert", own.cpu_us / peer.cpu_us, most=sink.BUDGET),
        Budget("sink and ClickHouse against AvroConfluent", (own.cpu_us + own.clickhouse_us) / alone.clickhouse_us),
    ]


def _latency(console: Console) -> list[Budget]:
    found = latency.run()
    tables.latencies(console, found)
    rate = found.best or found.rates[-1]
    at = f"at {rate.rate:,.0f}/s" + ("" if rate.held else ", not held")
    return [
        Budget("events a second that the stack holds", rate.rate if rate.held else 0.0, least=latency.RATE, unit="/s"),
        Budget(f"send to queryable row {at}, p50", rate.p50, unit="s"),
        Budget(f"send to queryable row {at}, p99", rate.p99, most=latency.BUDGET_SECONDS, unit="s"),
        Budget("events a second that the stack makes of a burst", found.limit, unit="/s"),
    ]


def _queries(console: Console) -> list[Budget]:
    found = queries.run()
    tables.answers(console, found)
    tables.kept(console, found)
    return [
        Budget(
            f"rows read by {' of '.join(filter(None, asked))}, {size.rows / 1e6:.0f} M events",
            size.answers[asked].percent,
            most=queries.BUDGET_PERCENT,
            unit="%",
        )
        for asked in queries.BUDGETED
        for size in found
    ]


def _replaying(console: Console) -> list[Budget]:
    found = replaying.run()
    tables.foldings(console, found)
    return [Budget(f"events a second, {one.name}", one.per_second, unit="/s") for one in found]


def _emit(console: Console) -> list[Budget]:
    found = emit.run()
    tables.emitting(console, found)
    return [
        Budget(f"one event in the bot's thread, {one.name}", one.p50, most=emit.BUDGET_US, unit="µs") for one in found
    ]


def _connectors(console: Console) -> list[Budget]:
    tables.stores(console, connectors.run())
    return []


def _audited_form(console: Console) -> list[Budget]:
    tables.forms(console, audited_form.run())
    return []


BENCHMARKS: dict[str, Callable[[Console], list[Budget]]] = {
    "worker": _worker,
    "instances": _instances,
    "recovery": _recovery,
    "sink": _sink,
    "audited_form": _audited_form,
    "latency": _latency,
    "queries": _queries,
    "replaying": _replaying,
    "emit": _emit,
    "connectors": _connectors,
}


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args(arguments).names or list(DEFAULT)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    console = Console()
    console.width = max(console.width, 120)
    found: list[Budget] = []
    failed = 0
    for name in names:
        started = time.monotonic()
        try:
            found += BENCHMARKS[name](console)
        except (TradetapeError, stack.Stalled) as error:
            console.print(f"tradetape benchmarks: {name}: {error}", markup=False, soft_wrap=True)
            failed = 1
        load = os.getloadavg()[0]
        console.print(f"{name}: {time.monotonic() - started:.0f} s, load average {load:.1f} at its end")
    if found:
        tables.budgets(console, found)
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""The audit report: what happened, how it is linked, what is wrong, under which figures, and is anything missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tradetape.schemas.catalogue import event_types
from tradetape.sinks import queries
from tradetape.sinks.store import Store

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report: a named query and the columns to show, as (column, heading)."""

    title: str
    query: str
    columns: Sequence[tuple[str, str]]
    params: Mapping[str, str]
    empty: str = "none"


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "market": ("market", "regime", "news", "universe"),
    "signal": ("signal",),
    "risk": ("risk",),
    "order": ("order",),
    "position": ("position", "exit", "protection"),
    "account": ("account", "portfolio", "reconciliation"),
    "alert": ("alert",),
    "system": ("cycle", "system", "audit"),
    "other": ("other",),
}
"""Columns of the report's counts: the families of event types in each."""

SECTIONS = (
    Section(
        "Risk per instance",
        "positions",
        [
            ("environment", "environment"),
            ("instance_name", "instance"),
            ("connector_name", "connector"),
            ("trading_pair", "pair"),
            ("net_base", "net base"),
            ("avg_cost", "average cost"),
            ("realised_quote", "realised"),
            ("unrealised_quote", "unrealised"),
            ("fees", "fees"),
        ],
        {},
        "no executions",
    ),
    Section(
        "Equity and orders per instance",
        "risk",
        [
            ("environment", "environment"),
            ("instance_name", "instance"),
            ("equity_asset", "in"),
            ("equity", "equity"),
            ("peak_equity", "peak"),
            ("drawdown_pct", "drawdown %"),
            ("consecutive_losses", "losses in a row"),
            ("open_orders", "open orders"),
            ("orders_1h", "orders, last hour"),
            ("cancels_1h", "cancels"),
            ("rejects_1h", "rejects"),
        ],
        {},
        "no orders, no equity",
    ),
    Section(
        "Portfolio, by environment and quote asset",
        "portfolio",
        [
            ("environment", "environment"),
            ("quote_asset", "quote"),
            ("instances", "instances"),
            ("positions", "positions"),
            ("net_exposure", "net exposure"),
            ("gross_exposure", "gross exposure"),
            ("realised", "realised"),
            ("unrealised", "unrealised"),
        ],
        {},
        "no executions",
    ),
)


def show(store: Store, console: Console, completeness: Sequence[Row]) -> None:
    """Print the whole report; ``completeness`` are the rows of the query with Kafka's offsets beside them."""
    _show_counts(console, queries.rows(store, "counts"))
    _show_links(console, queries.rows(store, "links"))
    _show_findings(console, queries.rows(store, "findings"))
    _show_quarantine(console, queries.rows(store, "quarantine"))
    for section in SECTIONS:
        found = queries.rows(store, section.query, section.params)
        _table(
            console, section.title, [heading for _, heading in section.columns], _cells(found, section), section.empty
        )
    _show_lag(console, queries.rows(store, "event_lag"))
    show_completeness(console, completeness)


def _cells(found: Iterable[Row], section: Section) -> list[list[str]]:
    return [[text(row[name]) for name, _ in section.columns] for row in found]


def text(value: Any) -> str:
    """A cell: long decimals shortened to 8 places for the eye, lists and maps in one line."""
    if isinstance(value, dict):
        return " ".join(f"{text(amount)} {asset}" for asset, amount in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and value.count(".") == 1:
        whole, _, places = value.partition(".")
        if whole.lstrip("-").isdigit() and places.isdigit():
            return f"{whole}.{places[:8]}"
    return "" if value is None else str(value)


def _table(console: Console, title: str, headings: Sequence[str], cells: Sequence[Sequence[str]], empty: str) -> None:
    if not cells:
        console.print(f"\n[bold]{title}[/bold]: {empty}")
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if _numeric(cells, position) else "left", overflow="fold")
    for line in cells:
        table.add_row(*line)
    console.print(table)


def _numeric(cells: Sequence[Sequence[str]], position: int) -> bool:
    texts = [line[position].replace(".", "").replace("-", "").replace(",", "") for line in cells]
    return any(texts) and all(not each or each.isdigit() for each in texts)


def _show_counts(console: Console, found: Iterable[Row]) -> None:
    column_of = {family: column for column, families in COLUMNS.items() for family in families}
    totals: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in found:
        known = event_types().get(row["event_type"])
        totals[row["instance_name"]][column_of[known.family if known else "other"]] += row["n"]
    columns = [name for name in COLUMNS if any(counts[name] for counts in totals.values())]
    cells = [
        [instance, *(f"{counts[name]:,}" if counts[name] else "" for name in columns), f"{sum(counts.values()):,}"]
        for instance, counts in sorted(totals.items())
    ]
    title = "Events by kind and instance (each type: `tradetape query counts`)"
    _table(console, title, ["instance", *columns, "all"], cells, "none")


def _show_links(console: Console, found: Iterable[Row]) -> None:
    totals: dict[str, int] = defaultdict(int)
    for row in found:
        totals[row["link"]] += row["n"]
    console.print("[bold]Links[/bold]: " + ", ".join(f"{n:,} {link}" for link, n in sorted(totals.items())))


def _show_findings(console: Console, found: Iterable[Row]) -> None:
    subjects: dict[str, int] = defaultdict(int)
    instances: dict[str, list[str]] = defaultdict(list)
    for row in found:
        subjects[row["code"]] += row["subjects"]
        instances[row["code"]].append(f"{row['instance_name']} ({row['subjects']})")
    cells = [[code, f"{n:,}", ", ".join(instances[code])] for code, n in sorted(subjects.items())]
    _table(console, "Open findings", ["finding", "orders or events", "instances"], cells, "none")


def _show_quarantine(console: Console, found: Iterable[Row]) -> None:
    examples: dict[str, tuple[int, str, str]] = {}
    for row in found:
        reasons = text(row["reasons"])
        n, _, _ = examples.get(reasons, (0, "", ""))
        place = f"{row['file']}:{row['line']}" if row["file"] else f"offset {row['raw_partition']}/{row['raw_offset']}"
        examples[reasons] = (n + 1, place, row["reason_detail"])
    cells = [[reasons, f"{n:,}", place, detail[:70]] for reasons, (n, place, detail) in sorted(examples.items())]
    _table(
        console,
        "Quarantine: rejected, kept with reasons and bytes",
        ["reasons", "records", "e.g.", "found"],
        cells,
        "empty",
    )


def _show_lag(console: Console, found: Sequence[Row]) -> None:
    cells = [
        [row["instance_name"], f"{row['events']:,}", *(_duration(row[name]) for name in ("p50", "p90", "p99", "max"))]
        for row in found
    ]
    _table(
        console,
        "Lag from an event's own time to Kafka",
        ["instance", "events", "p50", "p90", "p99", "max"],
        cells,
        "none",
    )


def _duration(seconds: Any) -> str:
    """A duration for the eye; bots' databases may be years old when they are taken in."""
    length = float(seconds)
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(length) >= size:
            return f"{length / size:,.1f} {unit}"
    return f"{length:.3f} s"


def show_completeness(console: Console, completeness: Sequence[Row]) -> None:
    """Print Kafka's offsets against the stored rows, and the verdict in one line."""
    cells = [[text(value) for value in row.values()] for row in completeness]
    headings = [name.replace("_", " ") for name in completeness[0]] if completeness else []
    _table(
        console, "Completeness: offsets in Kafka against rows in ClickHouse", headings, cells, "nothing ingested yet"
    )
    lost = sum(row["missing"] for row in completeness)
    double = sum(row["doubles"] for row in completeness)
    colour = "red" if lost or double else "green"
    console.print(f"[bold {colour}]{lost} lost, {double} double[/bold {colour}]")

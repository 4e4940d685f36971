"""Chains, as trees and in the order of time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.integration.expected.record import Row, chain_of, expect, link_of, one, said, show

LIFECYCLE = one("market_candle")
CANCELLED = one("order_cancelled")


def _chain(correlation_id: str) -> list[Row]:
    return [row for row in said() if chain_of(row) == correlation_id]


def _tree(correlation_id: str) -> Iterator[Row]:
    rows = _chain(correlation_id)
    ids = [row["event_id"] for row in rows]
    parents = {}
    for row in rows:
        parent = row["causation_id"] if row["causation_id"] in ids else ""
        if not parent and row["event_id"] != correlation_id and correlation_id in ids:
            parent = correlation_id
        parents[row["event_id"]] = parent

    def below(parent: str, depth: int) -> Iterator[Row]:
        for row in rows:
            if parents[row["event_id"]] == parent:
                names = "ts_utc instance_name trading_pair outcome order_id side price quantity event_id causation_id"
                event = "  " * depth + row["event_type"]
                yield show(row, names, depth=depth, event=event, link=link_of(row))
                yield from below(row["event_id"], depth + 1)

    return below("", 0)


@expect("tree", correlation_id=LIFECYCLE["event_id"])
def _() -> list[Row]:
    tree = list(_tree(LIFECYCLE["event_id"]))
    assert max(row["depth"] for row in tree) == 13
    return tree


@expect("tree", correlation_id=one("alert_received")["event_id"])
def _() -> list[Row]:
    return list(_tree(one("alert_received")["event_id"]))


@expect("tree", correlation_id=CANCELLED["event_id"])
def _() -> list[Row]:
    tree = list(_tree(CANCELLED["event_id"]))
    assert [row["depth"] for row in tree] == [0, 0, 0] or [row["depth"] for row in tree] == [0, 1, 1]
    return tree


@expect("tree", correlation_id="nothing")
@expect("chain", correlation_id="nothing")
def _() -> list[Row]:
    return []


@expect("chain", correlation_id=LIFECYCLE["event_id"])
def _() -> Iterator[Row]:
    names = "ts_utc instance_name event_type event_id causation_id link order_id side price quantity outcome findings"
    return (show(row, f"{names} payload raw_partition raw_offset") for row in _chain(LIFECYCLE["event_id"]))


@expect("chain", correlation_id=CANCELLED["event_id"])
def _() -> Iterator[Row]:
    return (show(row, "event_type event_id", link=link_of(row)) for row in _chain(CANCELLED["event_id"]))

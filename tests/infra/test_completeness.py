"""What Kafka holds beside what is stored."""

from __future__ import annotations

from typing import Any

import pytest

from tradetape.infra import completeness
from tradetape.sinks import queries
from tradetape.sinks.store import Store


def stored(last: int, offsets: int) -> dict[str, Any]:
    """A row of the query, of a partition whose offsets are stored up to ``last``, some of them."""
    return {"raw_partition": 0, "rows": offsets, "offsets": offsets, "last": last, "holes": last + 1 - offsets}


@pytest.mark.req("P-03", "S3-09")
@pytest.mark.parametrize(
    ("kafka", "row", "missing", "holes"),
    [
        ((0, 10), stored(9, 10), 0, 0),
        ((0, 10), stored(6, 7), 3, 0),
        ((0, 10), stored(9, 8), 2, 2),
        ((0, 10), stored(6, 4), 6, 3),
        ((0, 10), None, 10, 0),
        # Kafka forgot its first records: those that are stored make up for none that is missing.
        ((5, 10), stored(6, 7), 3, 0),
        ((8, 10), stored(6, 7), 2, 0),
        ((5, 10), None, 5, 0),
    ],
    ids=["all", "behind", "holes", "both", "none", "trimmed", "trimmed beyond", "trimmed, none"],
)
def test_missing_are_holes_and_what_is_not_stored_yet(
    monkeypatch: pytest.MonkeyPatch,
    kafka: tuple[int, int],
    row: dict[str, Any] | None,
    missing: int,
    holes: int,
) -> None:
    monkeypatch.setattr(completeness, "kafka_offsets", lambda _: {0: kafka})
    monkeypatch.setattr(queries, "rows", lambda *_: [row] if row else [])
    (found,) = completeness.compare(Store("http://nowhere"), "nowhere")
    assert (found["missing"], found["holes"]) == (missing, holes)

"""The named queries as files: heads, parameters, and what a person gets wrong. And how answers are shown."""

from __future__ import annotations

import re

import pytest

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import queries
from tradetape.sinks.results import render

REQUIRED = {
    *("chain", "tail", "counts", "findings", "finding_details", "positions", "portfolio", "risk", "open_orders"),
    *("quarantine", "completeness", "links", "throughput", "count_delta", "missing_correlation", "invalid_schema"),
    "event_lag",
}


@pytest.mark.req("S3-09")
def test_the_listing() -> None:
    assert set(queries.listing()) >= REQUIRED
    assert list(queries.listing()) == sorted(queries.listing())


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_declared_parameters_are_those_used(name: str) -> None:
    query = queries.load(name)
    assert query.purpose.endswith(".")
    used = set(re.findall(r"{(\w+):(\w+)}", query.sql))
    assert used == {(param.name, param.type) for param in query.params}


def test_an_unknown_query_lists_the_names() -> None:
    with pytest.raises(TradetapeError, match="chain, completeness"):
        queries.load("nope")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("chain", {}, "query chain needs correlation_id"),
        ("tail", {"m": "1"}, "query tail has no parameter m; it takes instance_name, n"),
        ("counts", {"m": "1"}, "no parameter m"),
        ("findings", {"status": "opened"}, "open, resolved, noted, all"),
        ("quarantine", {"disposition": "accepted"}, "rejected, duplicate, all"),
    ],
)
def test_what_a_person_gets_wrong(name: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(TradetapeError, match=message):
        queries.load(name).bind(given)


def test_defaults() -> None:
    assert queries.load("tail").bind({"n": "7"}) == {"instance_name": "", "n": "7"}


def test_a_table_is_aligned_and_safe_for_a_terminal() -> None:
    pieces = [b'["name","n"]\n["a\\u001b[31m","1', b'0"]\n["long name",-2]\n']
    assert list(render(pieces, "table")) == [
        "name        n",
        "─────────  ──",
        "a�[31m     10",
        "long name  -2",
    ]
    assert list(render([b'["name"]\n'], "table")) == ["no rows"]


def test_json_lines_come_through_as_they_are() -> None:
    assert list(render([b'{"a":1}\n{"b"', b':"2"}\n'], "json")) == ['{"a":1}', '{"b":"2"}']

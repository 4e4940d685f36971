"""The named queries as files: heads, parameters, and what a person gets wrong. And how answers are shown."""

from __future__ import annotations

import re

import pytest

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import queries
from tradetape.sinks.results import render, rows


@pytest.mark.req("S0-06", "S0-08", "S1-08", "S3-09")
def test_the_listing_has_what_the_documents_ask() -> None:
    assert list(queries.listing()) == sorted(queries.listing())
    hooks = {"count_delta", "missing_correlation", "invalid_schema", "event_lag"}
    lookups = {"by_type", "aggregate", "time_range", "event", "chain", "tree", "run", "tail", "event_counts", "health"}
    turtle = {"market", "why_exit", "failed_orders", "pyramid_rate", "run", "market_at_entry", "five_questions"}
    assert queries.listing().keys() >= hooks | lookups | turtle | {"report_card", "completeness", "immutability"}
    rules = {name.split("_")[2] for name in queries.listing() if name.startswith("turtle_rule_")}
    # Rule 15, rolling futures over, does not apply to stocks.
    assert rules == {f"{number:02}" for number in range(3, 18)} - {"15", "16"} | {"16a", "16b"}


@pytest.mark.parametrize("name", sorted(queries.listing()))
def test_declared_parameters_are_those_used(name: str) -> None:
    query = queries.load(name)
    assert query.purpose.endswith(".")
    assert not query.notes or query.notes.endswith(".")
    used = set(re.findall(r"{(\w+):(\w+)}", query.sql))
    assert used == {(param.name, param.type) for param in query.params}


def test_an_unknown_query_names_those_spelt_alike() -> None:
    with pytest.raises(TradetapeError, match=r"no query 'tial'; did you mean tail\?"):
        queries.load("tial")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("chain", {}, "query chain needs correlation_id"),
        ("tail", {"m": "1"}, "query tail has no parameter m; it takes instance_name, event_type, since, until, n"),
        ("counts", {"m": "1"}, "no parameter m"),
        ("findings", {"status": "opened"}, "open, resolved, noted, all"),
        ("quarantine", {"disposition": "accepted"}, "rejected, duplicate, all"),
    ],
)
def test_what_a_person_gets_wrong(name: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(TradetapeError, match=message):
        queries.load(name).bind(given)


def test_defaults() -> None:
    assert queries.load("throughput").bind({}) == {"n": "60"}
    assert queries.load("market_at_entry").bind({"n": "7"}) == {"instance_name": "", "trading_pair": "", "n": "7"}


def test_a_table_is_aligned_and_safe_for_a_terminal() -> None:
    pieces = [b'["name","n"]\n["a\\u001b[31m","1', b'0"]\n["long name",-2]\n']
    assert list(render(pieces, "table")) == [
        "name        n",
        "─────────  ──",
        "a�[31m     10",
        "long name  -2",
    ]
    assert list(render([b'["name"]\n'], "table")) == ["no rows"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_rows_are_read_wherever_an_answer_is_cut(end: bytes) -> None:
    whole = b'{"kill_id":"run-7:kill"}\n{"kill_id":"other"}' + end
    for cut in range(len(whole)):
        assert [row["kill_id"] for row in rows([whole[:cut], whole[cut:]])] == ["run-7:kill", "other"]
    assert list(rows([])) == []


def test_json_lines_come_through_as_they_are() -> None:
    assert list(render([b'{"a":1}\n{"b"', b':"2"}\n'], "json")) == ['{"a":1}', '{"b":"2"}']

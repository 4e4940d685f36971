"""Numbered histories: what is missing, what came twice, what came late."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import fold
from tests.processors.events import event

from tradetape.processors import sequences
from tradetape.processors.core import Output
from tradetape.processors.sequences import Track

CODES = ("sequence_gap", "sequence_repeated", "sequence_regressed")


def in_run(number: int, **fields: Any) -> dict[str, Any]:
    return event("system_started", {}, run_id="run-1", sequence=number, source_id="s", **fields)


def of_position(number: int, **fields: Any) -> dict[str, Any]:
    payload = {"position_id": "p1", "new_price": "2"}
    place = {"aggregate_type": "position", "aggregate_id": "p1", "aggregate_sequence": number}
    return event("position_priced", payload, source_id="s", **place, **fields)


def found(outputs: list[Output]) -> list[tuple[str, str, str]]:
    return [
        (finding["code"], finding["status"], finding["subject"])
        for output in outputs
        for finding in output.audited["findings"]
        if finding["code"] in CODES
    ]


@pytest.mark.req("S0-02")
@pytest.mark.parametrize("start", [0, 1])
def test_a_run_without_gaps_shows_nothing(start: int) -> None:
    assert found(fold([in_run(number) for number in range(start, 9)])) == []


@pytest.mark.req("S0-02")
def test_a_gap_opens_with_the_numbers_that_are_missing_and_closes_when_they_come() -> None:
    outputs = fold([in_run(1), in_run(4), in_run(3), in_run(2), in_run(5)])
    assert found(outputs) == [
        ("sequence_gap", "opened", "run-1"),
        ("sequence_regressed", "noted", "run-1"),
        ("sequence_regressed", "noted", "run-1"),
        ("sequence_gap", "resolved", "run-1"),
    ]
    assert json.loads(outputs[1].audited["findings"][0]["detail"]) == {"missing": [[2, 3]], "highest": 4}


@pytest.mark.req("S0-02")
def test_a_run_that_does_not_begin_with_one_has_lost_its_beginning() -> None:
    assert found(fold([in_run(3)])) == [("sequence_gap", "opened", "run-1")]


@pytest.mark.req("S0-02")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_number_that_comes_twice_is_found(number: int) -> None:
    outputs = fold([in_run(0), in_run(1), in_run(2), in_run(number)])
    assert found(outputs) == [("sequence_repeated", "opened", "run-1")]


@pytest.mark.req("S1-02")
def test_aggregates_count_for_themselves() -> None:
    outputs = fold([of_position(1), of_position(2), of_position(5), of_position(5), of_position(3)])
    assert found(outputs) == [
        ("sequence_gap", "opened", "position:p1"),
        ("sequence_repeated", "opened", "position:p1"),
        ("sequence_regressed", "noted", "position:p1"),
    ]


@pytest.mark.req("S0-02", "S1-02")
def test_sources_runs_environments_and_bots_do_not_share_numbers() -> None:
    others: list[dict[str, Any]] = [{"source_id": "t"}, {"run_id": "run-2"}, {"environment": "paper"}]
    first = [event("system_started", {}, **{"run_id": "run-1", "sequence": 1, "source_id": "s", **o}) for o in others]
    assert found(fold([in_run(1), *first])) == []


@pytest.mark.req("S0-02", "S3-05")
def test_a_rejected_event_is_not_missing_and_its_correction_not_repeated() -> None:
    broken = {**in_run(2), "event_version": "v9"}
    outputs = fold([in_run(1), broken, in_run(3), in_run(2), in_run(2)])
    assert [output.audited["disposition"] for output in outputs].count("rejected") == 1
    assert found(outputs) == [("sequence_repeated", "opened", "run-1")]


@pytest.mark.req("S0-02", "S1-02")
@given(st.permutations(range(1, 12)), st.sets(st.integers(1, 11), max_size=4))
def test_a_gap_stays_open_exactly_while_numbers_are_missing(order: list[int], lost: set[int]) -> None:
    came = [number for number in order if number not in lost]
    outputs = fold([in_run(number) for number in came])
    told = [status for code, status, _ in found(outputs) if code == "sequence_gap"]
    missing = set(range(1, max(came, default=0))) - set(came)
    assert told == ["opened", "resolved"] * (len(told) // 2) + ["opened"] * bool(missing)
    assert not [code for code, _, _ in found(outputs) if code == "sequence_repeated"]


@pytest.mark.req("S0-02")
def test_what_is_missing_stays_within_its_bound_however_it_is_split() -> None:
    track = Track()
    sequences._advance(track, 1_000_000)
    for number in range(2, 4 * sequences.RANGES, 2):
        assert sequences._fill(track, number)
        assert len(track.missing) <= sequences.RANGES

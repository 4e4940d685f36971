"""Every event type ships examples; all of them run through reading, rules and codec."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from tests.schemas import examples

from tradetape.schemas import codec, envelope_json, rules
from tradetape.schemas.catalogue import event_types

CONTROL = "unmapped_record"
"""Written by adapters only: as a line from outside it is no event type."""


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.req("S3-04")
def test_every_type_has_examples_of_both_kinds_and_no_file_is_left_over() -> None:
    for name in event_types():
        assert examples.load(name)["valid"]
        assert examples.load(name)["invalid"]
    there = {path.name for path in files("tradetape.schemas").joinpath("examples").iterdir()}
    assert there == {f"{name}.json" for name in event_types()}


@pytest.mark.req("S3-01", "S3-04", "S3-06")
@pytest.mark.parametrize(("name", "example"), examples.cases("valid"), ids=examples.name_of)
def test_valid_examples_are_accepted_and_survive_the_codec(name: str, example: dict[str, Any]) -> None:
    event_type = event_types()[name]
    reading = envelope_json.read(line(example["event"]), source_id="s", legacy=name == CONTROL)
    if name == CONTROL:
        assert [violation.code for violation in reading.violations] == ["unknown_event_type"]
        event = reading.event | {"payload": example["event"]["payload"]}
    else:
        assert reading.violations == []
        event = reading.event
    assert not list(rules.violations(event, event_type))
    decoded = codec.Decoder(event_type.schema).decode(codec.Encoder(event_type.schema, 7).encode(event))
    assert decoded == event
    extra = example["event"]["payload"].keys() - event_type.payload_keys
    assert extra == (json.loads(decoded["extra"]).keys() if decoded["extra"] else set())


@pytest.mark.req("S3-05")
@pytest.mark.parametrize(("name", "example"), examples.cases("invalid"), ids=examples.name_of)
def test_invalid_examples_are_rejected_for_their_reason(name: str, example: dict[str, Any]) -> None:
    assert example["reason"] in rules.REASONS
    reading = envelope_json.read(line(example["event"]), source_id="s")
    assert [violation.code for violation in reading.violations] == [example["reason"]]

"""Quantum's document, read as it is: every stream, payload field and value of it has a typed place (S4-01, S3-10)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradetape.producers.adapters import quantum
from tradetape.producers.adapters.mapping import rules
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.adapters.quantum_entries import FLOW, EntryId, is_known, is_stream_name
from tradetape.producers.connectors.quantum.limits import LIMITS
from tradetape.producers.connectors.quantum.source import RETRIES_MS
from tradetape.producers.events import Event
from tradetape.producers.simulator.quantum.writer import DEFAULT_MAXLEN, HEARTBEAT_MS, MAXLEN
from tradetape.schemas import times
from tradetape.schemas.catalogue import event_types

SHARED = Path(os.environ.get("TRADETAPE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TEXT = (SHARED / "seeds" / "004_fe160da1a01dc225.txt").read_text(encoding="utf-8")

ORIGIN = Origin(source_id="redis-1", instance_name="quantum1", connector_name="binance", producer="quantum")
ENTRY = EntryId(1_714_564_800_123, 4)
TIME = "2024-05-01T12:00:00.000250Z"

Payload = dict[str, Any]
"""Field → its type as written, or a Payload of its own."""


def section(number: int) -> str:
    return re.split(r"^## \d+\. ", TEXT, flags=re.MULTILINE)[number]


def streams() -> dict[str, Payload]:
    """Stream → payload, from the YAML blocks of section 3."""
    found: dict[str, Payload] = {}
    for block in re.findall(r"```yaml\n(.*?)```", section(3), re.DOTALL):
        for name, body in re.findall(r"^([a-z_.]+):\n((?:  .*\n|\n)+)", block, re.MULTILINE):
            lines = re.search(r"^  payload:\n((?:    .*\n)+)", body, re.MULTILINE)
            assert lines, f"{name} has no payload"
            found[name] = payload_of(lines[1])
    return found


def payload_of(lines: str) -> Payload:
    payload: Payload = {}
    inner: Payload = payload
    for line in lines.splitlines():
        if line.startswith("    - "):
            break
        match = re.fullmatch(r"(    |      )(\w+):\s*([^#]*?)\s*(#.*)?", line)
        assert match, f"cannot read {line!r}"
        indent, field, said = len(match[1]), match[2], match[3]
        if indent == 4 and not said:
            inner = payload[field] = {}
        else:
            (payload if indent == 4 else inner)[field] = said.strip('"')
    return payload


STREAMS = streams()


def choices(said: str) -> list[str]:
    return [part.strip() for part in said.split("|")] if "|" in said else []


class Values:
    """A value for every field, each another one, so that it can be found again."""

    def __init__(self) -> None:
        self.number = 40

    def of(self, field: str, said: Any) -> Any:
        self.number += 1
        if isinstance(said, dict):
            return {name: self.of(name, inner) for name, inner in said.items()}
        if field == "symbol":
            return "BTCUSDT"
        if said == "datetime":
            return TIME
        if choices(said):
            return choices(said)[0]
        made = {
            "string": f"{field} {self.number}",
            "float": f"{self.number}.5",
            "int": str(self.number),
            "bool": "true",
            "object": {"key": f"value {self.number}"},
            "list": [f"item {self.number}"],
            "NONE": "NONE",
        }
        return made[said]


def adapted(stream: str, payload: Payload, **metadata: str) -> Event:
    """The event of the payload as flat text, as Redis holds it."""
    flat = {name: value if isinstance(value, str) else json.dumps(value) for name, value in payload.items()} | metadata
    return quantum.from_entry(ORIGIN, stream, ENTRY, [(name.encode(), text.encode()) for name, text in flat.items()])


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, Decimal):
        yield f"{value.normalize():f}"
    elif isinstance(value, bool) or value is not None:
        yield str(value)


@pytest.mark.req("S4-01", "S3-10")
def test_the_document_lists_the_streams_that_are_known() -> None:
    assert len(STREAMS) == 21
    named = set(re.findall(r"^(\S+\.\S+)\s+→", section(2), re.MULTILINE))
    assert "system.kill_switch.activated" in named
    elsewhere = set(re.findall(r"^\s*(?:stream: |\d+\. |  )([a-z_]+\.[a-z_.]+)\b", TEXT, re.MULTILINE))
    for name in STREAMS.keys() | named | elsewhere:
        if is_stream_name(name):
            assert is_known(name), name
    assert set(FLOW) == STREAMS.keys() | {"system.kill_switch.activated"} == rules("quantum").keys()


@pytest.mark.req("S4-01", "S3-10")
@pytest.mark.parametrize("stream", [*STREAMS, "system.kill_switch.activated"])
@pytest.mark.parametrize("form", ["flat", "payload", "data", "event"])
def test_every_field_has_a_typed_place(stream: str, form: str) -> None:
    values = Values()
    said = STREAMS.get(stream) or STREAMS["risk.kill_switch.activated"]
    payload = {field: values.of(field, kind) for field, kind in said.items()}
    event = adapted(stream, payload) if form == "flat" else adapted(stream, {form: json.dumps(payload)})
    assert event["event_type"] == rules("quantum")[stream].event, event["payload"]
    assert event["extra"] is None
    assert event["ts_utc"] == times.parse(TIME)
    assert event["native_type"] == stream
    assert "ts_utc" not in event["assumed"]
    if "symbol" in said:
        assert event["trading_pair"] == "BTC-USDT"
    kept = list(leaves(event["payload"]))
    for field, kind in said.items():
        if field in ("symbol", "timestamp") or (isinstance(kind, str) and choices(kind)):
            continue
        for value in leaves(payload[field]):
            assert any(has(value, place) for place in kept), f"{field}: {value!r} is in none of {kept}"


def has(value: str, place: str) -> bool:
    if value == TIME:
        return place == str(times.parse(TIME))
    return value == place or value.lower() == place.lower() or json.dumps(value) in place


@pytest.mark.req("S4-01", "S3-10")
@pytest.mark.parametrize(
    ("stream", "field"),
    [
        (stream, field)
        for stream, said in STREAMS.items()
        for field, kind in said.items()
        if isinstance(kind, str) and choices(kind)
    ],
)
def test_every_value_of_an_enumeration_is_told_apart(stream: str, field: str) -> None:
    said = STREAMS[stream]
    results = set()
    for choice in choices(said[field]):
        for spelling in (choice, choice.lower()):
            values = Values()
            payload = {name: values.of(name, kind) for name, kind in said.items()} | {field: spelling}
            event = adapted(stream, payload)
            assert event["event_type"] == rules("quantum")[stream].event, f"{choice}: {event['payload']}"
            assert event["extra"] is None
        results.add(json.dumps(event["payload"], default=str, sort_keys=True).lower())
    assert len(results) == len(choices(said[field]))


@pytest.mark.req("S3-10")
def test_the_inner_enumeration_is_told_apart() -> None:
    for choice in choices(STREAMS["risk.evaluation.complete"]["position_allowed"]["direction"]):
        event = adapted("risk.evaluation.complete", {"decision": "APPROVED", "position_allowed": {"direction": choice}})
        assert event["payload"]["position_allowed"]["direction"] == choice


@pytest.mark.req("S4-01", "S4-08")
def test_the_documents_own_example_records_are_accepted() -> None:
    examples = re.findall(r"^\d+\. ([a-z_.]+)\n((?:   \w+: .+\n)+)", section(5), re.MULTILINE)
    found = {}
    for stream, lines in examples:
        fields = {name: value.strip('"') for name, value in re.findall(r"   (\w+): (.+)", lines)}
        found[stream] = adapted(stream, fields)
        assert found[stream]["event_type"] == rules("quantum")[stream].event, found[stream]["payload"]
        assert found[stream]["extra"] is None
    assert found["risk.daily_status.update"]["payload"]["daily_pnl_percent"] == Decimal("-5.2")
    killed = found["risk.kill_switch.activated"]["payload"]
    assert (killed["trigger"], killed["threshold"]) == ("daily_loss_exceeded", Decimal("-5"))
    assert found["system.alert.triggered"]["payload"]["severity"] == "critical"


@pytest.mark.req("S4-01", "S4-03", "S4-04")
def test_the_documents_numbers_are_those_in_use() -> None:
    limits = {
        name: int(rate)
        for name, rate in re.findall(r"^([a-z_.]+):\n(?:(?!^\S).*\n)*?  rate_limit: (\d+)/second", TEXT, re.MULTILINE)
    }
    assert limits == LIMITS
    backoff = re.search(r"backoff_ms: (\[.*\])", TEXT)
    assert backoff and tuple(json.loads(backoff[1])) == RETRIES_MS
    assert re.search(rf"max_attempts: {len(RETRIES_MS)}\n", TEXT)
    configured = dict(re.findall(r"^  ([a-z_.]+):\n    maxlen: (\d+)", section(6), re.MULTILINE))
    assert int(configured.pop("defaults")) == DEFAULT_MAXLEN
    assert {name: int(length) for name, length in configured.items()} == MAXLEN
    assert re.search(rf"interval: {HEARTBEAT_MS // 1000}s\n", TEXT)


RETAINED = re.compile(r"^([a-z_.]+):\n(?:(?!^[a-z_.]+:).*\n)*?  retention: (\S+)", re.MULTILINE)
HOURS = {"h": 1, "d": 24}


def hours(said: str) -> float:
    return float("inf") if said == "permanent" else int(said[:-1]) * HOURS[said[-1]]


@pytest.mark.req("S4-02")
def test_no_event_type_is_kept_shorter_than_its_stream() -> None:
    found = dict(RETAINED.findall(section(3)))
    assert len(found) >= 20
    for stream, said in found.items():
        rule = rules("quantum")[stream]
        for name in {rule.event, *rule.by_outcome.values()}:
            assert hours(event_types()[name].retention) >= hours(said), (stream, name)

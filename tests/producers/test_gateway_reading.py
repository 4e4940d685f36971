"""An event as sent, as a typed event or as evidence, straight and by way of the spool."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.producers.gateways import EVENT_ID, event

from tradetape.processors import reading as processor
from tradetape.producers.adapters.envelope import Origin
from tradetape.producers.gateway import reading
from tradetape.producers.gateway.body import Item, split
from tradetape.producers.gateway.reading import Taken
from tradetape.producers.spool import documents
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.codec import Encoder

ORIGIN = Origin("http:desk", "http", "desk")
ENCODERS = {name: Encoder(event_type.schema, 1) for name, event_type in event_types().items()}
GOOD = json.dumps(event()).encode()

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
DAMAGED = st.builds(
    lambda key, value, payload: json.dumps(event(**{key: value}, payload=payload)).encode(),
    st.sampled_from([*(key for key in event() if key != "payload"), "run_id", "sequence", "source_id", "native", "x"]),
    JSON,
    st.dictionaries(st.sampled_from([*event()["payload"], "context", "other_fees", "y"]), JSON, max_size=2),
)


def via_spool(taken: Taken) -> dict[str, Any]:
    return reading.from_record(documents.write(reading.to_record(taken)))


@pytest.mark.req("S3-01")
def test_a_good_event_is_typed_with_its_bytes_and_its_source() -> None:
    sent = json.dumps(event(payload={"fill_price": 20000.10, "leverage": 10}), indent=1).encode()
    (item,) = split(sent)
    taken = reading.read(ORIGIN, item)
    assert taken.result == {"event_id": EVENT_ID, "status": "accepted", "reasons": []}
    assert taken.event["native"] == sent
    assert str(taken.event["payload"]["fill_price"]) == "20000.1"
    assert json.loads(taken.event["extra"]) == {"leverage": 10}
    stamps = ("source_system", "source_id", "source_stream", "source_position", "ingest_source", "legacy")
    assert [taken.event[name] for name in stamps] == ["envelope", "http:desk", "http", None, "http", False]


@pytest.mark.req("S3-01")
def test_a_client_cannot_speak_for_another_source() -> None:
    claims = {"source_id": "http:other", "source_position": 9, "source_stream": "lines", "legacy": True}
    claims |= {"ingest_source": "sdk", "source_system": "turtle", "adapter": "turtle@1", "native": "x"}
    taken = reading.read(ORIGIN, Item(json.dumps(event(**claims)).encode()))
    assert not taken.reasons
    found = {name: taken.event[name] for name in claims if name != "native"}
    assert found == {
        "source_id": "http:desk",
        "source_position": None,
        "source_stream": "http",
        "legacy": False,
        "ingest_source": "http",
        "source_system": "envelope",
        "adapter": "envelope@1",
    }


@pytest.mark.req("S3-05")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ts_utc": "yesterday"}, "ts_unparseable"),
        ({"event_type": "order_vanished"}, "unknown_event_type"),
        ({"payload": {"fee_amount": None}}, "missing_payload_key"),
        ({"payload": {"liquidity_side": "both"}}, "not_in_enumeration"),
        ({"correlation_id": ""}, "missing_correlation_id"),
        ({"event_type": "source_ended", "payload": {"rows": {}, "events": {}}}, "unmapped"),
    ],
)
def test_what_breaks_the_contract_is_evidence_and_the_processor_gives_the_same_reasons(
    changes: dict[str, Any], code: str
) -> None:
    sent = json.dumps(event(**changes)).encode()
    taken = reading.read(ORIGIN, Item(sent))
    assert taken.event["event_type"] == "unmapped_record"
    assert (taken.event["native"], taken.event["event_id"], taken.event["instance_name"]) == (sent, EVENT_ID, "bot1")
    judged = processor.judge(taken.event, event_types()["unmapped_record"])
    assert code in {reason["code"] for reason in taken.result["reasons"]}
    assert {violation.code for violation in judged} == {reason.code for reason in taken.reasons}


@pytest.mark.req("S3-03")
def test_only_a_legacy_client_may_leave_the_correlation_out() -> None:
    sent = json.dumps(event(correlation_id="")).encode()
    assert reading.read(Origin("http:old", "http", "old", legacy=True), Item(sent)).reasons == []
    assert [reason.code for reason in reading.read(ORIGIN, Item(sent)).reasons] == ["missing_correlation_id"]


def test_evidence_without_an_id_gets_one_from_source_and_bytes() -> None:
    one, again = (reading.read(ORIGIN, Item(b"5")).event["event_id"] for _ in range(2))
    other = reading.read(Origin("http:other", "http", "other"), Item(b"5")).event["event_id"]
    assert one == again != other
    assert reading.read(ORIGIN, Item(b"6")).event["event_id"] != one


@pytest.mark.req("P-08")
@given(st.one_of(st.binary(max_size=200), JSON.map(json.dumps).map(str.encode), DAMAGED))
def test_whatever_is_sent_is_kept_and_can_be_written(sent: bytes) -> None:
    taken = reading.read(ORIGIN, Item(sent))
    assert taken.event["native"] == sent
    assert ENCODERS[taken.event["event_type"]].encode(taken.event)
    assert (taken.event["event_type"] == "unmapped_record") == bool(taken.reasons)
    json.dumps(taken.result, ensure_ascii=False).encode()


@pytest.mark.req("P-07")
@given(st.one_of(st.binary(max_size=200), st.just(GOOD), DAMAGED))
def test_the_spool_gives_back_the_very_event(sent: bytes) -> None:
    taken = reading.read(ORIGIN, Item(sent))
    assert via_spool(taken) == taken.event


@pytest.mark.req("P-07")
@given(DAMAGED)
def test_what_splitting_read_is_what_the_bytes_say(sent: bytes) -> None:
    (item,) = split(b"[" + sent + b"]")
    assert reading.read(ORIGIN, item) == reading.read(ORIGIN, Item(sent))


@pytest.mark.req("P-07", "S3-05")
@pytest.mark.parametrize("sent", [b'[{"a": 1},', GOOD, b"\x1f\x8b\xff", b""])
def test_a_body_that_was_not_read_stays_so_in_the_spool(sent: bytes) -> None:
    taken = reading.unread(ORIGIN, sent, "byte 3 is not UTF-8")
    assert via_spool(taken) == taken.event
    assert taken.event["event_type"] == "unmapped_record"
    assert taken.event["native"] == sent
    assert taken.result["reasons"] == [{"code": "not_json", "detail": "byte 3 is not UTF-8"}]


def test_a_document_of_a_bot_in_the_spool_is_an_event_too() -> None:
    assert reading.from_record(documents.write(event()))["event_type"] == "order_filled"
    assert reading.from_record(b"[").get("event_type") == "unmapped_record"


def test_a_record_of_the_spool_says_whose_it_is() -> None:
    record = reading.to_record(reading.read(ORIGIN, Item(GOOD)))
    assert (record["instance_name"], record["source_id"]) == ("bot1", "http:desk")
    assert record["native"].encode() == GOOD


def test_what_cannot_be_written_typed_becomes_evidence() -> None:
    taken = reading.refused(reading.read(ORIGIN, Item(GOOD)), "no such number")
    assert taken.event["event_type"] == "unmapped_record"
    assert (taken.event["native"], taken.event["event_id"]) == (GOOD, EVENT_ID)
    assert taken.result["reasons"] == [{"code": "unmapped", "detail": "no such number"}]

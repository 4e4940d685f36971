"""Links: what ties an event to its chain, and that the order in which events come does not matter in the end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import Partition, encode, fold, open_findings
from tests.processors.events import event

from tradetape.processors import correlation, references
from tradetape.processors.core import Output
from tradetape.processors.correlation import WAITING
from tradetape.processors.outputs import LINK_RESOLVED, output_schema
from tradetape.schemas import codec
from tradetape.schemas.catalogue import event_types


def legacy(event_type: str, payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event of a source that may lack correlation ids; without ``correlation_id`` it does."""
    stamped = {"correlation_id": fields.pop("correlation_id", ""), "legacy": fields.pop("legacy", True)}
    stamped["native_event_id"] = fields.pop("native_event_id", None)
    return event(event_type, payload, source_system="quantum", source_id="q", **fields) | stamped


def signal(name: str = "s1", **fields: Any) -> dict[str, Any]:
    return legacy("signal_generated", {"signal_id": name}, **fields)


def evaluated(name: str = "e1", signal_id: str | None = "s1", **fields: Any) -> dict[str, Any]:
    payload = {"decision": "approved", "evaluation_id": name, "signal_id": signal_id}
    return legacy("risk_evaluated", payload, **fields)


def requested(name: str = "r1", evaluation: str | None = "e1", **fields: Any) -> dict[str, Any]:
    return legacy("trade_requested", {"request_id": name, "evaluation_id": evaluation}, **fields)


def order(name: str = "o1", request: str | None = "r1", **fields: Any) -> dict[str, Any]:
    payload = {"client_order_id": name, "side": "buy", "order_type": "market", "amount_base": "10", "is_live": True}
    return legacy("order_created", {**payload, "request_id": request}, **fields)


def fill(name: str = "o1", request: str | None = None, **fields: Any) -> dict[str, Any]:
    payload = {"client_order_id": name, "fill_price": "2", "fill_qty_base": "10", "fill_qty_quote": "20"}
    fees = {"fee_asset": "USDT", "fee_amount": "0", "liquidity_side": "unknown", "request_id": request}
    return legacy("order_filled", {**payload, **fees}, **fields)


def position(name: str = "p1", signal_id: str | None = "s1", **fields: Any) -> dict[str, Any]:
    payload = {"position_id": name, "side": "long", "quantity": "1", "entry_price": "2", "signal_id": signal_id}
    return legacy("position_opened", payload, **fields)


def priced(name: str = "p1", **fields: Any) -> dict[str, Any]:
    return legacy("position_priced", {"position_id": name, "new_price": "2"}, **fields)


def links(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    return [(output.audited["link"], output.audited["linked_by"]) for output in outputs]


def resolved(outputs: Iterable[Output]) -> list[tuple[str, str, str]]:
    """(earlier event, its chain, the id that told) of every resolution, in order."""
    return [
        (item["supersedes"], item["correlation_id"], item["linked_by"]) for output in outputs for item in output.derived
    ]


def chains(outputs: Iterable[Output]) -> dict[str, str]:
    """The chain of every event after resolutions are applied."""
    found: dict[str, str] = {}
    for output in outputs:
        found[output.audited["event_id"]] = output.audited["correlation_id"]
        for item in output.derived:
            found[item["supersedes"]] = item["correlation_id"]
    return found


@pytest.mark.req("N-01", "S4-08")
def test_a_decision_without_correlation_ids_is_one_chain() -> None:
    events = [signal(), evaluated(), requested(), order(), fill(), position(), priced()]
    outputs = fold(events)
    assert links(outputs) == [
        ("backfilled", ""),
        ("inferred", "signal_id"),
        ("inferred", "evaluation_id"),
        ("inferred", "request_id"),
        ("inferred", "client_order_id"),
        ("inferred", "signal_id"),
        ("inferred", "position_id"),
    ]
    assert set(chains(outputs).values()) == {events[0]["event_id"]}
    assert resolved(outputs) == []


@pytest.mark.req("N-01")
def test_what_came_before_its_root_is_resolved_when_that_comes() -> None:
    late = [fill(), order(), requested(), evaluated()]
    root = signal()
    outputs = fold([*late, root])
    assert links(outputs) == [("unresolved", "")] * 4 + [("backfilled", "")]
    assert open_findings(outputs[:4])["link_unresolved"] == 4
    assert sorted(item[0] for item in resolved(outputs)) == sorted(item["event_id"] for item in late)
    assert {item[1] for item in resolved(outputs)} == {root["event_id"]}


@pytest.mark.req("N-01", "P-04")
def test_the_finding_of_an_unresolved_link_is_resolved_with_it() -> None:
    lost = fill()
    outputs = fold([lost, order(request=None)])
    opened = [item for item in outputs[0].audited["findings"] if item["code"] == "link_unresolved"]
    assert [(item["status"], item["subject"]) for item in opened] == [("opened", lost["event_id"])]
    assert json.loads(opened[0]["detail"]) == {"client_order_id": "o1"}
    (item,) = outputs[1].derived[0]["findings"]
    assert (item["code"], item["status"], item["subject"]) == ("link_unresolved", "resolved", lost["event_id"])


@pytest.mark.req("N-01", "S3-07")
def test_the_record_that_resolves_is_of_the_event_that_came_and_supersedes_the_earlier() -> None:
    lost, late = fill(), order(request=None)
    output = fold([lost, late])[1]
    (item,) = output.derived
    assert (item["raw_offset"], item["derived_seq"], item["event_type"]) == (1, 1, LINK_RESOLVED)
    assert (item["supersedes"], item["causation_id"]) == (lost["event_id"], late["event_id"])
    assert (item["link"], item["linked_by"], item["correlation_id"]) == (
        "inferred",
        "client_order_id",
        late["event_id"],
    )
    assert uuid.UUID(item["event_id"]).version == 5
    assert json.loads(item["payload"]) == {
        "event_id": lost["event_id"],
        "link_before": "unresolved",
        "link_after": "inferred",
        "correlation_id_before": lost["event_id"],
        "linked_by": "client_order_id",
    }
    assert output.risk is not None and output.risk["derived_seq"] == 2
    schema = output_schema("audited")
    assert codec.Decoder(schema).decode(codec.Encoder(schema, 1).encode(item)) == {**item, "reasons": []}


def test_link_resolved_is_no_event_type() -> None:
    assert LINK_RESOLVED not in event_types()


@pytest.mark.req("N-01")
def test_what_a_source_says_counts_more_than_what_was_found() -> None:
    first, said = signal(), position(correlation_id="chain-7")
    outputs = fold([first, said, evaluated()])
    assert links(outputs)[1:] == [("asserted", ""), ("inferred", "signal_id")]
    assert resolved(outputs) == [(first["event_id"], "chain-7", "signal_id")]
    assert chains(outputs)[outputs[2].audited["event_id"]] == "chain-7"


@pytest.mark.req("N-01", "S3-02")
def test_an_asserted_link_is_never_unresolved() -> None:
    outputs = fold([fill(correlation_id="elsewhere"), priced(correlation_id="elsewhere", causation_id="unheard of")])
    assert links(outputs) == [("asserted", ""), ("asserted", "")]
    assert "link_unresolved" not in open_findings(outputs)


@pytest.mark.req("N-01")
def test_an_order_event_without_a_chain_takes_that_of_its_order() -> None:
    told = order(request=None, correlation_id="chain-7", legacy=False)
    outputs = fold([told, fill()])
    assert links(outputs) == [("asserted", ""), ("inferred", "client_order_id")]
    assert outputs[1].audited["correlation_id"] == "chain-7"
    assert "correlation_mismatch" not in open_findings(outputs)


@pytest.mark.req("N-01", "P-04")
def test_a_chain_found_first_and_said_later_is_no_contradiction() -> None:
    outputs = fold([order(request=None), fill(), fill(correlation_id="chain-7")])
    assert set(chains(outputs).values()) == {"chain-7"}
    assert "correlation_mismatch" not in open_findings(outputs)


@pytest.mark.req("N-01", "S1-03")
@pytest.mark.parametrize("cause_first", [True, False])
def test_a_cause_ties_what_has_no_other_id(cause_first: bool) -> None:
    cause = legacy("regime_classified", {"regime": "chaotic"})
    follower = legacy("entry_skipped", {"reason": "calm"}, causation_id=cause["event_id"])
    outputs = fold([cause, follower] if cause_first else [follower, cause])
    assert set(chains(outputs).values()) == {cause["event_id"]}
    assert "link_unresolved" not in open_findings(outputs)
    if cause_first:
        assert links(outputs)[1] == ("inferred", "causation_id")


@pytest.mark.req("N-01")
def test_a_cause_is_known_by_the_id_that_its_source_wrote() -> None:
    cause = legacy("regime_classified", {"regime": "chaotic"}, native_event_id="evt-1")
    follower = legacy("entry_skipped", {"reason": "calm"}, causation_id="evt-1")
    for events in ([cause, follower], [follower, cause]):
        assert set(chains(fold(events)).values()) == {cause["event_id"]}


@pytest.mark.req("N-01")
@pytest.mark.parametrize("place", [{"environment": "paper"}, {"instance_name": "bot2"}, {"connector_name": "okx"}])
def test_ids_of_other_places_are_other_ids(place: dict[str, str]) -> None:
    assert links(fold([order(request=None), fill(**place)]))[1] == ("unresolved", "")


@pytest.mark.req("N-01")
def test_the_chain_begins_furthest_upstream_where_two_meet() -> None:
    asked, made, joint = requested(evaluation=None), order(request=None), fill(request="r1")
    for events in ([asked, made, joint], [made, joint, asked], [joint, made, asked]):
        assert set(chains(fold(events)).values()) == {asked["event_id"]}


@pytest.mark.req("N-01")
def test_at_most_so_many_events_wait_at_an_id() -> None:
    early = [priced() for _ in range(WAITING + 5)]
    outputs = fold([*early, position(signal_id=None)])
    assert [item[0] for item in resolved(outputs)] == [item["event_id"] for item in early[:WAITING]]
    assert open_findings(outputs)["link_unresolved"] == 5


@pytest.mark.req("N-01")
def test_only_sources_that_may_lack_chains_cost_state() -> None:
    partition = Partition()
    partition.take([encode(position(correlation_id="chain-7", legacy=False))])
    assert not [key for key in partition.store if key[1:2] in (b"l", b"c")]


def test_the_table_names_event_types_and_payload_keys_that_there_are() -> None:
    types = event_types()
    for name, declared in references.EVENT_TYPES.items():
        assert {key for key, _, _ in declared} <= types[name].payload_keys, name
    tied = {"client_order_id", "exchange_order_id", "position_id", "signal_id", "request_id", "evaluation_id"}
    for name, event_type in types.items():
        declared_keys = {key for key, _, _ in references.EVENT_TYPES.get(name, ())}
        assert event_type.payload_keys & tied <= declared_keys, name


NAMES = st.sampled_from(["1", "2", None])
EVENTS = st.one_of(
    st.builds(signal, st.sampled_from("12")),
    st.builds(evaluated, NAMES, NAMES),
    st.builds(requested, NAMES, NAMES),
    st.builds(order, st.sampled_from("12"), NAMES),
    st.builds(fill, st.sampled_from("12"), NAMES),
    st.builds(position, NAMES, NAMES),
    st.builds(priced, st.sampled_from("12")),
    st.builds(fill, st.sampled_from("12"), NAMES, correlation_id=st.just("said")),
)


@pytest.mark.req("N-01", "P-06")
@given(
    st.lists(EVENTS, min_size=2, max_size=WAITING),
    st.lists(st.tuples(st.integers(0, WAITING), st.integers(0, WAITING)), max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_chain_is_the_same_whatever_the_order(
    events: list[dict[str, Any]], caused: list[tuple[int, int]], random: Any
) -> None:
    for follower, cause in caused:
        events[follower % len(events)]["causation_id"] = events[cause % len(events)]["event_id"]
    shuffled = list(events)
    random.shuffle(shuffled)
    assert chains(fold(shuffled)) == chains(fold(events))


@pytest.mark.req("N-01", "P-04")
@given(st.lists(EVENTS, min_size=2, max_size=WAITING))
def test_a_link_is_unresolved_until_something_that_it_names_is_in_a_chain(events: list[dict[str, Any]]) -> None:
    outputs = fold(events)
    found = chains(outputs)
    still_open = {
        item["subject"]: item["status"]
        for output in outputs
        for record in (output.audited, *output.derived)
        for item in record["findings"]
        if item["code"] == "link_unresolved"
    }
    for output in outputs:
        event_id = output.audited["event_id"]
        if output.audited["link"] == correlation.UNRESOLVED:
            assert (still_open[event_id] == "opened") == (found[event_id] == event_id)
        else:
            assert event_id not in still_open

"""What one event may make at most: nothing that a partition remembers or sends outgrows what Kafka takes (P-08)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.folding import Partition, encode
from tests.processors.events import event, filled
from tests.processors.test_extremes import ENCODERS

from tradetape.processors.core import Output
from tradetape.processors.emission import emitted
from tradetape.processors.stream.steps import fits
from tradetape.schemas import rules
from tradetape.schemas.topics import MAX_AUDITED_BYTES, MAX_EVENT_BYTES

pytestmark = pytest.mark.req("P-08")

MEGABYTE = 1_000_000


def judged(made: dict[str, Any]) -> Output:
    """The output of one event, whose records and whose changes of state all fit."""
    partition, value = Partition(), encode(made)
    assert len(value) <= MAX_EVENT_BYTES
    (output,) = partition.fold([value])
    assert all(len(ENCODERS[each.topic].encode(each.record)) <= MAX_AUDITED_BYTES for each in emitted(output))
    assert fits(list(partition.state.changes()))
    assert output.audited["raw"] == value
    return output


def fees(count: int) -> list[dict[str, Any]]:
    return [{"asset": f"A{number}", "amount": Decimal(1)} for number in range(count)]


LONG = "x" * (12 * MEGABYTE)
TOO_LONG: dict[str, dict[str, Any]] = {
    "order": {"payload": {"client_order_id": LONG}},
    "fee": {"payload": {"fee_asset": LONG}},
    "fee in a list": {"payload": {"other_fees": [{"asset": LONG, "amount": Decimal(0)}]}},
    **{name: {name: LONG} for name in ("event_id", "instance_name", "trading_pair", "correlation_id", "source_id")},
    "run": {"run_id": LONG, "sequence": 1},
    "aggregate": {"aggregate_id": LONG, "aggregate_sequence": 1},
    "prose": {"outcome_reason": LONG},
    "just": {"producer": "x" * (rules.MAX_TEXT + 1)},
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_identifies_is_bounded_and_nothing_is_remembered_by_it(name: str) -> None:
    made = filled("a", side="buy", source_position=1)
    changes = TOO_LONG[name]
    output = judged({**made, **changes, "payload": {**made["payload"], **changes.get("payload", {})}})
    assert (output.audited["disposition"], output.audited["reasons"]) == ("rejected", ["text_too_long"])


def test_texts_of_the_longest_length_are_accepted() -> None:
    longest = "é" * rules.MAX_TEXT
    more = {"producer": longest, "trading_pair": longest, "outcome_reason": "é" * rules.MAX_PROSE}
    made = filled(longest, side="buy", correlation_id=longest, **more)
    assert judged(made).audited["disposition"] == "accepted"


def test_a_list_that_is_folded_is_bounded() -> None:
    made = filled("a", side="buy")
    for count, disposition in ((rules.MAX_FOLDED, "accepted"), (rules.MAX_FOLDED + 1, "rejected")):
        output = judged({**made, "payload": {**made["payload"], "other_fees": fees(count)}})
        assert output.audited["disposition"] == disposition
    assert output.audited["reasons"] == ["list_too_long"]


def test_fees_of_a_position_are_kept_by_a_bounded_number_of_assets() -> None:
    partition = Partition()
    for number in range(3):
        made = filled("a", side="buy", fee="1")
        more = [{"asset": f"{number}-{each}", "amount": Decimal(1)} for each in range(rules.MAX_FOLDED)]
        (output,) = partition.take([encode({**made, "payload": {**made["payload"], "other_fees": more}})])
    assert output.risk is not None
    assert (len(output.risk["fees"]), output.risk["fees"]["USDT"]) == (64, 3)


@pytest.mark.parametrize(
    ("text", "disposition"),
    [
        ("x" * (10 * MEGABYTE), "accepted"),
        ("\x01" * (4 * MEGABYTE), "accepted"),
        ("\x01" * (6 * MEGABYTE), "rejected"),
        ('"' * (15 * MEGABYTE), "rejected"),
    ],
)
def test_a_payload_that_grows_as_json_is_accepted_where_it_fits(text: str, disposition: str) -> None:
    output = judged(event("error_occurred", {"error": text}))
    assert output.audited["disposition"] == disposition
    if disposition == "rejected":
        assert (output.audited["reasons"], output.audited["payload"]) == (["payload_too_long"], "{}")


@pytest.mark.parametrize(
    ("text", "native", "kept"),
    [("x", 15, True), ("x" * (8 * MEGABYTE), 8, True), ("\x01" * (3 * MEGABYTE), 10, False)],
)
def test_a_rejected_event_keeps_its_native_bytes_apart_where_they_fit(text: str, native: int, kept: bool) -> None:
    made = event("error_occurred", {"error": text}) | {"event_version": "v9", "native": b"n" * (native * MEGABYTE)}
    output = judged(made)
    assert output.audited["reasons"] == ["unsupported_event_version"]
    assert output.audited["native"] == (made["native"] if kept else b"")


def test_what_many_keys_were_is_told_of_the_first_ones() -> None:
    made = filled("a", side="buy")
    made["precision_rounded"] = ["k" * 100] * 100_000
    (found,) = [each for each in judged(made).audited["findings"] if each["code"] == "precision_rounded"]
    assert len(found["detail"]) < 10_000
    assert '"more":99936' in found["detail"]

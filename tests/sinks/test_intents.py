"""Intents as they stand in Kafka, and what names batches that land together."""

from __future__ import annotations

import pytest

from tradetape.sinks import intents
from tradetape.sinks.batch import Record
from tradetape.sinks.intents import Intent
from tradetape.sinks.ledger import Identity

pytestmark = pytest.mark.req("P-03")

METADATA_BYTES = 4_096
"""Bytes that Kafka takes as the metadata of a committed offset."""


def records(*offsets: int) -> list[Record]:
    return [Record(Identity(0, offset, 0), b"v%d" % offset, 0, offset) for offset in offsets]


def test_an_intent_is_read_as_it_was_written() -> None:
    alone = intents.of(records(3, 4))
    assert intents.read(alone.text) == alone
    (joined,) = intents.together("t", {7: alone}).values()
    assert joined == Intent(3, 5, 2, alone.sha256, joined.together)
    assert intents.read(joined.text) == joined
    assert len(joined.text) < METADATA_BYTES
    joined.check("t", 7, records(3, 4))
    for other in ("", None, "intent 1 2", joined.text[:-1], joined.text + "0", alone.text + " "):
        assert intents.read(other) is None


def test_batches_have_one_name_and_other_batches_another() -> None:
    one, two, three = (intents.of(records(n)) for n in range(3))
    names = set()
    for topic, meant in (
        ("t", {0: one}),
        ("t", {1: one}),
        ("u", {0: one}),
        ("t", {0: two}),
        ("t", {0: one, 1: two}),
        ("t", {0: two, 1: one}),
        ("t", {0: one, 1: two, 2: three}),
    ):
        found = intents.together(topic, meant)
        assert found.keys() == meant.keys()
        assert {(i.first, i.end, i.rows, i.sha256) for i in found.values()} == {
            (i.first, i.end, i.rows, i.sha256) for i in meant.values()
        }
        (name,) = {i.together for i in found.values()}
        names.add(name)
    assert len(names) == 7
    assert intents.together("t", {1: two, 0: one}) == intents.together("t", {0: one, 1: two})

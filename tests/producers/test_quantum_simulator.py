"""Simulated Quantum bots: the document's streams, from the seed alone, with defects that are found as said."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests import folding
from tests.producers.quantum_redis import client_of, taken
from tests.stores import Valkey

from tradetape.processors.findings import CATALOGUE
from tradetape.producers.adapters.quantum_entries import FLOW
from tradetape.producers.simulator.quantum import fleet as simulator
from tradetape.schemas.rules import REASONS

pytestmark = [pytest.mark.integration, pytest.mark.req("S4-01")]


def content(url: str) -> dict[str, Any]:
    client = client_of(url)
    return {stream: client.xrange(stream) for stream in FLOW if client.exists(stream)}


def far(valkey: Valkey) -> str:
    """A database with room for the bots beside it."""
    databases = [valkey.database() for _ in range(3)]
    return databases[0]


def test_the_same_seed_writes_the_same_streams(valkey: Valkey) -> None:
    one, other = far(valkey), far(valkey)
    for url in (one, other):
        for _ in range(2):
            simulator.simulate(url, bots=2, steps=12, seed=5, defects=list(simulator.DEFECTS))
    for number in (1, 2):
        places = [simulator.bot_location(url, number) for url in (one, other)]
        assert content(places[0]) == content(places[1])
    assert content(one) != content(simulator.bot_location(one, 2))


def test_healthy_bots_use_every_stream_and_are_accepted_without_a_finding(valkey: Valkey) -> None:
    url = far(valkey)
    ledger = simulator.simulate(url, bots=1, steps=24, seed=1)
    rows = ledger.rows[simulator.instance_name(1)]
    assert rows.keys() == set(FLOW)
    assert sum(rows.values()) == sum(len(entries) for entries in content(url).values())
    assert all(isinstance(text, str) for _, fields in content(url)["trades.order.filled"] for text in fields.values())
    outputs = folding.fold(taken(url))
    assert Counter(output.audited["disposition"] for output in outputs) == {"accepted": sum(rows.values())}
    assert folding.open_findings(outputs) == {}
    assert {output.audited["link"] for output in outputs} == {"backfilled", "inferred"}


def test_every_defect_is_found_as_the_ledger_says(valkey: Valkey) -> None:
    url = far(valkey)
    ledger = simulator.simulate(
        url, bots=1, steps=40, seed=9, defects=dict.fromkeys(simulator.DEFECTS, 2) | {"silent": 1}
    )
    assert Counter(each.kind for each in ledger.injected) == Counter(
        dict.fromkeys(simulator.DEFECTS, 2) | {"silent": 1}
    )
    found = set()
    for output in folding.fold(taken(url)):
        verdict = output.audited
        about = verdict["payload"] or ""
        found |= {(code, about) for code in verdict["reasons"]}
        found |= {(each["code"], about) for each in verdict["findings"]}
        if "unmapped" in verdict["reasons"]:
            found.add(("unmapped", verdict["native"].decode()))
    for each in ledger.injected:
        assert each.expected in CATALOGUE.keys() | REASONS.keys() or each.why_not, each
        if each.expected:
            assert any(code == each.expected and each.subject in about for code, about in found), each


def test_unknown_and_too_many_defects_are_refused(valkey: Valkey) -> None:
    url = far(valkey)
    with pytest.raises(ValueError, match="imagined"):
        simulator.simulate(url, bots=1, steps=5, seed=1, defects=["imagined"])
    with pytest.raises(ValueError, match="do not fit"):
        simulator.simulate(url, bots=1, steps=3, seed=1, defects=list(simulator.DEFECTS))


def test_streams_are_trimmed_as_the_document_configures(valkey: Valkey) -> None:
    url = far(valkey)
    simulator.simulate(url, bots=1, steps=400, seed=1)
    client = client_of(url)
    assert client.xinfo_stream("market.tick.price")["entries-added"] > 1200
    assert 1000 <= client.xlen("market.tick.price") < 1200
    assert client.xlen("audit.decision.log") == client.xinfo_stream("audit.decision.log")["entries-added"]

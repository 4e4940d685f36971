"""A simulated fleet: which kinds there are, what is injected into them, and how bots without a store post."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tradetape.infra import fleet, post, settings
from tradetape.infra.connect import SourceConfig
from tradetape.infra.fleet import HTTP, POSTED, Plan
from tradetape.producers.simulator.canonical_defects import DEFECTS
from tradetape.producers.simulator.ledger import START_MS, Ledger
from tradetape.schemas.errors import TradetapeError

SMALL = Plan(1, 3, 7, START_MS)
TEN = {
    "lost": {"lost", "completed_without_fill"},
    "doubled": {"doubled", "duplicate_terminal"},
    "reordered": {"reordered", "out_of_order"},
    "orphaned": {"orphaned", "fill_without_order"},
    "malformed": {"malformed"},
    "clock-skewed": {"clock_skewed"},
    "truncated price": {"truncated_price"},
    "wrong arithmetic": {"wrong_arithmetic"},
    "conflicting terminal": {"conflicting_terminal", "conflicting_terminals"},
    "silent bot": {"silent"},
}
"""The ten kinds, by the names that the simulators give them."""


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in settings.ADDRESSES.values():
        monkeypatch.delenv(variable, raising=False)


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that is known and does not answer."""
    monkeypatch.setenv(settings.BOOTSTRAP_SERVERS, "127.0.0.1:1")
    monkeypatch.setenv(settings.REGISTRY_URL, "http://127.0.0.1:1")


@pytest.fixture
def wrote(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds that are written, in place of their bots."""
    kinds: list[str] = []

    def written(kind: str) -> fleet.Written:
        kinds.append(kind)
        return Ledger(), [] if kind == HTTP else [SourceConfig(kind, f"{kind}.db", instance=kind)]

    stand_ins = {kind: lambda *_, kind=kind: written(kind) for kind in fleet.KINDS}
    monkeypatch.setattr(fleet, "KINDS", stand_ins)
    monkeypatch.setattr(fleet, "_SERVERS", {})
    return kinds


def test_without_a_stack_there_are_all_kinds_but_http(wrote: list[str], tmp_path: Path) -> None:
    fleet.simulate(tmp_path, SMALL)
    assert set(wrote) == {"turtle", "catalyst", "trend", "hummingbot", "envelope", "quantum"}


def test_with_a_stack_bots_post_too(wrote: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch)
    fleet.simulate(tmp_path, SMALL)
    assert set(wrote) == fleet.KINDS.keys()


def test_what_has_no_store_leaves_the_named_sources_alone(wrote: list[str], tmp_path: Path) -> None:
    config = fleet.simulate(tmp_path, SMALL, ["trend"]).config
    before = config.read_text()
    fleet.simulate(tmp_path, SMALL, [HTTP])
    assert config.read_text() == before


def test_http_by_name_needs_to_know_a_stack(tmp_path: Path) -> None:
    with pytest.raises(TradetapeError, match=r"no stack is running in .*; start it with `tradetape up`"):
        fleet.simulate(tmp_path, SMALL, [HTTP])


@pytest.mark.parametrize("kind", ["catalyst", "trend", "hummingbot", "envelope"])
def test_few_steps_hold_all_ten_kinds_of_defects_each_with_its_code_or_why_not(kind: str, tmp_path: Path) -> None:
    written = fleet.simulate(tmp_path, SMALL, [kind])
    injected = json.loads((tmp_path / "fleet" / "ledger.json").read_text())["injected"]
    kinds = {defect["kind"] for defect in injected}
    assert [name for name, names in TEN.items() if not names & kinds] == []
    assert all(bool(defect["expected"]) != bool(defect["why_not"]) for defect in injected)
    assert {defect["instance"] for defect in injected} == {source.instance for source in written.sources}
    assert fleet.simulate(tmp_path / "clean", SMALL._replace(defects=False), [kind]).injected == []


@pytest.mark.req("P-07")
def test_what_bots_post_is_taken_while_kafka_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch)
    monkeypatch.setattr(post, "DRAIN_SECONDS", 0.1)
    sent: list[bytes] = []
    send = post.send

    def noted(address: post.Address, lines: list[bytes]) -> None:
        send(address, lines)
        sent.extend(lines)

    monkeypatch.setattr(post, "send", noted)
    written = fleet.simulate(tmp_path, SMALL, [HTTP])
    journal = tmp_path / "fleet" / "http" / "http_bot_1.jsonl"
    assert journal.read_bytes().splitlines() == sent
    assert written.ledgers[HTTP].rows == {"http_bot_1": {f"{POSTED}, some wait in the spool": len(sent)}}
    assert written.sources == []
    kinds: Mapping[str, str] = {defect.kind: defect.expected for defect in written.injected}
    assert kinds.keys() == DEFECTS.keys()
    assert kinds["doubled"] == "repeated"
    spooled = b"".join(
        path.read_bytes() for path in (tmp_path / "fleet" / "http" / "spool").rglob("*") if path.is_file()
    )
    assert all(defect.subject.encode() in spooled for defect in written.injected if defect.kind == "malformed")

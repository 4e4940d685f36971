"""The watchdog: who is silent, told once, and back (S4-09)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.producers.bridge.silence import HEARTBEAT_SECONDS, MISSED, RETURNED, SECOND, SILENT, Watchdog

pytestmark = pytest.mark.req("S4-09")

START = 1_700_000_000
ALLOWED = HEARTBEAT_SECONDS * MISSED


class Watched:
    """A watchdog that looks every second; seconds count from its start."""

    def __init__(self, silent_after: int = 0) -> None:
        self.watchdog = Watchdog()
        self.watchdog.silent_after_seconds = silent_after
        self.now = 0
        self.events: list[dict[str, Any]] = []
        self.look(0)

    def hears(self, instance: str = "bot1", service: str = "", place: str = "") -> None:
        self.watchdog.introduce(instance, "paper", "main")
        for which in {"", service}:
            self.watchdog.heard(instance, (START + self.now) * SECOND, place or f"0:{self.now}", which)

    def look(self, until: int) -> list[tuple[str, str, str | None]]:
        """Look each second, and say what was written down: event type, instance and service."""
        found: list[dict[str, Any]] = []
        for second in range(self.now, until + 1):
            found += self.watchdog.due((START + second) * SECOND)
        self.now = until
        self.events += found
        return [(one["event_type"], one["instance_name"], one["payload"]["service"]) for one in found]


def test_a_service_that_misses_three_heartbeats_is_silent_once_and_comes_back() -> None:
    watched = Watched()
    watched.hears(service="execution")
    assert watched.look(ALLOWED) == []
    assert watched.look(ALLOWED + 1) == [(SILENT, "bot1", "execution")]
    assert watched.look(5 * ALLOWED) == []
    watched.hears(service="execution")
    assert watched.look(5 * ALLOWED + 1) == [(RETURNED, "bot1", "execution")]
    silent, returned = watched.events
    assert (silent["environment"], silent["account"]) == ("paper", "main")
    assert silent["payload"]["last_event_ts_utc"] == START * SECOND
    assert silent["payload"]["allowed_seconds"] == ALLOWED
    assert returned["payload"]["silent_seconds"] == 5 * ALLOWED
    assert silent["event_id"] != returned["event_id"]


def test_another_service_of_the_instance_does_not_speak_for_it() -> None:
    watched = Watched()
    watched.hears(service="execution")
    for second in range(0, 2 * ALLOWED, HEARTBEAT_SECONDS):
        watched.look(second)
        watched.hears(service="risk")
        watched.hears()
    assert [event["payload"]["service"] for event in watched.events] == ["execution"]


def test_without_heartbeats_only_what_the_limits_say_counts() -> None:
    watched = Watched()
    watched.hears()
    assert watched.look(1_000) == []
    watched.watchdog.silent_after_seconds = 20
    assert watched.look(1_001) == [(SILENT, "bot1", None)]
    watched.hears()
    watched.watchdog.silent_after_seconds = 0
    assert watched.look(1_002) == [(RETURNED, "bot1", None)]


def test_time_that_nobody_watched_is_nobodys_silence() -> None:
    watched = Watched()
    watched.hears(service="execution")
    watched.now = 10 * ALLOWED
    assert watched.look(11 * ALLOWED) == []
    assert watched.look(11 * ALLOWED + 1) == [(SILENT, "bot1", "execution")]


@pytest.mark.req("P-06")
def test_after_a_restart_what_is_on_record_is_not_written_again() -> None:
    before = Watched()
    before.hears(service="execution", place="3:7")
    before.look(2 * ALLOWED)
    (silent,) = before.events

    def replayed() -> Watched:
        again = Watched()
        again.hears(service="execution", place="3:7")
        again.watchdog.told(SILENT, "bot1", "execution")
        return again

    again = replayed()
    assert again.look(3 * ALLOWED) == []
    again.hears(service="execution")
    assert again.look(3 * ALLOWED + 1) == [(RETURNED, "bot1", "execution")]
    returned = replayed()
    returned.hears(service="execution")
    returned.watchdog.told(RETURNED, "bot1", "execution")
    assert returned.look(1) == []
    lost = Watched()
    lost.hears(service="execution", place="3:7")
    lost.look(4 * ALLOWED)
    assert [event["event_id"] for event in lost.events] == [silent["event_id"]], "written again under its own id"


def test_who_was_never_introduced_is_not_known_and_a_name_that_no_event_may_bear_stops_nobody() -> None:
    watched = Watched(silent_after=5)
    assert not watched.watchdog.knows("bot1")
    watched.watchdog.told(SILENT, "bot1", "")
    watched.watchdog.introduce("bot0", "no such environment", "")
    watched.watchdog.heard("bot0", START * SECOND, "0:1")
    watched.hears("bot1")
    assert watched.look(6) == [(SILENT, "bot1", None)]


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["bot1", "bot2"])), max_size=30))
def test_silence_and_return_take_turns_and_instances_are_their_own(steps: list[tuple[int, str]]) -> None:
    def turns(instances: set[str]) -> list[tuple[str, str, str | None]]:
        watched, found = Watched(silent_after=50), []
        for seconds, instance in steps:
            found += watched.look(watched.now + seconds)
            if instance in instances:
                watched.hears(instance)
        return found + watched.look(watched.now + 1)

    both = turns({"bot1", "bot2"})
    for name in ("bot1", "bot2"):
        mine = [kind for kind, instance, _ in both if instance == name]
        assert mine == [kind for kind, _, _ in turns({name})]
        assert mine == [SILENT, RETURNED] * (len(mine) // 2) + [SILENT] * (len(mine) % 2)

"""Entries that cannot be handled: tried again, then a dead letter, then driven again (S4-04)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests import folding
from tests.producers.quantum_redis import (
    PAST,
    Failing,
    client_of,
    drain,
    entries_in_order,
    opened,
    positions,
    taken,
    through,
    tick,
)
from tests.stores import Valkey

from tradetape.infra.cli import main as cli
from tradetape.producers.connectors.quantum.letters import DEAD_LETTERS, REDRIVE, dead_letters, redrive
from tradetape.schemas.errors import TradetapeError

pytestmark = [pytest.mark.integration, pytest.mark.req("S4-04")]

TICKS = "market.tick.price"
OPENED = {
    "symbol": "BTCUSDT",
    "direction": "LONG",
    "size": "1",
    "entry_price": "2.5",
    "timestamp": "2024-05-01T12:00:00Z",
}


def written(url: str, entries: int = 3) -> None:
    client = client_of(url)
    for number in range(entries):
        client.xadd("position.opened", OPENED, id=f"{PAST + number * 1000}-0")
        client.xadd(TICKS, tick(), id=f"{PAST + number * 1000}-0")


def dispositions(events: list[dict[str, Any]]) -> list[str]:
    return [output.audited["disposition"] for output in folding.fold(events)]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_an_entry_that_is_handled_in_the_end_leaves_no_trace_of_it(valkey: Valkey, failures: int) -> None:
    url = valkey.database()
    written(url)
    pauses: list[float] = []
    events = taken(url, adapt=Failing(TICKS, failures), sleep=pauses.append)
    assert pauses == [0.1, 0.5, 2.0][:failures] * 3
    assert events == taken(url)
    assert dead_letters(url) == []


def test_an_entry_that_fails_for_good_is_evidence_and_a_dead_letter_and_stops_nothing(valkey: Valkey) -> None:
    url = valkey.database()
    written(url)
    pauses: list[float] = []
    times = iter(range(1_800_000_000, 1_900_000_000))
    events = taken(url, adapt=Failing(TICKS, 99), sleep=pauses.append, now=lambda: float(next(times)))
    assert pauses == [0.1, 0.5, 2.0] * 3
    assert positions(events) == [each for each in entries_in_order(url) if each[0] != TICKS]
    assert dispositions(events) == ["rejected", "accepted"] * 3
    failed = next(event for event in events if event["event_type"] == "unmapped_record")
    assert failed["payload"]["error"] == "dead letter after 4 attempts: KeyError: 'attempt 4'"
    assert b'"price":"1800"' in failed["native"]
    letters = dead_letters(url)
    assert [(each.stream, str(each.entry_id), each.attempts) for each in letters] == [
        (TICKS, f"{PAST + number * 1000}-0", 4) for number in range(3)
    ]
    assert letters[0].reason == "KeyError: 'attempt 4'"
    assert dict(letters[0].fields) == {b"symbol": b"ETHUSDT", b"price": b"1800"}
    assert (letters[0].first_failed, letters[0].last_failed) == (1_800_000_000_000, 1_800_000_003_000)
    assert client_of(url).xpending(TICKS, letters[0].group)["pending"] == 0


def test_a_letter_that_is_driven_again_is_accepted_once(valkey: Valkey) -> None:
    url = valkey.database()
    written(url)
    source = opened(url, adapt=Failing(TICKS, 99), sleep=lambda seconds: None)
    kafka = drain(source)
    saved = through(source.state())
    source.close()
    letters = dead_letters(url)
    assert [each.entry for each in redrive(url, [letters[1].letter_id])] == [letters[1].entry]
    assert [each.letter_id for each in dead_letters(url)] == [letters[0].letter_id, letters[2].letter_id]
    driven = taken(url, saved)
    (event,) = driven
    assert (event["event_type"], event["source_position"]) == ("market_price", None)
    kafka += driven
    # Somebody drives the same letter once more, and the checkpoint is lost as well.
    fields = dict(letters[1].to_fields())
    client_of(url).xadd(REDRIVE, fields)
    redrive(url, [])
    kafka += taken(url)
    for where in (kafka, taken(url)):  # the same Kafka, and an empty one
        accepted = [output.audited for output in folding.fold(where) if output.audited["disposition"] == "accepted"]
        assert sorted(row["event_type"] for row in accepted) == ["market_price"] * 3 + ["position_opened"] * 3
        assert len({row["event_id"] for row in accepted}) == 6


def test_a_letter_that_fails_again_is_a_letter_again(valkey: Valkey) -> None:
    url = valkey.database()
    written(url, 1)
    times = iter(range(1_800_000_000, 1_900_000_000))
    failing: dict[str, Any] = {
        "adapt": Failing(TICKS, 99),
        "sleep": lambda seconds: None,
        "now": lambda: float(next(times)),
    }
    source = opened(url, **failing)
    drain(source)
    saved = through(source.state())
    source.close()
    redrive(url, [])
    assert dead_letters(url) == []
    assert taken(url, saved, **failing) == []
    (letter,) = dead_letters(url)
    assert (letter.attempts, letter.first_failed, letter.last_failed) == (8, 1_800_000_000_000, 1_800_000_007_000)


def test_a_letter_survives_a_kill_before_it_is_written(valkey: Valkey) -> None:
    url = valkey.database()
    written(url, 1)
    source = opened(url, adapt=Failing(TICKS, 99), sleep=lambda seconds: None)
    events = [*source.poll(1)]
    saved = through(source.state())
    source.close()  # Kafka has it, the checkpoint is saved, and then the process is gone
    assert events[0]["event_type"] == "unmapped_record"
    assert dead_letters(url) == []
    for _ in range(2):
        source = opened(url, saved)
        source.poll(1)
        source.acknowledge()
        source.close()
    assert [each.stream for each in dead_letters(url)] == [TICKS]


def test_bytes_of_an_entry_survive_as_a_letter(valkey: Valkey) -> None:
    url = valkey.database()
    client_of(url).execute_command("XADD", TICKS, f"{PAST}-0", b"\xff", b"\xfe\x00", "price", "1", "price", "2")
    source = opened(url, adapt=Failing(TICKS, 99), sleep=lambda seconds: None)
    source.poll(10)
    saved = through(source.state())
    source.close()
    source = opened(url, saved)
    source.acknowledge()
    source.close()
    (letter,) = dead_letters(url)
    assert letter.fields == ((b"\xff", b"\xfe\x00"), (b"price", b"1"), (b"price", b"2"))


def test_what_is_no_letter_is_evidence_and_a_letter_of_another_source_left_alone(valkey: Valkey) -> None:
    url = valkey.database()
    client = client_of(url)
    source = opened(url)
    client.xadd(REDRIVE, {"hello": "world"})
    client.xadd(DEAD_LETTERS, {"hello": "world"})
    (event,) = drain(source)
    assert event["event_type"] == "unmapped_record" and "no dead letter" in event["payload"]["error"]
    assert dead_letters(url) == []
    of_another = {"group": "tradetape:other", "stream": TICKS, "id": "1-0", "generation": "0", "reason": "r"}
    when = {"attempts": "4", "first_failed": "2024-05-01T12:00:00Z", "last_failed": "2024-05-01T12:00:00Z"}
    client.xadd(REDRIVE, of_another | when)
    assert drain(source) == []
    source.close()


def test_only_letters_that_are_there_can_be_driven(valkey: Valkey) -> None:
    url = valkey.database()
    written(url, 1)
    taken(url, adapt=Failing(TICKS, 99), sleep=lambda seconds: None)
    (letter,) = dead_letters(url)
    with pytest.raises(TradetapeError, match="no dead letter 9-9"):
        redrive(url, [letter.letter_id, "9-9"])
    assert dead_letters(url) == [letter]
    assert client_of(url).xlen(REDRIVE) == 0


def test_the_command_lists_letters_and_drives_them(valkey: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    url = valkey.database()
    written(url, 2)
    taken(url, adapt=Failing(TICKS, 99), sleep=lambda seconds: None)

    def tradetape(*arguments: str) -> str:
        code = cli.run(["dead-letters", *arguments])
        said = capsys.readouterr()
        return said.out if code == 0 else f"{code}: {said.err}"

    assert [line.split()[1:5] for line in tradetape("list", url).splitlines()] == [
        [TICKS, f"{PAST + number * 1000}-0", "4", "attempts"] for number in range(2)
    ]
    rows = [json.loads(line) for line in tradetape("list", url, "--output", "json").splitlines()]
    assert [(row["stream"], row["entry.price"]) for row in rows] == [(TICKS, "1800")] * 2
    assert tradetape("redrive", url).startswith("1: tradetape: which letters?")
    assert tradetape("redrive", url, rows[0]["letter"]).startswith("1 handed back")
    assert tradetape("redrive", url, "--all").startswith("1 handed back")
    assert tradetape("list", url) == "no dead letters\n"

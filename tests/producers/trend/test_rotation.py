"""Trend's ledger rotated, copied, truncated and written anew under its reader (S2-02)."""

from __future__ import annotations

import os
from random import Random

import pytest
from tests.producers.trend_ledger import Bot, kinds, line, lines, numbers, places

from tradetape.producers.connectors.rolling import REMEMBERED
from tradetape.producers.events import Event

pytestmark = pytest.mark.req("S2-02")

HEADER = b'{"header":1}\n'


@pytest.mark.parametrize(
    "names",
    [
        ("events.jsonl.1", "events.jsonl.2", "events.jsonl.3"),
        ("events.jsonl.2024-01-17", "events.jsonl.2024-01-16", "events.jsonl.2024-01-15"),
        ("events-20240117.jsonl", "events-20240116.jsonl", "events-20240115.jsonl"),
        ("events.jsonl-2024-01-15_12", "events.jsonl-2024-01-15_11", "events.jsonl-2024-01-15_10"),
    ],
)
def test_rotated_files_are_read_oldest_first(bot: Bot, names: tuple[str, str, str]) -> None:
    newest, middle, oldest = names
    bot.write(lines(5, 6), newest)
    bot.write(lines(3, 4), middle)
    bot.write(lines(1, 2), oldest)
    bot.write(lines(7, 8))
    bot.write(line(99), "events.jsonl.bak")
    events = bot.poll(limit=3)
    assert numbers(events) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [position for _, position in places(events)] == [1, 2] * 4


def test_rotation_by_renaming_reads_the_old_file_to_its_end_first(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    bot.write(lines(4, 5))
    bot.rotate("events.jsonl.1")
    bot.write(lines(6, 7))
    assert numbers(bot.poll()) == [4, 5, 6, 7]
    (bot.folder / "events.jsonl.1").rename(bot.folder / "events.jsonl.2")
    bot.write(line(8))
    bot.rotate("events.jsonl.1")
    bot.open()
    bot.write(line(9))
    events = bot.poll()
    assert numbers(events) == [8, 9]
    assert [position for _, position in places(events)] == [3, 1]


def test_a_file_between_two_names_is_no_loss(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    bot.rotate("events.jsonl.1")
    assert bot.poll() == []
    (bot.folder / "events.jsonl.1").rename(bot.folder / "events.jsonl.2")
    bot.write(b"")
    assert bot.poll() == []
    bot.write(line(4))
    assert numbers(bot.poll()) == [4]


def test_a_renamed_file_that_is_still_written_on_loses_nothing(bot: Bot) -> None:
    bot.write(lines(1, 3))
    first = bot.poll()
    with bot.path.open("ab") as held:
        bot.rotate("events.jsonl.1")
        bot.write(lines(5, 6))
        assert numbers(bot.poll()) == [5, 6]
        held.write(line(4))
    events = bot.poll()
    assert numbers(events) == [4]
    assert places(events) == [(first[0]["source_stream"], 4)]


def test_an_unfinished_line_of_a_rotated_file_is_taken_when_it_stays_so(bot: Bot) -> None:
    bot.write(line(1) + line(2)[:40])
    bot.rotate("events.jsonl.1")
    bot.write(line(3))
    assert numbers(bot.poll()) == [1, 3]
    events = bot.poll()
    assert kinds(events) == ["unmapped_record"]
    assert (events[0]["source_position"], events[0]["native"]) == (2, line(2)[:40])
    assert bot.poll() == []
    bot.write(line(2)[40:], "events.jsonl.1")
    (rest,) = bot.poll()
    assert (rest["source_position"], rest["native"]) == (None, line(2)[40:-1])


@pytest.mark.parametrize("restarts", [False, True])
def test_copy_and_truncate_goes_on_in_the_copy_and_begins_the_file_anew(bot: Bot, *, restarts: bool) -> None:
    bot.write(lines(1, 4))
    first = bot.poll()
    bot.write(lines(5, 6))
    bot.copy_and_truncate("events.jsonl.1")
    bot.write(lines(7, 8))
    if restarts:
        bot.open()
    events = bot.poll()
    assert numbers(events) == [5, 6, 7, 8]
    old = first[0]["source_stream"]
    assert [(stream == old, position) for stream, position in places(events)] == [
        (True, 5),
        (True, 6),
        (False, 1),
        (False, 2),
    ]


def test_a_copy_in_the_making_is_not_read(bot: Bot) -> None:
    bot.write(lines(1, 4))
    bot.poll()
    bot.write(lines(1, 2), "events.jsonl.1")
    assert bot.poll() == []
    bot.write(lines(3, 4), "events.jsonl.1")
    assert bot.poll() == []
    os.truncate(bot.path, 0)
    bot.write(line(5))
    assert numbers(bot.poll()) == [5]


def test_truncation_begins_another_stream_and_tells_what_was_seen_and_not_read(bot: Bot) -> None:
    bot.write(lines(1, 3) + line(4)[:25])
    bot.poll()
    os.truncate(bot.path, 0)
    bot.write(lines(5, 6))
    events = bot.poll()
    assert kinds(events) == ["market_price", "market_price", "system_gap"]
    assert numbers(events[:2]) == [5, 6]
    assert [position for _, position in places(events[:2])] == [1, 2]
    gap = events[2]["payload"]
    assert (gap["reason"], gap["first"]) == ("unreadable", "4")
    assert "25 bytes" in gap["detail"]
    assert bot.poll() == []


def test_a_file_that_was_read_and_then_truncated_is_no_loss(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    os.truncate(bot.path, 0)
    assert bot.poll() == []
    bot.write(line(4))
    assert kinds(bot.poll()) == ["market_price"]


def test_a_rewritten_file_is_read_again_under_new_places(bot: Bot) -> None:
    bot.write(lines(1, 3))
    first = bot.poll()
    bot.path.write_bytes(line(1) + lines(7, 9))
    events = bot.poll()
    assert numbers(events) == [1, 7, 8, 9]
    assert {event["source_id"] for event in events} == {"ledger-1"}
    assert not set(places(events)) & set(places(first))


def test_files_that_begin_alike_are_told_from_copies(bot: Bot) -> None:
    bot.write(HEADER + lines(1, 3), "events.jsonl.2")
    bot.write(HEADER + lines(4, 6), "events.jsonl.1")
    bot.write(HEADER + lines(4, 5), "events.jsonl.3")
    bot.write(HEADER + lines(7, 8))
    events = bot.poll()
    assert numbers(events) == [None, 1, 2, 3, None, 4, 5, 6, None, 7, 8]
    names = list(dict.fromkeys(stream for stream, _ in places(events)))
    assert [name.rpartition("#")[2] for name in names[1:]] == ["2", "3"]
    assert not names[0].endswith("#1")
    assert bot.poll() == []
    bot.write(lines(6, 7), "events.jsonl.3")
    bot.open()
    assert numbers(bot.poll()) == [None, 4, 5, 6, 7]


def test_a_name_is_never_given_twice(bot: Bot) -> None:
    found: list[Event] = []
    for number in range(1, 2 * REMEMBERED):
        bot.path.write_bytes(HEADER + line(number))
        if number % 50 == 0:
            bot.open()
        found += bot.poll()
    written = [event for event in found if event["sequence"] is not None]
    assert numbers(written) == list(range(1, 2 * REMEMBERED))
    assert len(set(places(written))) == len(written)


def test_a_state_without_a_count_of_names_gives_out_new_ones(bot: Bot) -> None:
    bot.write(HEADER + line(1))
    bot.poll()
    bot.path.write_bytes(HEADER + line(2))
    before = bot.poll()
    assert bot.saved is not None
    del bot.saved["log"]["numbered"]
    bot.open()
    bot.path.write_bytes(HEADER + line(3))
    after = bot.poll()
    assert numbers(after) == [None, 3]
    assert not set(places(before)) & set(places(after))


@pytest.mark.req("P-06")
@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_to_the_files_every_line_comes_once(bot: Bot, seed: int) -> None:
    """A bot that writes in pieces, files that are rotated in both ways, a reader that is killed anywhere."""
    random = Random(seed)
    written = 0
    found: dict[tuple[str, int], int] = {}

    def read(*, is_saved: bool) -> None:
        source = bot.open() if random.random() < 0.4 else bot.source or bot.open()
        for _ in range(random.randint(1, 4)):
            for event in source.poll(random.randint(1, 30)):
                place = (event["source_stream"], event["source_position"])
                assert found.setdefault(place, event["sequence"]) == event["sequence"]
        if is_saved:
            bot.saved = source.state()
        else:
            bot.source = None  # killed before the checkpoint

    def shift() -> None:
        for age in range(30, 0, -1):
            older = bot.folder / f"events.jsonl.{age}"
            if older.exists():
                older.rename(bot.folder / f"events.jsonl.{age + 1}")

    rest = b""
    for _ in range(40):
        turn = random.random()
        if turn < 0.5:
            count = random.randint(1, 12)
            content = rest + lines(written + 1, written + count)
            cut = len(content) - random.choice((0, 0, random.randint(1, 60)))
            bot.write(content[:cut])
            rest = content[cut:]
            written += count
        elif turn < 0.65 and bot.path.exists():
            bot.write(rest)
            rest = b""
            shift()
            if turn < 0.6:
                bot.rotate("events.jsonl.1")
            else:
                bot.copy_and_truncate("events.jsonl.1")
        elif written:
            read(is_saved=random.random() < 0.7)
    bot.write(rest)
    bot.open()
    for event in bot.poll():
        found[event["source_stream"], event["source_position"]] = event["sequence"]
    bot.saved = None
    bot.open()
    places_again = {(event["source_stream"], event["source_position"]): event["sequence"] for event in bot.poll()}
    assert sorted(places_again.values()) == list(range(1, written + 1))
    assert places_again == found

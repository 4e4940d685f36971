"""Trend's ledger followed through restarts, rotation, truncation and half-written lines (S2-02)."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.producers.support import Listed

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.rolling import REMEMBERED
from tradetape.producers.connectors.trend import source as trend
from tradetape.producers.events import Event
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("S2-02")


def line(number: int, *, name: str = "a") -> bytes:
    record = {
        "event_id": f"00000000-0000-4000-8000-{ord(name):02x}{number:010x}",
        "event_type": "MarketTick",
        "timestamp": f"2024-01-15T10:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        "sequence_num": number,
        "payload": {"symbol": "BTCUSDT", "price": 42000 + number},
        "metadata": {},
    }
    return json.dumps(record).encode() + b"\n"


def lines(first: int, last: int, *, name: str = "a") -> bytes:
    return b"".join(line(number, name=name) for number in range(first, last + 1))


class Bot:
    """A bot's ledger folder, and what was read of it in all; ``saved`` is the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "events.jsonl"
        self.saved: dict[str, Any] | None = None
        self.source: trend.TrendSource | None = None

    def write(self, content: bytes, name: str = "events.jsonl") -> None:
        with (self.folder / name).open("ab") as file:
            file.write(content)

    def next(self, number: object) -> None:
        (self.folder / "sequence.txt").write_text(f"{number}\n")

    def open(self) -> trend.TrendSource:
        """As a process that was just started: from the checkpoint, through JSON."""
        saved = json.loads(json.dumps(self.saved)) if self.saved else None
        origin = Origin("ledger-1", "trend1", "binance", "trend")
        self.source = trend.TrendSource(trend._ledger(str(self.path)), origin, saved, pause=lambda _: None)
        return self.source

    def poll(self, limit: int = 100, *, save: bool = True) -> list[Event]:
        """Everything new, polled until nothing is."""
        source = self.source or self.open()
        found: list[Event] = []
        while polled := source.poll(limit):
            found += polled
        if save:
            self.saved = source.state()
        return found

    def rotate(self, name: str) -> None:
        self.path.rename(self.folder / name)

    def copy_and_truncate(self, name: str) -> None:
        shutil.copy(self.path, self.folder / name)
        os.truncate(self.path, 0)


@pytest.fixture
def bot(tmp_path: Path) -> Bot:
    return Bot(tmp_path)


def numbers(events: Sequence[Event]) -> list[int | None]:
    return [event["sequence"] for event in events]


def places(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event["source_stream"], event["source_position"]) for event in events]


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["event_type"] for event in events]


def test_lines_come_in_their_order_with_their_numbers(bot: Bot) -> None:
    bot.write(lines(1, 5))
    events = bot.poll(limit=2)
    assert numbers(events) == [1, 2, 3, 4, 5]
    assert [position for _, position in places(events)] == [1, 2, 3, 4, 5]
    assert len({stream for stream, _ in places(events)}) == 1
    bot.write(lines(6, 7))
    assert numbers(bot.poll()) == [6, 7]
    assert bot.poll() == []


@pytest.mark.req("P-06")
def test_a_restart_goes_on_and_a_lost_checkpoint_repeats_the_places(bot: Bot) -> None:
    bot.write(lines(1, 5))
    first = bot.poll()
    bot.write(lines(6, 8))
    bot.open()
    assert numbers(bot.poll()) == [6, 7, 8]
    bot.saved = None
    bot.open()
    again = bot.poll()
    assert numbers(again) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert again[:5] == first


def test_a_half_written_line_waits(bot: Bot) -> None:
    whole = line(2)
    bot.write(line(1) + whole[:30])
    assert numbers(bot.poll()) == [1]
    bot.open()
    assert bot.poll() == []
    bot.write(whole[30:])
    events = bot.poll()
    assert numbers(events) == [2]
    assert events[0]["native"] == whole[:-1]


def test_a_run_to_the_end_tells_a_half_written_line_once_and_reads_it_again(bot: Bot) -> None:
    whole = line(2)
    bot.write(line(1) + whole[:30])
    assert numbers(bot.poll()) == [1]
    assert bot.source is not None
    fragment, ended = bot.source.ended()
    assert (fragment["event_type"], fragment["source_position"]) == ("unmapped_record", None)
    assert fragment["native"] == whole[:30]
    assert ended["event_type"] == "source_ended"
    bot.saved = bot.source.state()
    again = bot.open()
    assert bot.poll() == []
    assert again.ended() == []
    bot.write(whole[30:])
    assert places(bot.poll())[0][1] == 2


def test_a_last_line_without_newline_is_taken_at_the_end(bot: Bot) -> None:
    bot.write(line(1) + line(2)[:-1])
    assert numbers(bot.poll()) == [1]
    source = bot.open()
    assert numbers(source.ended())[0] == 2
    bot.saved = source.state()
    bot.open()
    bot.write(b"\n" + line(3))
    assert numbers(bot.poll()) == [3]


def test_the_first_line_may_be_half_written_too(bot: Bot) -> None:
    bot.write(line(1)[:20])
    assert bot.poll() == []
    source = bot.open()
    assert kinds(source.ended()) == ["unmapped_record"]
    assert source.ended() == []
    bot.write(line(1)[20:])
    assert numbers(bot.poll()) == [1]


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


HEADER = b'{"header":1}\n'


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


def test_numbers_that_repeat_or_run_backwards_keep_places_of_their_own(bot: Bot) -> None:
    bot.write(line(1) + line(2) + line(2) + line(4) + line(3))
    events = bot.poll()
    assert numbers(events) == [1, 2, 2, 4, 3]
    assert [position for _, position in places(events)] == [1, 2, 3, 4, 5]


def test_a_ledger_that_begins_anew_is_another_source(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    bot.path.unlink()
    bot.write(lines(1, 2, name="b"))
    ended, *events = bot.poll()
    assert (ended["event_type"], ended["source_id"]) == ("source_ended", "ledger-1")
    assert ended["payload"]["rows"] == {"events.jsonl": 3}
    (source_id,) = {event["source_id"] for event in events}
    assert source_id.startswith("ledger-1@")
    bot.write(line(3, name="b"))
    bot.open()
    assert [event["source_id"] for event in bot.poll()] == [source_id]
    assert bot.source is not None
    assert bot.source.source_id == "ledger-1"


def test_rotation_alone_is_no_new_beginning(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    bot.rotate("events.jsonl.1")
    bot.write(lines(4, 5))
    (bot.folder / "events.jsonl.1").unlink()
    assert {event["source_id"] for event in bot.poll()} == {"ledger-1"}


def test_crlf_bom_and_blank_lines(bot: Bot) -> None:
    bot.write(b"\xef\xbb\xbf" + line(1)[:-1] + b"\r\n\r\n  \n" + line(2)[:-1] + b"\r\n")
    events = bot.poll()
    assert kinds(events) == ["market_price", "market_price"]
    assert [position for _, position in places(events)] == [1, 4]
    assert [event["native"] for event in events] == [line(1)[:-1], line(2)[:-1]]


@pytest.mark.req("P-08")
def test_a_line_that_is_too_long_is_evidence_with_its_beginning(bot: Bot) -> None:
    long = b'{"x":"' + b"y" * MAX_LINE_BYTES + b'"}'
    bot.write(long + b"\n" + line(1))
    cut, good = bot.poll()
    assert (cut["event_type"], cut["payload"]["native_bytes"]) == ("unmapped_record", len(long))
    assert cut["native"] == long[:MAX_LINE_BYTES]
    assert good["source_position"] == 2


@pytest.mark.req("P-08")
def test_foreign_and_corrupt_lines_are_evidence(bot: Bot) -> None:
    bot.write(b"\x00\x00\x00\n\xff\xfe\nnot json\n{}\n[1]\n" + line(1))
    events = bot.poll()
    assert kinds(events) == ["unmapped_record"] * 5 + ["market_price"]
    assert [position for _, position in places(events)] == [1, 2, 3, 4, 5, 6]


def test_sequence_txt_that_fits_says_nothing(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.next(4)
    assert kinds(bot.poll()) == ["market_price"] * 3
    assert bot.source is not None
    assert kinds(bot.source.ended()) == ["source_ended"]
    assert bot.source.notes == []


def test_sequence_txt_ahead_of_a_settled_ledger_is_a_gap_told_once(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.next(7)
    assert kinds(bot.poll()) == ["market_price"] * 3
    (gap,) = bot.poll()
    assert (gap["event_type"], gap["source_id"], gap["source_position"]) == ("system_gap", "ledger-1", None)
    found = gap["payload"]
    assert (found["reason"], found["stream"]) == ("sequence_file", "events.jsonl")
    assert (found["count"], found["first"], found["last"]) == (3, "4", "6")
    assert bot.poll() == bot.poll() == []
    bot.open()
    assert bot.poll() == bot.poll() == []
    bot.next(9)
    bot.poll()
    (more,) = bot.poll()
    assert (more["payload"]["first"], more["payload"]["last"]) == ("7", "8")


def test_a_bot_between_its_two_writes_has_lost_nothing(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.poll()
    bot.next(5)
    assert bot.poll() == []
    bot.write(line(4))
    assert kinds(bot.poll()) == ["market_price"]
    assert bot.poll() == []


def test_at_the_end_the_bot_is_given_a_moment(bot: Bot) -> None:
    bot.write(lines(1, 3))
    bot.next(5)
    bot.poll()
    bot.source = trend.TrendSource(
        bot.path, Origin("ledger-1", "trend1", "binance", "trend"), bot.saved, pause=lambda _: bot.write(line(4))
    )
    assert kinds(bot.source.ended()) == ["market_price", "source_ended"]
    bot.next(6)
    source = bot.open()
    assert "system_gap" in kinds(source.ended())


def test_a_malformed_last_line_is_not_a_lost_one(bot: Bot) -> None:
    bot.write(lines(1, 3) + line(4)[:30] + b"\n")
    bot.next(5)
    assert kinds(bot.poll()) == ["market_price"] * 3 + ["unmapped_record"]
    assert bot.poll() == bot.poll() == []


@pytest.mark.parametrize(("content", "says"), [("3", "it is behind"), ("many", "no number"), ("9" * 30, "no number")])
def test_sequence_txt_behind_or_damaged_is_a_note(bot: Bot, content: str, says: str) -> None:
    bot.write(lines(1, 3))
    bot.next(content)
    assert kinds(bot.poll()) == ["market_price"] * 3
    assert bot.poll() == []
    assert bot.source is not None
    (note,) = bot.source.notes
    assert says in note


def test_the_lag_counts_numbers_and_seconds(bot: Bot) -> None:
    bot.write(lines(1, 10))
    source = bot.open()
    source.poll(4)
    assert source.lag() == (6, 6.0)
    source.poll(100)
    assert source.lag() == (0, 0.0)


def test_a_folder_or_the_file_in_it_is_the_same_ledger(bot: Bot) -> None:
    bot.write(line(1))
    assert trend.fingerprint(str(bot.folder)) == trend.fingerprint(str(bot.path))
    source = trend.open_source(str(bot.folder), Origin("l", "trend1", "binance", "trend"), None)
    assert numbers(source.poll(10)) == [1]
    bot.rotate("events.jsonl.1")
    assert trend.fingerprint(str(bot.folder)) == trend.fingerprint(str(bot.path))


def test_what_is_no_ledger_is_refused_with_a_hint(bot: Bot) -> None:
    for location in (str(bot.folder), str(bot.path), str(bot.folder / "nowhere" / "events.jsonl")):
        with pytest.raises(TradetapeError) as refused:
            trend.fingerprint(location)
        assert refused.value.hint
    bot.path.mkdir()
    with pytest.raises(TradetapeError):
        trend.fingerprint(str(bot.path))


@pytest.mark.parametrize("location", ["/tmp/a\0b", "/tmp/a\0b/events.jsonl", "/tmp/" + "x" * 300])
def test_a_name_that_no_file_can_have_is_told(location: str) -> None:
    with pytest.raises(TradetapeError, match="cannot be read") as refused:
        trend.fingerprint(location)
    assert refused.value.hint


def test_a_folder_that_may_not_be_looked_into_is_told(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    bot.write(lines(1, 2))
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(TradetapeError, match="Permission denied"):
        trend.fingerprint(str(bot.path))


def test_a_ledger_that_goes_away_is_told_and_comes_back(bot: Bot) -> None:
    bot.write(lines(1, 2))
    bot.poll()
    away = bot.folder.with_name("away")
    bot.folder.rename(away)
    assert bot.source is not None
    with pytest.raises(TradetapeError):
        bot.source.poll(10)
    away.rename(bot.folder)
    bot.write(line(3))
    bot.open()
    assert numbers(bot.poll()) == [3]


@pytest.mark.req("P-06")
def test_the_runner_takes_a_ledger_in_once(bot: Bot, tmp_path: Path) -> None:
    bot.write(lines(1, 50))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    emitter = Listed()
    summary = runner.run(bot.open(), emitter, checkpoints, batch=7)
    assert summary.events == {"market_price": 50, "source_ended": 1}
    (ended,) = emitter.of("source_ended")
    assert ended["payload"] == {"rows": {"events.jsonl": 50}, "events": {"market_price": 50}}
    bot.saved = checkpoints.load("ledger-1")
    again = runner.run(bot.open(), Listed(), checkpoints)
    assert (again.sent, again.already_ingested) == (0, True)


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

"""Trend's ledger followed through restarts and half-written lines, and its sequence.txt (S2-02)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.producers.support import Listed
from tests.producers.trend_ledger import Bot, kinds, line, lines, numbers, places

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.connectors.trend import source as trend
from tradetape.schemas.envelope_json import MAX_LINE_BYTES
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("S2-02")


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

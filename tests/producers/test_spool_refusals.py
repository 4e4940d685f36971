"""What a spool refused is told whole, and once, whenever the process is killed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.producers.support import Listed
from tests.producers.test_spool import SECONDS, document, fill

from tradetape.producers.spool import Spool, SpoolFull, refusals
from tradetape.producers.spool import log as files
from tradetape.producers.spool.refusals import Refusals, Tally

pytestmark = pytest.mark.req("P-07")

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def opener(path: Path) -> Callable[[], Refusals]:
    """Opens the refusals kept at ``path``, as each process does, with ids that count on."""
    ids = count(1)
    return partial(Refusals, path, clock=lambda: NOW, new_id=lambda: f"id-{next(ids)}")


def refuse(kept: Refusals, bot: str = "b", times: int = 1) -> None:
    for _ in range(times):
        kept.add(document(1, instance_name=bot), "no room")


def taken(kept: Refusals) -> list[tuple[str, str, int]]:
    found = []
    while (tally := kept.take()) is not None:
        found.append((tally.bot, tally.event_id, tally.count))
    return found


def test_what_was_refused_after_a_kill_is_not_hidden_by_what_was_told_before_it(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    full = Spool(folder, max_bytes=20_000)
    refused = fill(full, 1)
    with pytest.raises(SpoolFull):
        full.append(document(refused))
    full.close(0)
    kept = (folder / "refused.json").read_bytes()
    wide = Spool(folder, max_bytes=40_000)
    wide.append(document(refused))
    wide.close(0)
    assert not (folder / "refused.json").exists()
    (folder / "refused.json").write_bytes(kept)  # as a kill between telling and removing it would

    again = Spool(folder, max_bytes=20_000)
    with pytest.raises(SpoolFull):
        again.append(document(refused + 1))
    again.close(0)
    sent = Listed()
    with Spool(folder, max_bytes=60_000) as last:
        last.append(document(refused + 1))
        last.start(lambda: sent)
        last.flush(SECONDS)
    told: dict[str, int] = {}
    for gap in sent.of("system_gap"):
        told.setdefault(gap["event_id"], gap["payload"]["count"])  # a repeated id is a duplicate, whatever it says
    assert list(told.values()) == [2, 1]


def test_what_an_earlier_process_kept_is_told_first_as_it_was(tmp_path: Path) -> None:
    start = opener(tmp_path / "refused.json")
    first = start()
    refuse(first, times=3)
    refuse(first, "other")
    first.save()
    second = start()
    assert second
    refuse(second, times=2)
    tally = second.take()
    assert tally is not None
    second.put_back(tally, final=False)
    refuse(second)
    second.save()
    expected = [("b", "id-1", 3), ("other", "id-2", 1), ("b", "id-3", 3)]
    assert taken(second) == expected
    assert not second
    assert taken(start()) == expected
    second.save()
    assert not start()


def test_what_was_not_tried_is_added_to_and_what_may_be_on_the_disk_is_not(tmp_path: Path) -> None:
    kept = opener(tmp_path / "refused.json")()
    refuse(kept)
    for final in (False, True):
        tally = kept.take()
        assert tally is not None
        refuse(kept)
        kept.put_back(tally, final=final)
        refuse(kept)
    assert taken(kept) == [("b", "id-1", 3), ("b", "id-3", 2)]


def test_what_is_being_told_is_kept_until_it_is(tmp_path: Path) -> None:
    start = opener(tmp_path / "refused.json")
    kept = start()
    refuse(kept)
    assert kept.take() is not None
    kept.save()
    assert taken(start()) == [("b", "id-1", 1)]
    assert kept.take() is None
    kept.save()
    assert not start()


def test_a_gap_whose_write_failed_is_not_told_with_another_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("the disk")

    sent = Listed()
    with Spool(tmp_path / "spool", fsync=True) as spool:
        spool.append(document(1))
        with monkeypatch.context() as patch:
            # The record is written, its sync fails, and it cannot be taken back: it stays.
            patch.setattr(files.os, "fsync", fails)
            patch.setattr(files.os, "ftruncate", fails)
            for _ in range(3):
                with pytest.raises(SpoolFull):
                    spool.append(document(2))
        spool.append(document(2))
        spool.start(lambda: sent)
        spool.flush(SECONDS)
    counts: dict[str, set[int]] = {}
    for gap in sent.of("system_gap"):
        counts.setdefault(gap["event_id"], set()).add(gap["payload"]["count"])
    assert sorted(map(sorted, counts.values())) == [[1], [2]]


def test_too_many_of_earlier_processes_are_told_together_under_an_id_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "refused.json"
    start = opener(path)
    tallies = {
        f"old-{n}": {"who": {"instance_name": f"b{n % 3}"}, "event_id": f"old-{n}", "first": "f", "last": str(n)}
        | {"count": 2, "causes": {"no room": 1, "busy": 1}}
        for n in range(refusals.MOST_KEPT)
    }
    path.write_text(json.dumps(tallies))
    assert len(taken(start())) == refusals.MOST_KEPT
    path.write_text(json.dumps(tallies | {"one": {**tallies["old-0"], "event_id": "more"}}))
    joined = taken(start())
    assert joined == taken(start())
    assert [(bot, total) for bot, _, total in joined] == [("b0", 670), ("b1", 666), ("b2", 666)]
    assert len({event_id for _, event_id, _ in joined} - tallies.keys()) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"b": 1}', '{"b": {"who": {}}}', '{"b": {"unknown": 1}}'])
def test_what_cannot_be_read_is_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "refused.json").write_text(content)
    assert not opener(tmp_path / "refused.json")()


def test_the_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"who": {"instance_name": "b"}, "event_id": "x", "first": "f", "last": "l", "count": 4, "causes": {"y": 4}}
    (tmp_path / "refused.json").write_text(json.dumps({"b": old}))
    assert taken(opener(tmp_path / "refused.json")()) == [("b", "x", 4)]


@given(st.lists(st.sampled_from(["refuse", "tell", "no room", "perhaps", "save", "kill"]), max_size=40))
def test_every_refusal_is_told_once_by_the_first_telling_of_each_id(steps: list[str]) -> None:
    told: dict[str, int] = {}
    refused = 0

    def tell(tally: Tally) -> None:
        told.setdefault(tally.event_id, tally.count)

    with tempfile.TemporaryDirectory() as folder:
        start = opener(Path(folder) / "refused.json")
        kept = start()
        for step in steps:
            if step == "refuse":
                refuse(kept)
                refused += 1
                kept.save()  # what a killed process had not saved is lost: that is no question of ids
            elif step == "save":
                kept.save()
            elif step == "kill":
                kept = start()
            elif (tally := kept.take()) is not None:
                if step != "no room":
                    tell(tally)
                if step != "tell":
                    kept.put_back(tally, final=step == "perhaps")
        while (tally := kept.take()) is not None:
            tell(tally)
    assert sum(told.values()) == refused

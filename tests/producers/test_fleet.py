"""Many sources in one process: turns, outages, stops."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.producers.support import Listed
from tests.producers.tables import Table, connected, job, positions, table
from tests.support import eventually

from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors.fleet import ROUND, Kafka, Pace, run_many
from tradetape.producers.connectors.runner import KafkaFailed
from tradetape.producers.connectors.source import Lag
from tradetape.producers.connectors.summary import Summary
from tradetape.producers.connectors.taken import Job, Status
from tradetape.producers.events import Event
from tradetape.schemas.errors import TradetapeError


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def test_all_are_taken_in_over_one_emitter_few_at_a_time(tmp_path: Path, checkpoints: Checkpoints) -> None:
    paths = [table(tmp_path / f"s{number:02}.db", number) for number in range(50)]
    emitter = Listed()
    lock, polling, most = threading.Lock(), 0, 0
    met = threading.Event()

    class Watched(Table):
        def poll(self, limit: int) -> Sequence[Event]:
            nonlocal polling, most
            with lock:
                polling += 1
                most = max(most, polling)
                if polling > 1:
                    met.set()
            met.wait(10)  # until two were at work at a time
            with lock:
                polling -= 1
            return super().poll(limit)

    results = run_many(
        [Job(path.stem, partial(lambda at, kept: Watched(at, kept.load(at.stem)), path)) for path in paths],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
        pace=Pace(round=3),
    )
    assert 1 < most <= 3
    for number, (path, result) in enumerate(zip(paths, results, strict=True)):
        assert isinstance(result, Summary)
        assert result.sent == (number + 1 if number else 0)
        assert positions(emitter.acknowledged, path.stem) == list(range(1, number + 1))


def test_one_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, checkpoints: Checkpoints) -> None:
    good = table(tmp_path / "good.db", 5)
    (tmp_path / "bad.db").write_bytes(b"")
    emitter = Listed()
    bad, fine = run_many(
        [job(tmp_path / "bad.db"), job(good)],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
    )
    assert isinstance(bad, TradetapeError)
    assert bad.message == "bad cannot be read (no such table: records)"
    assert isinstance(fine, Summary)
    assert positions(emitter.events, "good") == [1, 2, 3, 4, 5]


def test_a_bug_of_one_connector_ends_that_source_only_and_is_told(
    tmp_path: Path, checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(Table):
        def poll(self, limit: int) -> Sequence[Event]:
            raise KeyError("oops")

    good, bad_path = table(tmp_path / "good.db", 5), table(tmp_path / "bad.db", 5)
    emitter = Listed()
    bad, fine = run_many(
        [Job("bad", lambda _: Buggy(bad_path, None)), job(good)],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
    )
    assert isinstance(bad, TradetapeError)
    assert "KeyError: 'oops'" in str(bad)
    assert "in poll" in caplog.text
    assert isinstance(fine, Summary)
    assert positions(emitter.acknowledged, "good") == [1, 2, 3, 4, 5]


def test_one_store_is_not_read_twice(tmp_path: Path, checkpoints: Checkpoints) -> None:
    path = table(tmp_path / "a.db", 5)
    emitter = Listed()
    results = run_many(
        [Job("first", job(path).open), Job("second", job(path).open)],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
        pace=Pace(round=1),
    )
    assert isinstance(results[0], Summary)
    assert isinstance(results[1], TradetapeError)
    assert results[1].message == "second is the same store as first (source a)"
    assert positions(emitter.acknowledged, "a") == [1, 2, 3, 4, 5]


def test_a_store_that_is_away_is_tried_again_with_growing_pauses_and_keeps_its_place(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    path = table(tmp_path / "a.db", 3)
    emitter, stop = Listed(), threading.Event()
    now = 0.0
    warnings: list[tuple[float, str]] = []
    seen: list[Status] = []
    hidden = tmp_path / "hidden"

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now >= 20 and hidden.exists():
            hidden.rename(path)
            table(path, 2, first=False)
        elif len(positions(emitter.acknowledged, "a")) == 3 and not hidden.exists() and now < 20:
            path.rename(hidden)
            sqlite3.connect(path).close()
            now = 0.0
        if now >= 60:
            stop.set()

    class Reopened(Table):
        """Looks at the path at every poll, as a client that lost its connection does."""

        def poll(self, limit: int) -> Sequence[Event]:
            self._connection.close()
            self._connection = sqlite3.connect(path)
            return super().poll(limit)

    run_many(
        [Job("a", lambda kept: Reopened(path, kept.load("a")))],
        lambda: connected(emitter, checkpoints),
        follow=True,
        stop=stop,
        pace=Pace(report_every=9.0),
        on_report=seen.extend,
        on_warning=lambda warning: warnings.append((now, warning)),
        clock=lambda: now,
        wait=wait,
    )
    assert positions(emitter.acknowledged, "a") == [1, 2, 3, 4, 5]
    assert [warning.rpartition(" in ")[2] for _, warning in warnings][:4] == ["1 s", "2 s", "4 s", "8 s"]
    times = [at for at, _ in warnings]
    assert [later - at for at, later in pairwise(times)][:3] == [1.0, 2.0, 4.0]
    assert {"following", "away"} <= {status.state for status in seen}
    away = next(status for status in seen if status.state == "away")
    assert away.last_error == "a cannot be read (no such table: records); wait"
    assert seen[-1] == Status("a", "a", "following", 5, Lag(0, None), "")


def test_kafka_away_while_following_means_a_new_connection_and_the_same_place(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    path = table(tmp_path / "a.db", 30)
    stop = threading.Event()
    connections: list[Listed] = []
    warnings: list[str] = []

    @contextmanager
    def connect() -> Iterator[Kafka]:
        if len(connections) == 1:
            connections.append(Listed())
            raise TradetapeError("Kafka does not answer")
        connections.append(Listed(fail_after=None if connections else 15))
        yield Kafka(connections[-1], checkpoints)

    def wait(_seconds: float) -> None:
        if len(connections) == 3:
            stop.set()

    (result,) = run_many(
        [job(path)],
        connect,
        follow=True,
        stop=stop,
        pace=Pace(batch=10),
        on_warning=warnings.append,
        wait=wait,
    )
    assert positions(connections[0].acknowledged, "a") == list(range(1, 11))
    assert positions(connections[2].acknowledged, "a") == list(range(11, 31))
    assert warnings == [
        "Kafka went away; trying again in 1 s",
        "Kafka does not answer; trying again in 2 s",
    ]
    assert isinstance(result, Summary)
    assert result.sent == 35


def test_kafka_away_without_following_is_an_error(tmp_path: Path, checkpoints: Checkpoints) -> None:
    with pytest.raises(KafkaFailed, match="Kafka went away"):
        run_many(
            [job(table(tmp_path / "a.db", 3))],
            lambda: connected(Listed(fail_after=1), checkpoints),
            follow=False,
            stop=threading.Event(),
        )
    assert checkpoints.load("a") is None


def test_a_stop_finishes_the_round_and_saves(tmp_path: Path, checkpoints: Checkpoints) -> None:
    stop = threading.Event()

    class Stopping(Listed):
        def emit(self, event: dict[str, Any], event_type_name: str) -> None:
            stop.set()
            super().emit(event, event_type_name)

    emitter = Stopping()
    run_many(
        [job(table(tmp_path / "a.db", 30))],
        lambda: connected(emitter, checkpoints),
        follow=True,
        stop=stop,
        pace=Pace(batch=10),
    )
    assert positions(emitter.acknowledged, "a") == list(range(1, 11))
    assert checkpoints.load("a") == {"position": 10, "ended": False}


def test_a_stop_does_not_wait_for_a_kafka_that_hangs(tmp_path: Path, checkpoints: Checkpoints) -> None:
    stop, hangs = threading.Event(), threading.Event()

    class Hanging(Listed):
        def flush(self, timeout: float = 60.0) -> None:
            stop.set()
            hangs.wait(60)

    warnings: list[str] = []
    done: list[object] = []
    runner = threading.Thread(
        target=lambda: done.append(
            run_many(
                [job(table(tmp_path / "a.db", 3))],
                lambda: connected(Hanging(), checkpoints),
                follow=True,
                stop=stop,
                pace=Pace(grace=0.2),
                on_warning=warnings.append,
            )
        ),
        daemon=True,
    )
    runner.start()
    eventually(lambda: done, 20, "the run ends")
    hangs.set()
    assert checkpoints.load("a") is None
    assert "sent again by the next run" in warnings[0]


def test_every_source_gets_its_turn_and_a_round_fits_the_queue_of_the_emitter(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    paths = [table(tmp_path / f"s{number:02}.db", 50) for number in range(ROUND + 8)]
    sizes: list[int] = []

    class Measured(Listed):
        def flush(self, timeout: float = 60.0) -> None:
            sizes.append(len(self.events) - len(self.acknowledged))
            super().flush()

    emitter = Measured()
    run_many(
        [job(path) for path in paths],
        lambda: connected(emitter, checkpoints),
        follow=False,
        stop=threading.Event(),
        pace=Pace(batch=10),
    )
    assert max(sizes) == 10 * ROUND
    last = paths[-1].stem
    before_it = emitter.events[: next(i for i, e in enumerate(emitter.events) if e["source_id"] == last)]
    assert max(len(positions(before_it, path.stem)) for path in paths) <= 20
    assert all(positions(emitter.events, path.stem) == list(range(1, 51)) for path in paths)

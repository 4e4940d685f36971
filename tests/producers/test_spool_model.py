"""Whatever is appended, sent, lost on the way and killed, in whatever order: Kafka gets all of it, in order (P-06)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.producers.test_spool import document

from tradetape.producers.spool import documents, frames
from tradetape.producers.spool.drain import Cursor, Drain
from tradetape.producers.spool.log import Log
from tradetape.schemas.errors import TradetapeError

pytestmark = pytest.mark.req("P-06", "P-07")

FOREVER = 10**6


@dataclass
class Broker:
    """What Kafka has. An emitter of it breaks after ``patience`` events, or at the flush after ``reached`` of them were
    written; what is not written then is lost with the emitter.
    """

    positions: list[int] = field(default_factory=list)
    patience: int = FOREVER
    reached: int | None = None

    def connect(self) -> _Emitter:
        return _Emitter(self)


@dataclass
class _Emitter:
    broker: Broker
    pending: list[int] = field(default_factory=list)

    def emit(self, event: dict[str, Any], event_type_name: str) -> None:
        if self.broker.patience == 0:
            raise TradetapeError("the emitter broke")
        self.broker.patience -= 1
        self.pending.append(event["source_position"])

    def flush(self, timeout: float = 60.0) -> None:
        reached = self.broker.reached
        self.broker.positions += self.pending[:reached]
        self.pending.clear()
        if reached is not None:
            raise TradetapeError("not acknowledged, perhaps written")

    def cluster_id(self) -> str:
        return "model"


@dataclass
class Bot:
    """A spool without its thread, that can be killed at any point between two system calls that matter."""

    folder: Path
    segment_bytes: int
    broker: Broker = field(default_factory=Broker)
    accepted: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.log = Log(self.folder, segment_bytes=self.segment_bytes, max_bytes=10**9, fsync=False)
        cursor = Cursor.load(self.folder / "cursor.json", lambda: "an id")
        self.log.skip(cursor.position.segment)
        self.drain = Drain(
            self.log,
            cursor,
            name="b",
            to_event=documents.to_event,
            clock=lambda: datetime(2024, 5, 1, tzinfo=UTC),
            housekeep=lambda: None,
        )

    def frame(self) -> bytes:
        return frames.encode(frames.EVENT, documents.write(document(self.accepted + 1)))

    def append(self) -> None:
        frame = self.frame()
        assert self.log.has_room(len(frame))
        self.log.write(frame)
        self.accepted += 1

    def step(self, patience: int = FOREVER, reached: int | None = None) -> bool:
        self.broker.patience, self.broker.reached = patience, reached
        try:
            return self.drain.step(self.broker.connect)
        except TradetapeError:
            return False

    def kill(self, torn: int, forget_cursor: bool) -> None:
        """Die in the middle of a write that got ``torn`` bytes far, perhaps before the last cursor was written."""
        frame = self.frame()
        if torn and self.log.has_room(len(frame)):
            self.log.write(frame[: min(torn, len(frame) - 1)])
        self.log.forget()
        if forget_cursor:
            (self.folder / "cursor.json").unlink(missing_ok=True)
        self.start()


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 6)),
    st.tuples(st.just("step")),
    st.tuples(st.just("step"), st.integers(0, 4)),
    st.tuples(st.just("step"), st.just(FOREVER), st.integers(0, 4)),
    st.tuples(st.just("kill"), st.integers(0, 600), st.booleans()),
)


@settings(max_examples=150)
@given(st.lists(OPERATIONS, max_size=25), st.sampled_from([1, 900, 2_000, 100_000]))
def test_nothing_is_lost_or_passed_by_a_later_event(operations: list[tuple[Any, ...]], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bot = Bot(Path(folder), segment_bytes)
        for name, *arguments in operations:
            if name == "append":
                for _ in range(arguments[0]):
                    bot.append()
            else:
                getattr(bot, name)(*arguments)
        bot.kill(0, False)
        while bot.step():
            pass
        # The processor takes an event whose position is above all before it, and drops any other as a repeat.
        highest = 0
        for position in bot.broker.positions:
            assert position <= highest + 1, f"{position} came before {highest + 1}: it would be dropped later"
            highest = max(highest, position)
        assert highest == bot.accepted
        assert bot.drain.damaged == 0
        bot.log.close()

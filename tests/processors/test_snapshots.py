"""A snapshot and the records after it give what a fold from the first record gives (S1-07)."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import SCHEMAS
from tests.processors.logs import log

from tradetape.processors import snapshots
from tradetape.processors.emission import Emitted
from tradetape.processors.replay import Replay

pytestmark = pytest.mark.req("S1-07", "S1-06")

LOG = log(2, 1)[0]


@cache
def whole() -> tuple[list[list[Emitted]], bytes]:
    """What each record causes, and the state in the end."""
    replay = Replay(0, SCHEMAS.get)
    sent = [replay.fold(raw) for raw in LOG]
    replay.commit()
    return sent, snapshots.pack(replay.store)


def snapshot_at(offset: int) -> bytes:
    """The state after the record at ``offset``."""
    replay = Replay(0, SCHEMAS.get)
    for raw in LOG[: offset + 1]:
        replay.fold(raw)
    replay.commit()
    return snapshots.pack(replay.store)


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(0, len(LOG) - 2), min_size=1, max_size=3, unique=True))
def test_any_cut_gives_the_same_outputs_and_the_same_bytes(cuts: list[int]) -> None:
    sent, last = whole()
    replay = Replay(0, SCHEMAS.get, snapshots.unpack(snapshot_at(min(cuts))))
    for raw in LOG[min(cuts) + 1 :]:
        assert replay.fold(raw) == sent[raw.offset]
        if raw.offset in cuts:
            replay.commit()
            packed = snapshots.pack(replay.store)
            replay = Replay(0, SCHEMAS.get, snapshots.unpack(packed))
    replay.commit()
    assert snapshots.pack(replay.store) == last


def test_the_bytes_do_not_depend_on_the_order_in_which_records_were_written() -> None:
    store = snapshots.unpack(whole()[1])
    assert snapshots.pack(dict(reversed(store.items()))) == whole()[1]
    assert snapshots.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

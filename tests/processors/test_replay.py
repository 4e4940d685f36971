"""The same keys and values however the log is cut into batches, shared among workers and disturbed (G3)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.folding import IDS, INGEST, SCHEMAS, encode
from tests.processors.events import filled
from tests.processors.logs import BY_RECORD, Log, by_id, log

from tradetape.processors import replay as replaying
from tradetape.processors.emission import Emitted, place_of
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.replay import Gap, Replay
from tradetape.processors.state import Change, PartitionState, apply
from tradetape.processors.stream import steps as stepping
from tradetape.processors.stream.judge import Judge
from tradetape.processors.stream.readers import Readers
from tradetape.processors.stream.steps import Place
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import Schema, event_types, output_schema

SEEDS = (1, 2, 3)
OUTPUTS = {f"tradetape.{name}": name for name in ("audited", "risk", "portfolio", "alerts")}
ENCODERS = {topic: codec.Encoder(output_schema(name), n) for n, (topic, name) in enumerate(OUTPUTS.items(), 1)}

CALM = ""
BEFORE, WITHIN, SENT, COMMITTED = "before outputs", "within outputs", "outputs sent", "state written"
"""Where a worker dies: its batch comes again, in another cut."""

Outputs = dict[Place, dict[bytes, bytes]]
"""Values by key, of each topic partition."""


@cache
def undisturbed(seed: int, partitions: int) -> tuple[Outputs, dict[int, dict[bytes, bytes]]]:
    """What the log causes and what is remembered in the end, each partition folded in one go."""
    outputs: Outputs = defaultdict(dict)
    stores = {}
    for partition, records in log(seed, partitions).items():
        replay = Replay(partition, SCHEMAS.get)
        for raw in records:
            for output in replay.fold(raw):
                sent = outputs[place_of(output, partition, partitions)]
                assert output.key not in sent
                sent[output.key] = ENCODERS[output.topic].encode(output.record)
        replay.commit()
        stores[partition] = replay.store
    return outputs, stores


@dataclass
class Record:
    """A record as the worker's consumer hands it out; ``timestamp`` in milliseconds."""

    offset: int
    timestamp: int
    value: bytes


def writer_schema(schema: Schema) -> WriterSchema:
    """How to read the records of ``schema``: made once, for it takes longer than to fold them."""
    return SCHEMAS[IDS[BY_RECORD[schema["name"]]]]


class Killed(Exception):
    """The worker is no more."""


@dataclass
class Cluster:
    """What outlives workers: the log, the output topics, the changelog and the offsets of the group."""

    log: Log
    sent: dict[Place, list[tuple[bytes, bytes]]] = field(default_factory=lambda: defaultdict(list))
    changelog: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    acknowledged: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def partitions(self) -> int:
        return len(self.log)


class Worker:
    """The real Judge over a table in memory; dies where it is told to."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._states: dict[int, PartitionState] = {}
        self._positions: dict[int, int] = {}
        self._death = CALM
        self._judge = Judge(
            table=self,  # type: ignore[arg-type]
            log=self,  # type: ignore[arg-type]
            schemas=Readers(by_id, writer_schema),
            encoders=ENCODERS,
            send=self._send,
            partitions=cluster.partitions,
        )

    def work(self, partition: int, count: int, death: str = CALM) -> None:
        """Take the next ``count`` records of ``partition``; they come from the group's offset at first."""
        self._death = death
        start = self._positions.setdefault(partition, self._cluster.acknowledged[partition])
        raws = self._cluster.log[partition][start : start + count]
        records = [Record(raw.offset, raw.timestamp // 1_000, raw.value) for raw in raws]
        asyncio.run(self._judge.handle(partition, records))
        self._positions[partition] = start + len(records)
        if death == COMMITTED:
            raise Killed
        self._cluster.acknowledged[partition] = start + len(records)

    def give_away(self, partition: int) -> None:
        """Another worker has it now: what was known of it may be old when it comes back."""
        self._states.pop(partition, None)
        self._positions.pop(partition, None)

    def state(self, partition: int) -> PartitionState:
        if partition not in self._states:
            self._states[partition] = PartitionState(partition, self._cluster.changelog[partition])
        return self._states[partition]

    def discard(self, partition: int) -> None:
        del self._states[partition]

    async def commit(self, partition: int, changes: Sequence[Change]) -> None:
        if self._death == SENT:
            raise Killed
        apply(self._cluster.changelog[partition], changes)
        self._states[partition].committed()

    async def _send(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        if self._death == BEFORE:
            raise Killed
        cut = len(records) // 2 if self._death == WITHIN else len(records)
        self._cluster.sent[topic, partition] += records[:cut]
        if self._death == WITHIN:
            raise Killed

    async def start(self, partition: int) -> int:
        return self._cluster.log[partition][0].offset


steps = st.tuples(
    st.integers(0, 3),
    st.integers(1, 90),
    st.integers(0, 3),
    st.sampled_from([CALM, CALM, CALM, BEFORE, WITHIN, SENT, COMMITTED]),
)
"""Partition, records in the batch, worker that has it, where that one dies."""


@pytest.mark.req("P-06", "S1-11")
@settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a fold takes too long to shrink
@given(
    seed=st.sampled_from(SEEDS),
    partitions=st.integers(1, 4),
    plan=st.lists(steps, max_size=40),
    most=st.integers(1, 60),
    largest=st.sampled_from([topics.MAX_AUDITED_BYTES, 20_000, 3_000]),
)
def test_every_cut_share_and_death_gives_the_keys_and_values_of_an_undisturbed_fold(
    seed: int, partitions: int, plan: list[tuple[int, int, int, str]], most: int, largest: int
) -> None:
    outputs, stores = undisturbed(seed, partitions)
    cluster = Cluster(log(seed, partitions))
    workers = [Worker(cluster) for _ in range(partitions)]
    owners = dict.fromkeys(range(partitions), 0)
    with patch.object(stepping, "MAX_EVENTS", most), patch.object(stepping, "MAX_AUDITED_BYTES", largest):
        for number, count, who, death in plan:
            partition, owner = number % partitions, who % partitions
            if owners[partition] != owner:
                workers[owners[partition]].give_away(partition)
                owners[partition] = owner
            try:
                workers[owner].work(partition, count, death)
            except Killed:
                workers[owner] = Worker(cluster)
        for partition, owner in owners.items():
            workers[owner].work(partition, len(cluster.log[partition]))
    assert {place for place, sent in cluster.sent.items() if sent} == outputs.keys()
    for place, expected in outputs.items():
        first: dict[bytes, bytes] = {}
        for key, value in cluster.sent[place]:
            assert first.setdefault(key, value) == value, f"{place} {key!r}: judged again, and differently"
        assert first == expected
        for partition in range(partitions):
            assert of(partition, first) == of(partition, expected)
    assert dict(cluster.changelog) == stores


@pytest.mark.req("P-08")
def test_what_would_be_too_large_to_commit_at_once_is_committed_in_parts() -> None:
    made = [filled(f"{number}" + "x" * 1_000, side="buy") for number in range(20)]
    cluster = Cluster({0: [RawRecord(0, number, INGEST, encode(each)) for number, each in enumerate(made)]})
    worker, committed = Worker(cluster), []
    commit = worker.commit

    async def noted(partition: int, changes: Sequence[Change]) -> None:
        committed.append(changes)
        await commit(partition, changes)

    with patch.object(worker, "commit", noted), patch.object(stepping, "MAX_AUDITED_BYTES", 20_000):
        worker.work(0, len(made))
        assert all(map(stepping.fits, committed))
    assert len(committed) > 1
    assert len(cluster.sent[topics.AUDITED, 0]) == len(made)


def of(partition: int, sent: Iterable[bytes]) -> list[bytes]:
    """What the raw ``partition`` caused, in its order."""
    return [key for key in sent if key.startswith(b"%d:" % partition)]


def test_the_log_has_what_the_promise_is_about() -> None:
    outputs, _ = undisturbed(SEEDS[0], 2)
    decoder = codec.Decoder(output_schema("audited"))
    verdicts = [decoder.decode(value) for value in values(outputs, topics.AUDITED)]
    assert {verdict["disposition"] for verdict in verdicts} == {"accepted", "duplicate", "rejected"}
    assert any(verdict["source_position"] is None for verdict in verdicts if verdict["disposition"] == "accepted")
    control = {name for name, event_type in event_types().items() if event_type.control} - {"unmapped_record"}
    for partition in range(2):
        assert control <= {v["event_type"] for v in verdicts if v["raw_partition"] == partition}
    assert {code["code"] for verdict in verdicts for code in verdict["findings"]} > {"overfill", "sequence_gap"}
    assert len(values(outputs, topics.RISK)) > 100
    assert len(values(outputs, topics.ALERTS)) > 10


def values(outputs: Outputs, topic: str) -> list[bytes]:
    return [value for (name, _), sent in outputs.items() if name == topic for value in sent.values()]


def fold_all(records: list[RawRecord]) -> list[Emitted]:
    replay = Replay(records[0].partition, SCHEMAS.get)
    return [sent for raw in records for sent in replay.fold(raw)]


@pytest.mark.req("P-06")
@settings(max_examples=15)
@given(every=st.integers(1, 50))
def test_a_replay_holds_what_changed_for_any_while(every: int) -> None:
    records = log(SEEDS[0], 1)[0]
    with patch.object(replaying, "COMMIT_EVERY", every):
        assert fold_all(records) == fold_all_at_once()


@cache
def fold_all_at_once() -> list[Emitted]:
    return fold_all(log(SEEDS[0], 1)[0])


@pytest.mark.req("P-06")
def test_a_replay_stops_where_a_record_is_missing() -> None:
    records = log(SEEDS[0], 1)[0]
    replay = Replay(0, SCHEMAS.get)
    replay.fold(records[0])
    with pytest.raises(Gap) as gap:
        replay.fold(records[4])
    assert (gap.value.first, gap.value.last) == (1, 3)
    assert replay.next_offset == 1

"""A peer of the worker: Quix Streams, one event at a time, its state in the state store of the event's key.

Runs in an environment of its own (``quix_environment``). State is what Quix Streams' documentation makes it: kept by
message key, read and written through ``State`` for every event, on disk in RocksDB and in a changelog topic, committed
with the offsets by a checkpoint. Keys are instances, and portfolios in the second stage. Its JSON is passed by: state
is bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer

from benchmarks.judging import Judging, Sent, peer_topic
from tradetape.processors.emission import Emitted
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS

PEER = "quix"
GROUP = "bench-quix"


class Value(Serializer):  # type: ignore[misc]
    """The bytes of what is sent."""

    def __call__(self, sent: Sent, ctx: Any) -> bytes:
        return sent.value


class Stored:
    """Committed state as the core reads it, in the ``State`` of one message key."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._state.get_bytes(key)
        return found

    def write(self, state: PartitionState) -> None:
        """Write what an event changed."""
        for key, value in state.changes():
            if value is None:
                self._state.delete(key)
            else:
                self._state.set_bytes(key, value)


def build(bootstrap_servers: str, folder: Path) -> Application:
    """The application; the interval of commits and the guarantee (at least once) are the defaults."""
    app = Application(
        broker_address=bootstrap_servers,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        state_dir=folder,
        producer_extra_config={
            "linger.ms": 5,
            "acks": "all",
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        },
        loglevel="WARNING",
    )
    judging = Judging(PEER)
    raw_bytes = {"key_deserializer": "bytes", "value_deserializer": "bytes", "key_serializer": "bytes"}
    outputs = {
        name: app.topic(name, value_serializer=Value(), **raw_bytes)
        for name in (peer_topic(PEER, output) for output in OUTPUTS)
    }

    def sent(output: Emitted, partition: int) -> Sent:
        """``output``; a delta goes by the name of its portfolio, which is the key that its state is kept by."""
        record = judging.sent(output, partition)
        if output.topic != topics.PORTFOLIO:
            return record
        return record._replace(key=f"{output.record['environment']}/{output.record['portfolio']}".encode())

    def judge(value: bytes, key: bytes, timestamp: int, headers: Any, state: State) -> list[Sent]:
        context = message_context()
        raw = RawRecord(context.partition, context.offset, timestamp * 1000, value)
        stored = Stored(state)
        found = PartitionState(raw.partition, stored)
        made = [sent(output, raw.partition) for output in judging.judge(raw, found)]
        found.progress.applied = raw.offset
        stored.write(found)
        return made

    def fold(value: bytes, key: bytes, timestamp: int, headers: Any, state: State) -> list[Sent]:
        partition, stored = message_context().partition, Stored(state)
        found = PartitionState(partition, stored)
        figure = judging.fold(judging.delta(value), found)
        stored.write(found)
        return [] if figure is None else [sent(figure, partition)]

    for topic, stage in (
        (app.topic(topics.EVENTS, **raw_bytes), judge),
        (outputs[peer_topic(PEER, topics.PORTFOLIO)], fold),
    ):
        app.dataframe(topic).apply(stage, stateful=True, metadata=True, expand=True).to_topic(
            lambda value, key, timestamp, headers: outputs[value.topic], key=lambda value: value.key
        )
    return app


def main() -> None:
    """Run until told to stop."""
    build(os.environ["TRADETAPE_BOOTSTRAP_SERVERS"], Path(os.environ["TRADETAPE_HOME"]) / "bench-quix").run()


if __name__ == "__main__":
    main()

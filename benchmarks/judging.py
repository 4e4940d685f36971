"""The pure work of the worker's peers: what becomes of a raw record, whatever moves the bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tradetape.processors import core
from tradetape.processors.emission import Emitted, emitted, key_of, place_of
from tradetape.processors.portfolio import books
from tradetape.processors.reading import RawRecord, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.schemas import codec, topics
from tradetape.schemas.catalogue import OUTPUTS, output_schema
from tradetape.schemas.registry import Registry


class Sent(NamedTuple):
    """One record for Kafka."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class Judging:
    """The core and the encoders of the worker, sending to ``bench.<peer>.*``."""

    def __init__(self, peer: str, partitions: int = topics.DEFAULT_PARTITIONS) -> None:
        self._peer = peer
        self._partitions = partitions
        self._registry = Registry(os.environ["TRADETAPE_REGISTRY_URL"])
        self._schemas: dict[int, WriterSchema] = {}
        self._encode = {
            topics.of_output(name): codec.Encoder(
                output_schema(name), self._registry.look_up(topics.of_output(name), output_schema(name))
            ).encode
            for name in OUTPUTS
        }
        self._delta = codec.Decoder(output_schema("portfolio"))

    def judge(self, raw: RawRecord, state: PartitionState) -> Iterator[Emitted]:
        """What the worker sends for ``raw``."""
        return emitted(core.process(raw, state, self._schema_by_id))

    def fold(self, delta: Mapping[str, Any], stage: PartitionState) -> Emitted | None:
        """What the worker's portfolio stage makes of ``delta``."""
        figure = books.fold(delta, stage)
        return None if figure is None else Emitted(key_of(figure), topics.PORTFOLIOS, figure)

    def delta(self, value: bytes) -> dict[str, Any]:
        """The portfolio delta in ``value``."""
        return self._delta.decode(value)

    def place(self, output: Emitted, partition: int) -> int:
        """The partition of what a record of ``partition`` caused."""
        return place_of(output, partition, self._partitions)[1]

    def sent(self, output: Emitted, partition: int) -> Sent:
        """``output`` of a record of ``partition``, encoded."""
        value = self._encode[output.topic](output.record)
        return Sent(peer_topic(self._peer, output.topic), self.place(output, partition), output.key, value)

    def _schema_by_id(self, schema_id: int) -> WriterSchema:
        found = self._schemas.get(schema_id)
        if found is None:
            found = self._schemas[schema_id] = WriterSchema(self._registry.by_id(schema_id))
        return found


def peer_topic(peer: str, topic: str) -> str:
    """Where ``peer`` sends what the worker sends to ``topic``."""
    return f"bench.{peer}.{topic.rpartition('.')[2]}"

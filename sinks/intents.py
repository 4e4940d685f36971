"""What a sink is about to land, in Kafka before it lands: the durable intent (design, How once is reached). Pure.

It is the metadata of the consumer group's committed offset of its topic partition; that offset stays the batch's first
until the batch landed. So whoever owns the partition next reads the same records as the same batch. Batches of several
partitions of a topic land in one insert, whose token each of their intents names: the next owner of any of them uses
that token up, and what the former owner still sends lands nothing. Kafka takes a commit from the present member of the
consumer group alone, so a sink that was frozen past its session can write no intent (decision 11).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.batch import Record

_TEXT = re.compile(r"intent (\d+) (\d+) (\d+) ([0-9a-f]{64})(?: ([0-9a-f]{64}))?\Z")


class IntentBroken(TradetapeError):
    """The records of a pending intent are no longer those that it was made of: only a person can tell why."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Records of one topic partition, offsets ``first`` to before ``end``, with the hash of keys and values.

    ``together`` names all batches that land with this one; empty where it lands by itself.
    """

    first: int
    end: int
    rows: int
    sha256: str
    together: str = ""

    @property
    def text(self) -> str:
        """As it stands in the metadata of the committed offset."""
        return f"intent {self.first} {self.end} {self.rows} {self.sha256} {self.together}".rstrip()

    def check(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Raise IntentBroken where ``records``, read again, are others."""
        found = of(records)
        if replace(found, together=self.together) != self:
            raise IntentBroken(
                f"{topic} {partition}: offsets {self.first} to {self.end - 1} were {self.rows} records with hash "
                f"{self.sha256[:16]}… before they were landed, and are {found.rows} from {found.first} with "
                f"{found.sha256[:16]}… now",
                hint="was the topic made anew, or cut by its retention? `tradetape verify` says what is stored; move "
                "the group tradetape-sink past this batch with Kafka's own tools only then",
            )


def of(records: Sequence[Record]) -> Intent:
    """The intent to land ``records``, which follow each other in their topic partition."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(b"%d:%d:%d %d " % (*record.identity, len(record.value)))
        digest.update(record.value)
    return Intent(records[0].offset, records[-1].offset + 1, len(records), digest.hexdigest())


def together(topic: str, meant: Mapping[int, Intent]) -> dict[int, Intent]:
    """The intents to land batches of ``topic``, by partition, in one insert."""
    text = " ".join(f"{partition}:{intent.first}:{intent.sha256}" for partition, intent in sorted(meant.items()))
    name = hashlib.sha256(f"{topic} {text}".encode()).hexdigest()
    return {partition: replace(intent, together=name) for partition, intent in meant.items()}


def read(metadata: str | None) -> Intent | None:
    """The intent in the ``metadata`` of a committed offset; None where nothing is pending."""
    found = _TEXT.match(metadata or "")
    return None if found is None else Intent(int(found[1]), int(found[2]), int(found[3]), found[4], found[5] or "")

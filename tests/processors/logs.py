"""Logs of ``tradetape.events`` for tests without Kafka: what bots write, and what they should not."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any
from zlib import crc32

from tests.crash.load import Load
from tests.folding import IDS, INGEST, encode
from tests.processors.events import created, ended, event, filled
from tests.schemas import examples

from tradetape.processors.reading import RawRecord
from tradetape.schemas import envelope_json, topics
from tradetape.schemas.catalogue import event_types
from tradetape.schemas.registry import UnknownSchemaId

RECORDS = 110

JUMPS = {0.5: 2 * 86_400_000_000, 0.8: 100 * 86_400_000_000}
"""Silence of so many microseconds after that part of a partition: what is remembered for a while is forgotten."""

BY_RECORD = {event_type.schema["name"]: name for name, event_type in event_types().items()}

Log = dict[int, list[RawRecord]]


class Ids:
    """A registry that has our schemas."""

    def look_up(self, topic: str, schema: dict[str, Any]) -> int:
        assert topic == topics.EVENTS
        return IDS[BY_RECORD[schema["name"]]]


def by_id(schema_id: int) -> dict[str, Any]:
    names = {number: name for name, number in IDS.items()}
    if schema_id not in names:
        raise UnknownSchemaId(f"schema id {schema_id}")
    return event_types()[names[schema_id]].schema


@cache
def log(seed: int, partitions: int) -> Log:
    """Orders with defects, repeats, poison and lines (tests.crash.load), examples of every event type, and control
    records, which are in every partition.
    """
    rng = random.Random(f"log:{seed}:{partitions}")
    values: dict[int, list[bytes]] = {partition: [] for partition in range(partitions)}
    keyed = [(key, value, False) for key, value in Load(Ids()).records(seed, RECORDS)]  # type: ignore[arg-type]
    keyed += [(b"bot1", encode(made), False) for made in _orders()]
    others = _examples()
    for extra in rng.sample(others, len(others)):
        keyed.insert(rng.randrange(len(keyed)), extra)
    for key, value, control in keyed:
        for partition in values if control else (crc32(key) % partitions,):
            values[partition].append(value)
    return {partition: _records(partition, values[partition]) for partition in values}


def _records(partition: int, values: list[bytes]) -> list[RawRecord]:
    made = []
    for offset, value in enumerate(values):
        silence = sum(pause for part, pause in JUMPS.items() if offset >= part * len(values))
        made.append(RawRecord(partition, offset, INGEST + offset * 1_000 + silence, value))
    return made


def _orders() -> list[dict[str, Any]]:
    """Orders of bot1 that come without positions, too late and twice."""
    made = []
    for n in range(30):
        order = f"o{n % 9}"
        made += [filled(order, str(n + 1), fee="0.001"), created(order, amount="20")]
        made += [ended(order, ["order_completed", "order_cancelled"][n % 2]), made[n]]
        signal = {"signal_id": order, "execution_power": "LIMITED"}
        made.append(event("signal_generated", signal, run_id="r", sequence=n + n // 10))
    return made


def _examples() -> list[tuple[bytes, bytes, bool]]:
    """Examples of every event type as key, value and whether it is a control record; limits that bite, and a kill."""
    found = []
    for name, event_type in event_types().items():
        for number, example in enumerate(examples.load(name)["valid"][:2]):
            document = example["event"]
            document["event_id"] = f"{name}-{number}"
            if name == "limits_set":
                rule = {"name": "size", "figure": "net_base", "at_most": "5", "action": "kill", "instance": "*"}
                document["payload"]["limits"] = {"limit": [rule]}
            if name == "kill_ordered":
                document["payload"] |= {"environment": "live", "account": "*", "instance": "*"}
            read = envelope_json.read(json.dumps(document).encode(), source_id="examples")
            if not read.violations:
                found.append((b"bot1", encode(read.event), event_type.control))
    return found

"""The load of a seed: bots of its own, orders with defects, repeats, refused events and poison. Deterministic."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from benchmarks.load import encoders, events
from tests.crash.pipeline import Keyed

from tradetape.producers import simulator
from tradetape.producers.adapters import envelope as adapter
from tradetape.schemas.codec import HEADER
from tradetape.schemas.registry import Registry

INSTANCES = 8
LINES = 60
BAD_LINES = 20
HOSTILE = "'; DROP TABLE tradetape.events; --\n\x1b[31mERROR\x00 \u202e{{7*7}}"

Event = dict[str, Any]


class Load:
    """Makes loads; ids are looked up once."""

    def __init__(self, registry: Registry) -> None:
        self._encoders = encoders(registry)

    def records(self, seed: int, count: int, instances: int = INSTANCES) -> list[Keyed]:
        """About ``count`` records of ``instances`` bots, keyed by instance, in the order to be sent."""
        rng = random.Random(f"load:{seed}")
        made: list[Keyed] = []
        for event in self._spoilt(seed, count, instances, rng):
            record = (event["instance_name"].encode(), self._encoders[event["event_type"]].encode(event))
            made.append(record)
            if rng.random() < 0.03:  # the same record again, at once or a while later
                made.append(rng.choice(made[-200:]))
            if rng.random() < 0.03:
                made.append((record[0], _poison(rng, record[1])))
        return made

    def _spoilt(self, seed: int, count: int, instances: int, rng: random.Random) -> Iterator[Event]:
        position = 0
        lines = iter(_lines(seed))
        source = f"crash-{seed}"
        for event in events(count, instances, seed):
            event["instance_name"] = f"{source}-{event['instance_name']}"
            event["source_id"] = source
            event["environment"] = ("live", "paper")[int(event["instance_name"][-1]) % 2]
            for changed in _defects(event, rng):
                position += 1
                # Some come without a position and some under ids of their own: known again by their id.
                changed["source_position"] = None if rng.random() < 0.15 else position
                if rng.random() < 0.1:
                    changed["source_system"] = "envelope"
                yield changed
            if rng.random() < 0.05 and (line := next(lines, None)) is not None:
                yield line


def _defects(event: Event, rng: random.Random) -> Iterator[Event]:
    """``event`` as it comes, mostly; else left out, doubled, or bent into a finding or a refusal."""
    kind, chance = event["event_type"], rng.random()
    payload = event["payload"]
    if chance < 0.03:  # never written: fills without orders, orders without ends
        return
    if chance < 0.06:  # written twice under two ids: a second terminal, a second creation, an overfill
        yield {**event, "payload": dict(payload)}
        event["event_id"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    elif chance < 0.08:  # two records under one id
        yield {**event, "payload": dict(payload)}
    elif chance < 0.10 and kind == "order_filled":
        payload["fill_qty_base"] = rng.choice(
            [Decimal(10) ** 19, Decimal(-1), Decimal("1e-18"), Decimal("0.142857142857")]
        )
    elif chance < 0.12:
        event["correlation_id"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    elif chance < 0.14:
        event["ts_utc"] = rng.choice([0, 10**18, event["ts_utc"] - 10**9, 1_900_000_000_000_000])
    elif chance < 0.16 and kind == "order_created":
        payload.update(rng.choice([{"side": "long"}, {"price": None}, {"price": Decimal(0)}]))
    elif chance < 0.18:
        event.update(rng.choice([{"controller_id": HOSTILE}, {"trading_pair": ""}, {"correlation_id": ""}]))
    elif chance < 0.20:
        event["extra"] = rng.choice(['{"depth": [[1, {"a": null}]], "n": 1.10}', "no JSON", '{"side": "mine"}'])
    yield event


def _poison(rng: random.Random, value: bytes) -> bytes:
    """Bytes that are no event."""
    return rng.choice(
        [
            b"",
            rng.randbytes(rng.randrange(1, 300)),
            HEADER.pack(0, 987_654) + value[HEADER.size :],
            value[: rng.randrange(1, len(value))],
            value + b"\x00",
            value[: HEADER.size] + rng.randbytes(120),
            HEADER.pack(0, 1) + b"\xff" * 40,
            b'{"event_type": "order_created"}',
            rng.randbytes(2) * 20_000,
        ]
    )


def _lines(seed: int) -> Iterator[Event]:
    """Events that came as JSON lines, the broken ones as UnmappedRecords."""
    origin = adapter.Origin(f"lines-{seed}", "file", "lines.jsonl", False)
    for number, case in enumerate(simulator.envelope_lines(seed, LINES, bad=BAD_LINES), 1):
        event, _ = adapter.from_line(origin, case.line, number)
        if event["instance_name"]:
            event["instance_name"] = f"crash-{seed}-{event['instance_name']}"
        yield event

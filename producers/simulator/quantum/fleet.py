"""Quantum bots that never were: they follow their signals, one trade after the other, and write their Redis streams.

A step is one turn of the document's trade lifecycle, from a new candle to the closed position; some end early, because
there is no signal, the risk kernel vetoes, or the exchange rejects. A call ends with the kill switch. Entries carry ids
made of the simulated time, so the same seed writes the same streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit

import redis

from tradetape.producers.simulator.ledger import START_MS, Ledger, to_inject
from tradetape.producers.simulator.quantum.bot import DEFECTS, Bot
from tradetape.producers.simulator.quantum.writer import Writer

__all__ = ["DEFECTS", "bot_location", "instance_name", "simulate"]


def bot_location(target: str, number: int) -> str:
    """The database of bot ``number`` (from 1): those from ``target`` on, one for each bot."""
    parts = urlsplit(target)
    first = int(parts.path.strip("/") or 0)
    return urlunsplit(parts._replace(path=f"/{first + number - 1}"))


def instance_name(number: int) -> str:
    """The name of bot ``number``."""
    return f"sim_quantum_{number}"


def simulate(
    target: str,
    *,
    bots: int,
    steps: int,
    seed: int,
    defects: Mapping[str, int] | Iterable[str] = (),
    start_ms: int = START_MS,
    correlate: bool = False,
) -> Ledger:
    """Write ``steps`` turns of each bot into the Redis at ``target`` (redis://host:port/db), a database for each bot.

    ``defects`` says what to inject, once per bot, or how often. With ``correlate`` every entry also carries event_id,
    correlation_id and causation_id; the document has none. Goes on where a database ends. Raises ValueError for an
    unknown defect, and for more defects than steps.
    """
    kinds = to_inject(defects, DEFECTS, room=steps)
    ledger = Ledger()
    for number in range(1, bots + 1):
        client = redis.Redis.from_url(bot_location(target, number), decode_responses=True)
        try:
            name = instance_name(number)
            writer = Writer(client, name, start_ms + number * 137, correlate=correlate)
            Bot(writer, name, number, seed).trade(steps, kinds, ledger)
            ledger.rows[name] = writer.added()
        finally:
            client.close()
    return ledger

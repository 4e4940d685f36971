"""A peer of the worker: an ordinary Faust app, one event at a time, its state in tables.

Written as Faust's documentation teaches: an agent per topic, ``await topic.send`` per output, ``table[key] = value``
per changed record of state, the commit left to Faust. Batching is what the worker adds to this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faust

from benchmarks.judging import Judging, Sent, peer_topic
from tradetape.processors.reading import RawRecord
from tradetape.processors.state import PartitionState
from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS

PEER = "faust"
GROUP = "bench-faust"


def build(bootstrap_servers: str, folder: Path) -> faust.App:
    """The app: what is set differs from Faust's defaults only to send as the other peers do, or to start sooner."""
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        GROUP,
        broker=f"kafka://{bootstrap_servers}",
        store="memory://",
        datadir=str(folder),
        web_enabled=False,
        topic_partitions=topics.DEFAULT_PARTITIONS,
        topic_disable_leader=True,
        broker_session_timeout=10,
        broker_heartbeat_interval=3,
        producer_acks=-1,
        producer_linger_ms=5,
        producer_compression_type="lz4",
    )
    judging = Judging(PEER)
    outputs = {
        name: app.topic(name, key_serializer="raw", value_serializer="raw")
        for name in (peer_topic(PEER, output) for output in OUTPUTS)
    }
    events = app.topic(topics.EVENTS, key_serializer="raw", value_serializer="raw")
    portfolio = outputs[peer_topic(PEER, topics.PORTFOLIO)]
    tables = {name: _table(app, name) for name in ("state", "portfolio_state")}
    states: dict[tuple[str, int], PartitionState] = {}

    def state_of(table: str, partition: int) -> PartitionState:
        if (table, partition) not in states:
            states[table, partition] = PartitionState(partition, tables[table])
        return states[table, partition]

    def commit(table: str, partition: int) -> None:
        state = state_of(table, partition)
        for key, value in state.changes():
            if value is None:
                tables[table].pop(key, None)
            else:
                tables[table][key] = value
        state.committed()

    async def send(record: Sent) -> None:
        await outputs[record.topic].send(key=record.key, value=record.value, partition=record.partition)

    @app.agent(events)  # type: ignore[untyped-decorator]
    async def judge(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            raw = RawRecord(message.partition, message.offset, round(message.timestamp * 1000) * 1000, event.value)
            state = state_of("state", raw.partition)
            for output in judging.judge(raw, state):
                await send(judging.sent(output, raw.partition))
            state.progress.applied = raw.offset
            commit("state", raw.partition)

    @app.agent(portfolio)  # type: ignore[untyped-decorator]
    async def portfolios(stream: Any) -> None:
        async for event in stream.events():
            partition = event.message.partition
            figure = judging.fold(judging.delta(event.value), state_of("portfolio_state", partition))
            if figure is not None:
                await send(judging.sent(figure, partition))
            commit("portfolio_state", partition)

    async def forget(*_: object, **__: object) -> None:
        states.clear()

    app.on_partitions_revoked.connect(forget, weak=False)
    return app


def _table(app: faust.App, name: str) -> Any:
    return app.Table(
        name,
        key_type=bytes,
        value_type=bytes,
        schema=faust.Schema(key_serializer="raw", value_serializer="raw"),
        partitions=topics.DEFAULT_PARTITIONS,
    )


def main() -> None:
    """Run until told to stop."""
    app = build(os.environ["TRADETAPE_BOOTSTRAP_SERVERS"], Path(os.environ["TRADETAPE_HOME"]) / "bench-faust")
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()

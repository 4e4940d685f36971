"""The worker process: ``python -m tradetape.processors.worker``.

Addresses come from the environment: TRADETAPE_BOOTSTRAP_SERVERS, TRADETAPE_REGISTRY_URL, and TRADETAPE_HOME for the
folder that Faust may write to. TRADETAPE_MEMBER names this worker in the group (default worker-1); two workers of one
cluster need two names. TRADETAPE_READY_FILE is created once the worker has its partitions and their state.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import faust
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tradetape.processors.stream.app import build
from tradetape.schemas import topics
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry

KAFKA_TIMEOUT = 10.0
"""Seconds to wait for the broker's metadata at start."""


def partition_count(bootstrap_servers: str) -> int:
    """Partitions of ``tradetape.events``; raises TradetapeError where a topic is missing or Kafka does not answer."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "socket.connection.setup.timeout.ms": 5000})
    try:
        found = admin.list_topics(timeout=KAFKA_TIMEOUT).topics
    except KafkaException as error:
        raise TradetapeError(
            f"Kafka at {bootstrap_servers} does not answer ({error})", hint="start it with `tradetape up`"
        ) from error
    counts = {topic.name: len(found[topic.name].partitions) for topic in topics.CATALOGUE if topic.name in found}
    missing = [topic.name for topic in topics.CATALOGUE if topic.name not in counts]
    if missing:
        raise TradetapeError(f"topics are missing: {', '.join(missing)}", hint="create them with `tradetape up`")
    if len(set(counts.values())) != 1:
        raise TradetapeError(
            f"the topics differ in partitions: {counts}",
            hint="they must be equal: what an event causes goes to its own partition",
        )
    return counts[topics.EVENTS]


def run() -> None:
    """Build the app from the environment and run it until it is told to stop."""
    bootstrap_servers = os.environ["TRADETAPE_BOOTSTRAP_SERVERS"]
    member = os.environ.get("TRADETAPE_MEMBER", "worker-1")
    data_folder = Path(os.environ.get("TRADETAPE_HOME", ".tradetape")).resolve() / "worker" / member
    data_folder.mkdir(parents=True, exist_ok=True)
    app = build(
        bootstrap_servers=bootstrap_servers,
        registry=Registry(os.environ["TRADETAPE_REGISTRY_URL"]),
        partitions=partition_count(bootstrap_servers),
        data_folder=data_folder,
        member=member,
    )
    ready_file = os.environ.get("TRADETAPE_READY_FILE")
    if ready_file:

        async def tell_ready(*_: object, **__: object) -> None:
            Path(ready_file).touch()

        app.on_rebalance_complete.connect(tell_ready, weak=False)
    faust.Worker(app, loglevel="INFO", redirect_stdouts=False).execute_from_commandline()


def main() -> None:
    """Entry point: a failure that a person can mend is one line and exit code 1."""
    try:
        run()
    except TradetapeError as error:
        logging.basicConfig(format="%(message)s")
        logging.getLogger(__name__).error("tradetape worker: %s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

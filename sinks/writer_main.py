"""The sink's process: ``python -m tradetape.sinks.writer_main``.

Reads ``TRADETAPE_BOOTSTRAP_SERVERS``, ``TRADETAPE_REGISTRY_URL``, ``TRADETAPE_CLICKHOUSE_URL`` and, for a member name
that stays over restarts, ``TRADETAPE_SINK_ID``. ``TRADETAPE_READY_FILE`` is created once partitions are assigned.
A hole in the verdicts is filled by ``repair``. Exit codes: 0 stopped, 1 a person must help, 4 a hole that cannot be
filled, 5 a record that fits nowhere.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException

from tradetape.schemas import topics
from tradetape.schemas.catalogue import Schema
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry, UnknownSchemaId
from tradetape.sinks import cluster, raw_log, repair
from tradetape.sinks.batch import STREAMS
from tradetape.sinks.landing import Landing
from tradetape.sinks.ledger import BadKey, Hole
from tradetape.sinks.migrate import migrate
from tradetape.sinks.store import Store, StoreUnavailable
from tradetape.sinks.writer import RETRY_SECONDS, RegistryUnavailable, Writer, consumer_config

log = logging.getLogger("tradetape.sink")

EXIT_HOLE = 4
FENCED_SECONDS = 60.0
"""Within which a second fencing is no late request of a killed sink, but another one under the same name."""

_ADDRESSES = ("TRADETAPE_BOOTSTRAP_SERVERS", "TRADETAPE_REGISTRY_URL", "TRADETAPE_CLICKHOUSE_URL")


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Run the sink until SIGTERM or SIGINT. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # One line per request to the registry.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        _run(environment, stop)
    except (Hole, BadKey) as error:
        log.critical("HOLE %s; nothing behind it is committed", error)
        return EXIT_HOLE
    except TradetapeError as error:
        log.error("%s", error)
        return error.exit_code
    except KafkaException as error:
        log.error("Kafka: %s", error)
        return 1
    log.info("sink stopped")
    return 0


class _Stop:
    """Hears the signals, and tells who waits and the writer that runs."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._writer: Writer | None = None

    def __call__(self, *_: object) -> None:
        self.event.set()
        if self._writer is not None:
            self._writer.stop()

    def watch(self, writer: Writer) -> None:
        """From now on ``writer`` is the one that runs."""
        self._writer = writer
        if self.event.is_set():
            writer.stop()


def _run(environment: Mapping[str, str], stop: _Stop) -> None:
    """Write until ``stop``; a hole is repaired once, and who was fenced joins again. Raises what ``main`` reports."""
    bootstrap, registry_url, clickhouse_url = _addresses(environment)
    store = Store(clickhouse_url)
    if not _wait_for(stop.event, "ClickHouse", lambda: _migrate(store, environment.get(cluster.SETTING, ""))):
        return
    registry = Registry(registry_url)
    member = environment.get("TRADETAPE_SINK_ID", "")
    ready_file = environment.get("TRADETAPE_READY_FILE", "")
    on_assigned = Path(ready_file).touch if ready_file else None
    hole: Hole | None = None
    fenced = -math.inf
    while not stop.event.is_set():
        consumer = Consumer(consumer_config(bootstrap, member))
        if not _wait_for(stop.event, "Kafka", lambda c=consumer: _check_topics(c)):  # type: ignore[misc]
            consumer.close()
            return
        writer = Writer(consumer, Landing(store, _schemas(registry), member), on_assigned=on_assigned)
        stop.watch(writer)
        try:
            writer.run()
        except Hole as error:
            if error == hole:
                raise
            hole = error
            _repair(error, store, registry, bootstrap)
        except KafkaException as error:
            if not _is_fenced(error) or time.monotonic() - fenced < FENCED_SECONDS:
                raise
            fenced = time.monotonic()
            log.warning("joining again: %s", error)


def _is_fenced(error: KafkaException) -> bool:
    """Whether Kafka took another member for the one of this name: a request of a killed one may come late."""
    found: KafkaError = error.args[0]
    return found.code() == KafkaError.FENCED_INSTANCE_ID or "fenced" in found.str()


def _repair(hole: Hole, store: Store, registry: Registry, bootstrap_servers: str) -> None:
    """Judge what is missing again and insert it. Raises ``hole`` where Kafka no longer has it."""
    log.critical("HOLE %s; judging it again from %s", hole, topics.EVENTS)
    fetch = partial(raw_log.records, bootstrap_servers)
    repairer = repair.Repairer(store, raw_log.writer_schemas(registry), registry, fetch)
    try:
        done = repairer.repair(hole.partition, hole.found)
    except repair.Unrepairable as error:
        log.critical("%s", error)
        raise hole from error
    log.warning("raw partition %d: %d events are repaired, %d rows in all", hole.partition, done.events, done.rows)


def _addresses(environment: Mapping[str, str]) -> tuple[str, str, str]:
    missing = [name for name in _ADDRESSES if not environment.get(name)]
    if missing:
        raise TradetapeError(f"{' and '.join(missing)} not set", hint="start the stack with `tradetape up`, or set it")
    bootstrap, registry_url, clickhouse_url = (environment[name] for name in _ADDRESSES)
    return bootstrap, registry_url, clickhouse_url


def _wait_for(stopping: threading.Event, name: str, ready: Callable[[], None]) -> bool:
    """Whether ``ready`` went through before ``stopping``; it raises StoreUnavailable or KafkaException until then."""
    attempt = 0
    while not stopping.is_set():
        try:
            ready()
        except (StoreUnavailable, KafkaException) as error:
            wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
            log.warning("waiting %.1f s for %s: %s", wait, name, error)
            attempt += 1
            stopping.wait(wait)
        else:
            return True
    return False


def _migrate(store: Store, name: str) -> None:
    for migration in migrate(store, cluster=name):
        log.info("applied migration %s", migration.name)


def _check_topics(consumer: Consumer) -> None:
    known = consumer.list_topics(timeout=5).topics
    missing = sorted(set(STREAMS) - set(known))
    if missing:
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"no topic {', '.join(missing)} yet"))


def _schemas(registry: Registry) -> Callable[[int], Schema]:
    def by_id(schema_id: int) -> Schema:
        try:
            return registry.by_id(schema_id)
        except UnknownSchemaId:
            raise
        except TradetapeError as error:
            raise RegistryUnavailable(error.message, hint=error.hint) from error

    return by_id


if __name__ == "__main__":
    sys.exit(main())

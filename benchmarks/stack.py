"""An embedded stack for one benchmark, in a folder of its own, and the Kafka helpers around it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from tradetape.infra import settings
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry, subjects

PATIENCE = 180.0
"""Seconds after which a benchmark that makes no progress gives up."""


@contextmanager
def running(*components: str) -> Iterator[dict[str, str]]:
    """Start ``components`` and yield the environment that points to them; everything is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        command = [sys.executable, "-m", "tradetape.infra.cli.main", "--home", folder]
        subprocess.run([*command, "up", "--only", ",".join(components)], check=True, stdout=subprocess.DEVNULL)
        try:
            found = settings.load(Path(folder), require=())
            registry = Registry(found.registry_url)
            for subject in subjects():
                registry.register(subject)
            yield {
                **os.environ,
                settings.HOME: folder,
                settings.BOOTSTRAP_SERVERS: found.bootstrap_servers,
                settings.REGISTRY_URL: found.registry_url,
                settings.CLICKHOUSE_URL: found.clickhouse_url,
            }
        finally:
            subprocess.run([*command, "down"], check=True, stdout=subprocess.DEVNULL)


class Ends:
    """Counts the records of a topic."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "bench-ends"})

    def count(self, topic: str) -> int:
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return sum(self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions)

    def wait(self, topic: str, count: int, process: subprocess.Popen[bytes]) -> None:
        """Return when ``topic`` holds ``count`` records. Raises RuntimeError if ``process`` dies or time runs out."""
        until = time.monotonic() + PATIENCE
        while self.count(topic) < count:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{topic}: {self.count(topic)} of {count}; exit code {process.poll()}")
            time.sleep(0.05)


def produce(bootstrap_servers: str, records: Sequence[tuple[bytes, bytes]], topic: str = topics.EVENTS) -> None:
    """Send ``records`` as fast as librdkafka takes them."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20, "partitioner": "murmur2_random"})
    for key, value in records:
        while True:
            try:
                producer.produce(topic, key=key, value=value)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time of ``process`` so far."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask ``process`` to stop, and make it."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

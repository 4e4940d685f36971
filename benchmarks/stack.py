"""An embedded stack for one benchmark, in a folder of its own, and the Kafka helpers around it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tradetape.infra import settings
from tradetape.infra.embedded import ports
from tradetape.infra.embedded.components import SERVERS
from tradetape.schemas import topics
from tradetape.schemas.registry import Registry, register_all

PATIENCE = 120.0
"""Seconds after which a benchmark that makes no progress gives up."""

SETTLE = 4.0
"""Seconds that a side gets to recover its state after it has its partitions."""


class Stalled(RuntimeError):
    """What is measured died, or made no progress for PATIENCE seconds."""


@contextmanager
def running(*components: str) -> Iterator[dict[str, str]]:
    """Start ``components`` and yield the environment that points to them; everything is gone afterwards."""
    servers = [name for name in components if name in SERVERS]
    with tempfile.TemporaryDirectory(prefix="tradetape-bench-") as folder:
        command = [sys.executable, "-m", "tradetape.infra.cli.main", "--home", folder]
        given = [f"--{name}-port={port}" for name, port in zip(servers, _ports(len(servers)), strict=True)]
        subprocess.run([*command, "up", "--only", ",".join(components), *given], check=True, stdout=subprocess.DEVNULL)
        try:
            found = settings.load(Path(folder), require=())
            if found.registry_url:
                register_all(Registry(found.registry_url))
            yield {
                **os.environ,
                settings.HOME: folder,
                settings.BOOTSTRAP_SERVERS: found.bootstrap_servers,
                settings.REGISTRY_URL: found.registry_url,
                settings.CLICKHOUSE_URL: found.clickhouse_url,
            }
        finally:
            subprocess.run([*command, "down"], check=True, stdout=subprocess.DEVNULL)


def _ports(count: int) -> list[int]:
    """Free ports away from those that stacks take by themselves.

    A worker that outlived its stack goes on trying its broker's port: on one that is used again it could join the group
    of the same name.
    """
    tried = random.sample(range(20_000, 29_000), 100)
    return [port for port in tried if ports.is_free(port)][:count]


def create_topics(bootstrap_servers: str, names: Sequence[str]) -> None:
    """Create ``names``, partitioned like the topics of the catalogue."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics([NewTopic(name, topics.DEFAULT_PARTITIONS, 1) for name in names]).values():
        created.result(30)


class Ends:
    """How long topics are, and how far groups have committed."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        self._consumer = consumer(bootstrap_servers, "bench-ends")

    def of(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition."""
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}

    def count(self, topic: str) -> int:
        return sum(self.of(topic).values())

    def wait(self, topic: str, count: int, process: subprocess.Popen[bytes], pause: float = 0.05) -> None:
        """Return when ``topic`` holds ``count`` records. Raises Stalled."""
        self._wait(f"{topic}: records to go", lambda: count - self.count(topic), process, pause)

    def wait_committed(self, group: str, inputs: Sequence[str], process: subprocess.Popen[bytes]) -> None:
        """Return when ``group`` has committed the ends of ``inputs``; each may still grow by what is read before it.

        Raises Stalled.
        """
        member = consumer(self._servers, group)
        try:
            for topic in inputs:
                self._wait(f"{group}: records of {topic} to commit", partial(self._behind, member, topic), process)
        finally:
            member.close()

    def skip(self, group: str, inputs: Sequence[str]) -> None:
        """Let ``group``, which has no members, go on at the ends of ``inputs``."""
        member = consumer(self._servers, group)
        ends = [TopicPartition(topic, p, end) for topic in inputs for p, end in self.of(topic).items()]
        member.commit(offsets=ends, asynchronous=False)
        member.close()

    @staticmethod
    def _wait(what: str, to_go: Callable[[], int], process: subprocess.Popen[bytes], pause: float = 0.05) -> None:
        least, since = sys.maxsize, time.monotonic()
        while (left := to_go()) > 0:
            if left < least:
                least, since = left, time.monotonic()
            if process.poll() is not None or time.monotonic() - since > PATIENCE:
                raise Stalled(f"{what}: {left}; exit code {process.poll()}")
            time.sleep(pause)

    def _behind(self, member: Consumer, topic: str) -> int:
        ends = self.of(topic)
        committed = member.committed([TopicPartition(topic, p) for p in ends], timeout=10)
        return sum(ends[found.partition] - max(found.offset, 0) for found in committed)


def consumer(bootstrap_servers: str, group: str) -> Consumer:
    """A consumer that commits nothing by itself and says nothing when the stack goes away under it."""
    return Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": group, "enable.auto.commit": False, "log_level": 0}
    )


def read(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """Every record that ``topic`` holds now, partition by partition."""
    ends = Ends(bootstrap_servers).of(topic)
    reader = consumer(bootstrap_servers, "bench-read")
    try:
        for partition, end in ends.items():
            reader.assign([TopicPartition(topic, partition, 0)])
            reached = 0
            while reached < end:
                for message in reader.consume(min(10_000, end - reached), 1.0):
                    yield message
                    reached = message.offset() + 1
    finally:
        reader.close()


def wait_joined(bootstrap_servers: str, group: str, process: subprocess.Popen[bytes]) -> None:
    """Return when ``group`` has its partitions, and SETTLE seconds later.

    Faust may lose what it fetched while it recovers, so nothing is sent to it before.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    until = time.monotonic() + PATIENCE
    while not _has_joined(admin, group):
        if process.poll() is not None or time.monotonic() > until:
            raise Stalled(f"{group} does not get its partitions; exit code {process.poll()}")
        time.sleep(0.2)
    time.sleep(SETTLE)


def _has_joined(admin: AdminClient, group: str) -> bool:
    try:
        found = admin.describe_consumer_groups([group], request_timeout=5)[group].result()
    except KafkaException:
        # The first group of a stack waits for Kafka to make the topic of its offsets.
        return False
    return found.state == ConsumerGroupState.STABLE and bool(found.members)


def members(bootstrap_servers: str, group: str) -> frozenset[str]:
    """Ids of the members of ``group``; one that is fenced by another of its name, or rejoins, has a new id."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    found = admin.describe_consumer_groups([group])[group].result()
    return frozenset(member.member_id for member in found.members)


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


def start(command: Sequence[str], environment: Mapping[str, str], **variables: str) -> subprocess.Popen[bytes]:
    """Start a process that says nothing."""
    return subprocess.Popen(
        command, env={**environment, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def stored_bytes(environment: Mapping[str, str], names: Iterable[str]) -> int:
    """What the embedded Kafka keeps of the topics ``names`` on disk: compressed record batches."""
    log = Path(environment[settings.HOME]) / "kafka" / "log"
    return sum(segment.stat().st_size for name in names for segment in log.glob(f"{name}-[0-9]*/*.log"))


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time of ``process`` so far."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask ``process`` to stop, and make it."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

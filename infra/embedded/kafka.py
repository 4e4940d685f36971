"""Apache Kafka as one KRaft node (broker and controller in one process) on the loopback interface.

The quorum is static (``controller.quorum.voters``), so that ports may change between two starts. All paths are
relative to ``<home>/kafka``: a home whose name holds a comma or a non-Latin letter works, and can be moved.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tradetape.infra.embedded import java
from tradetape.infra.embedded.component import HEALTH_TIMEOUT, Component
from tradetape.infra.embedded.processes import MARKER
from tradetape.infra.stackfile import CONTROLLER, HOST, KAFKA, StackFile
from tradetape.schemas.errors import TradetapeError

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Above the largest topic setting (2 × 16 MiB in the topic catalogue), so that the topics decide."""

_NODE_ID = 1
_JVM_FLAGS = (
    "-Xmx768m",  # several 32 MiB requests in flight beside ~150 MB of the broker's own
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor restarts it; a broker half out of memory helps nobody
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_FORMAT_TIMEOUT_SECONDS = 60.0


def component(home: Path, stack: StackFile, classpath: Sequence[Path]) -> Component:
    """Kafka of ``home`` on the ports of ``stack``; healthy once its topics exist."""
    from tradetape.infra.embedded.topics import ensure_topics

    folder = home / "kafka"
    classes = os.pathsep.join(map(str, classpath))
    return Component(
        name=KAFKA,
        command=(java.executable(), *_JVM_FLAGS, "-cp", classes, "kafka.Kafka", "server.properties"),
        cwd=folder,
        prepare=lambda: prepare(home, stack, classes),
        health=_health(f"{HOST}:{stack.ports[KAFKA]}", lambda admin: ensure_topics(admin, partitions=stack.partitions)),
        stop_timeout=30.0,
    )


def server_properties(stack: StackFile, log_dir: str = "./log") -> str:
    """The text of ``server.properties``."""
    client = f"PLAINTEXT://{HOST}:{stack.ports[KAFKA]}"
    controller = f"{HOST}:{stack.ports[CONTROLLER]}"
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": _NODE_ID,
        "controller.quorum.voters": f"{_NODE_ID}@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{client},CONTROLLER://{controller}",
        "advertised.listeners": client,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": log_dir,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # A home that rests for weeks must find its committed offsets again (the default forgets in 7 days).
        "offsets.retention.minutes": 10 * 365 * 24 * 60,
        # After kill -9 the controller refuses the new broker until the old session ends (9 s by default).
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # What recovery after kill -9 has to scan, at most, per partition.
        "log.segment.bytes": 256 * 1024 * 1024,
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def prepare(home: Path, stack: StackFile, classes: str) -> None:
    """Write ``server.properties`` and, once in the life of a home, format its storage.

    Raises TradetapeError with the tool's last line when formatting fails.
    """
    folder = home / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.properties").write_text(server_properties(stack), encoding="utf-8")
    if (folder / "log").exists():
        return
    # Formatted under another name and renamed, so that an interrupted format is never taken for a store.
    scratch = folder / "log.new"
    shutil.rmtree(scratch, ignore_errors=True)
    (folder / "format.properties").write_text(server_properties(stack, f"./{scratch.name}"), encoding="utf-8")
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    flags = (*_JVM_FLAGS, "-XX:TieredStopAtLevel=1")
    tool = (java.executable(), *flags, "-cp", classes, "kafka.tools.StorageTool", "format")
    result = subprocess.run(
        [*tool, f"--cluster-id={cluster_id}", "-c", "format.properties"],
        cwd=folder,
        env={**os.environ, MARKER: str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        raise TradetapeError(
            f"cannot format Kafka's storage in {folder}: {lines[-1] if lines else result.returncode}",
            hint="check permissions and free space there",
        )
    scratch.rename(folder / "log")
    (folder / "format.properties").unlink()


def _health(bootstrap_servers: str, on_first: Callable[[Any], object]) -> Callable[[], str | None]:
    """Healthy: the metadata names a controller and a live broker, and ``on_first`` succeeded once."""
    client: list[Any] = []
    done: list[bool] = []

    def check() -> str | None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not client:
            client.append(
                AdminClient(
                    {
                        "bootstrap.servers": bootstrap_servers,
                        "log_level": 0,
                        "reconnect.backoff.ms": 50,
                        "reconnect.backoff.max.ms": 250,
                    }
                )
            )
        try:
            metadata = client[0].list_topics(timeout=HEALTH_TIMEOUT)
            if not metadata.brokers or metadata.controller_id < 0:
                return "the broker is not registered with its controller yet"
            if not done:
                on_first(client[0])
                done.append(True)
        except KafkaException as error:
            return f"no answer from {bootstrap_servers}: {error.args[0].str()}"
        return None

    return check

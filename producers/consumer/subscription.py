"""What a member of a consumer group reads, and the settings of its Kafka client (S4-05)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EARLIEST, LATEST = "earliest", "latest"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member reads and how. Times are seconds; ``instance`` makes the membership static."""

    bootstrap_servers: str
    group: str
    topic: str
    instance: str
    start: str
    until_end: bool
    prefetch: int
    processing_timeout: float
    session_timeout: float
    config: Mapping[str, Any] = field(default_factory=dict)

    def kafka_config(self) -> dict[str, Any]:
        """Of the Kafka client."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "group.id": self.group,
            **({"group.instance.id": self.instance} if self.instance else {}),
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": round(self.session_timeout * 1000),
            "heartbeat.interval.ms": max(200, round(self.session_timeout * 250)),
            # Only a member whose polling thread itself is stuck is ever evicted by this.
            "max.poll.interval.ms": max(300_000, round(self.session_timeout * 2000)),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # `latest` is resolved at assignment. This is for lost offsets: then again rather than never.
            "auto.offset.reset": EARLIEST,
            "enable.partition.eof": self.until_end,
            # A partition that is assigned or resumed waits for the fetch under way: the default is half a second.
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.ms": 500,
            "queued.max.messages.kbytes": 16 * 1024,
            **self.config,
        }

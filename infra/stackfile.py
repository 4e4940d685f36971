"""``<home>/stack.json``: what ``tradetape up`` decided for a home, kept from one ``up`` to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tradetape.infra.files import read_json, write_json
from tradetape.schemas.errors import TradetapeError

HOST = "127.0.0.1"
"""The embedded stack has no authentication of its own: it listens on the loopback interface only."""

KAFKA = "kafka"
CONTROLLER = "kafka_controller"
REGISTRY = "registry"
CLICKHOUSE = "clickhouse"


@dataclass(frozen=True, slots=True)
class StackFile:
    """``ports`` by service (KAFKA, CONTROLLER, REGISTRY, CLICKHOUSE) that was ever given one, the number of
    ``partitions`` per topic, and the ``services`` that the last ``up`` started.
    """

    ports: Mapping[str, int]
    partitions: int
    services: tuple[str, ...]

    @staticmethod
    def path(home: Path) -> Path:
        """The file of this home."""
        return home / "stack.json"

    @classmethod
    def read(cls, home: Path) -> StackFile | None:
        """What was recorded in ``home``, or None. Raises TradetapeError when the file is damaged."""
        document = read_json(cls.path(home))
        if document is None:
            return None
        try:
            ports = {str(name): int(port) for name, port in document["ports"].items()}
            stack = cls(ports, int(document["partitions"]), tuple(document.get("services", ports.keys())))
            stack.addresses()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TradetapeError(
                f"{cls.path(home)} is damaged ({error!r})",
                hint="delete it and run `tradetape up` again; the data in the home is not touched by that",
            ) from error
        return stack

    def write(self, home: Path) -> None:
        """Record it in ``home``, atomically."""
        document = {"ports": dict(self.ports), "partitions": self.partitions, "services": list(self.services)}
        write_json(self.path(home), document)

    def addresses(self) -> dict[str, str]:
        """``bootstrap_servers``, ``registry_url`` and ``clickhouse_url``, as far as their service was started.

        A port alone is no address: by now it may be another home's.
        """
        patterns = {
            KAFKA: ("bootstrap_servers", "{host}:{port}"),
            REGISTRY: ("registry_url", "http://{host}:{port}/apis/ccompat/v7"),
            CLICKHOUSE: ("clickhouse_url", "http://{host}:{port}"),
        }
        return {
            name: pattern.format(host=HOST, port=self.ports[service])
            for service, (name, pattern) in patterns.items()
            if service in self.services
        }

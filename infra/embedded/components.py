"""The processes of an embedded stack, in start order: one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tradetape.infra import settings
from tradetape.infra.embedded import artifacts, clickhouse, kafka, members, registry
from tradetape.infra.embedded.component import Component
from tradetape.infra.stackfile import CLICKHOUSE, KAFKA, REGISTRY, StackFile
from tradetape.schemas.errors import TradetapeError

SERVERS = (KAFKA, REGISTRY, CLICKHOUSE)
NAMES = (*SERVERS, members.WORKER, members.SINK, members.BRIDGE)
"""Every component, in start order."""


def select(only: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list, in start order; all when there is no list.

    Raises TradetapeError for a name that is not a component.
    """
    if not only:
        return NAMES
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    unknown = sorted(wanted - set(NAMES))
    if unknown or not wanted:
        raise TradetapeError(
            f"no such component: {', '.join(unknown) or repr(only)}", hint=f"choose from {','.join(NAMES)}"
        )
    return tuple(name for name in NAMES if name in wanted)


def build(home: Path, stack: StackFile, installed: artifacts.Installed, only: Iterable[str]) -> list[Component]:
    """The components named in ``only``, ready to be supervised, with the three addresses in their environment."""
    addresses = {settings.ADDRESSES[name]: value for name, value in stack.addresses().items()}
    env = {settings.HOME: str(home), "PYTHONUNBUFFERED": "1", **addresses}
    wanted = set(only)
    everything: dict[str, Callable[[], Component]] = {
        KAFKA: lambda: kafka.component(home, stack, installed.kafka_classpath),
        REGISTRY: lambda: registry.component(home, stack, installed.registry_dir),
        CLICKHOUSE: lambda: clickhouse.component(home, stack),
        members.WORKER: lambda: members.worker(home, stack, SERVERS),
        members.SINK: lambda: members.sink(home, SERVERS),
        members.BRIDGE: lambda: members.bridge(home, (*SERVERS, members.WORKER)),
    }
    return [
        replace(component, env={**env, **component.env}, after=tuple(n for n in component.after if n in wanted))
        for component in (everything[name]() for name in NAMES if name in wanted)
    ]

"""Worker, sink and bridge under the supervisor: each is healthy once it has its partitions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tradetape.infra.embedded import processes
from tradetape.infra.embedded.component import Component
from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError

WORKER, SINK, BRIDGE = "worker", "sink", "bridge"
READY_FILE = "TRADETAPE_READY_FILE"
"""Names the file that each creates when it has its partitions."""


def worker(home: Path, stack: StackFile, after: Sequence[str]) -> Component:
    """The worker of ``home``; before it starts, the schemas are registered (decision 0005)."""
    registry_url = stack.addresses().get("registry_url", "")
    return _member(
        home,
        WORKER,
        "tradetape.processors.worker",
        env={"TRADETAPE_MEMBER": "worker-1"},
        after=after,
        before=lambda: register_schemas(registry_url),
    )


def sink(home: Path, after: Sequence[str]) -> Component:
    """The sink of ``home``."""
    return _member(home, SINK, "tradetape.sinks.writer_main", env={"TRADETAPE_SINK_ID": "sink-1"}, after=after)


def bridge(home: Path, after: Sequence[str]) -> Component:
    """The bridge of ``home``: kills into every partition, silence into the record.

    It starts after the worker, which registers the schemas.
    """
    return _member(home, BRIDGE, "tradetape.producers.bridge.main", env={}, after=after)


def _member(
    home: Path,
    name: str,
    module: str,
    *,
    env: dict[str, str],
    after: Sequence[str],
    before: Callable[[], None] = lambda: None,
) -> Component:
    ready = processes.run_dir(home) / f"{name}.ready"

    def prepare() -> None:
        ready.unlink(missing_ok=True)
        before()

    return Component(
        name,
        (sys.executable, "-m", module),
        env={**env, READY_FILE: str(ready)},
        prepare=prepare,
        health=lambda: None if ready.exists() else "it has no partitions yet",
        stop_timeout=15.0,
        after=tuple(after),
    )


def register_schemas(registry_url: str) -> None:
    """What `tradetape schemas register` does, for the registry that this stack started (decision 0005)."""
    from tradetape.schemas.registry import Registry, register_all

    refused = [state for state in register_all(Registry(registry_url)) if state.state == "refused"]
    if refused:
        raise TradetapeError(
            f"the registry refuses {refused[0].subject}: {'; '.join(refused[0].problems)}",
            hint="a breaking change is a new event_version; see `tradetape schemas check`",
        )

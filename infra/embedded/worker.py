"""The worker under the supervisor: it starts once the schemas are registered, and is healthy once it judges."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tradetape.infra.embedded import processes
from tradetape.infra.embedded.component import Component
from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError

NAME = "worker"
READY_FILE = "TRADETAPE_READY_FILE"


def component(home: Path, stack: StackFile, after: Sequence[str]) -> Component:
    """The worker of ``home``; its group membership moves with the supervisor's restarts, not with the process."""
    ready = processes.run_dir(home) / "worker.ready"

    def prepare() -> None:
        ready.unlink(missing_ok=True)
        register_schemas(stack.addresses()["registry_url"])

    return Component(
        NAME,
        (sys.executable, "-m", "tradetape.processors.worker"),
        env={READY_FILE: str(ready)},
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

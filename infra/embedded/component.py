"""What the supervisor needs to know about one process of the stack."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tradetape.infra.stackfile import HOST

HEALTH_TIMEOUT = 2.0
"""Seconds that one health check may take on the loopback interface."""


@dataclass(frozen=True, slots=True)
class Component:
    """One supervised process.

    ``health`` returns None when the component serves, else the reason why not; without one a component is
    healthy when its process has run for two seconds. It is called from another thread, at most once at a time.
    ``prepare`` runs in another thread before every start and may raise TradetapeError. ``after`` names the
    components that must be healthy before this one starts. ``stop_timeout`` is seconds from SIGTERM to SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    health: Callable[[], str | None] | None = None
    stop_timeout: float = 10.0
    after: tuple[str, ...] = ()
    cwd: Path | None = None
    prepare: Callable[[], None] | None = None


def http_health(port: int, path: str) -> Callable[[], str | None]:
    """A health check: GET ``path`` on the loopback interface must answer 200."""

    def check() -> str | None:
        connection = http.client.HTTPConnection(HOST, port, timeout=HEALTH_TIMEOUT)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"GET {path} on port {port}: {error}"
        finally:
            connection.close()
        return None if status == 200 else f"GET {path} on port {port}: HTTP {status}"

    return check

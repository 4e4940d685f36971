"""Which ports a home uses: the ones given, else the ones it used before, else the first free ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tradetape.infra.files import try_lock
from tradetape.infra.stackfile import CLICKHOUSE, CONTROLLER, HOST, KAFKA, REGISTRY
from tradetape.schemas.errors import TradetapeError

PREFERRED: Mapping[str, int] = {KAFKA: 29092, CONTROLLER: 29292, REGISTRY: 28081, CLICKHOUSE: 28123}
"""All below the range from which systems take the ports of outgoing connections (32768 and up on Linux)."""

_SEARCH = 200
"""Ports tried upwards from the preferred one: that many homes can run side by side."""


@contextmanager
def chosen(
    cache: Path, given: Mapping[str, int], recorded: Mapping[str, int], needed: Collection[str]
) -> Iterator[dict[str, int]]:
    """A port for every service that starts now, and the fixed ones of others.

    The ports are leased against other ``up``s of this user while the context is open: keep it open until the
    components listen. ``needed`` names the services that start now; only their ports have to be free. Raises
    TradetapeError when a given or recorded port is taken or given twice.
    """
    leases: list[int] = []
    fixed = {service: port for service, port in {**recorded, **given}.items() if service != CONTROLLER}
    try:
        for service, port in fixed.items():
            _check(cache, service, port, fixed, leases if service in needed else None)
        ports = dict(fixed)
        for service in (KAFKA, REGISTRY, CLICKHOUSE):
            if service in needed and service not in ports:
                ports[service] = _first_free(cache, PREFERRED[service], set(ports.values()), leases)
        # Nobody but Kafka itself connects to the controller: its port may change from one start to the next.
        if KAFKA in needed:
            before = recorded.get(CONTROLLER, PREFERRED[CONTROLLER])
            ports[CONTROLLER] = _first_free(cache, before, set(ports.values()), leases)
        yield ports
    finally:
        for lease in leases:
            os.close(lease)


def hold(cache: Path, numbers: Collection[int]) -> list[int]:
    """Keep ``numbers`` for a stack while it runs, also in the moments when one of its services is started again.

    Returns descriptors that hold them until they are closed. One that another stack holds is left to it.
    """
    held = (try_lock(_held(cache, port)) for port in numbers)
    return [descriptor for descriptor in held if descriptor is not None]


def is_free(port: int) -> bool:
    """Whether nothing listens on ``port`` of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def owner(port: int) -> str:
    """Program and pid that listen on ``port``, as far as this user may see them."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return "another program"
    return "another program"


def _check(cache: Path, service: str, port: int, fixed: Mapping[str, int], leases: list[int] | None) -> None:
    hint = f"choose another with `tradetape up --{service}-port N` or TRADETAPE_{service.upper()}_PORT"
    twice = sorted(other for other, value in fixed.items() if value == port)
    if len(twice) > 1:
        raise TradetapeError(f"port {port} is given to {' and '.join(twice)}", hint=hint)
    if leases is None:
        return
    if not is_free(port):
        raise TradetapeError(f"port {port} for {service} is taken by {owner(port)}", hint=hint)
    if not _lease(cache, port, leases):
        raise TradetapeError(f"port {port} for {service} is taken by another `tradetape up`", hint=hint)


def _first_free(cache: Path, preferred: int, avoid: Collection[int], leases: list[int]) -> int:
    for port in range(preferred, preferred + _SEARCH):
        if port not in avoid and _lease(cache, port, leases):
            if is_free(port) and not _is_held(cache, port):
                return port
            os.close(leases.pop())
    raise TradetapeError(f"no free port between {preferred} and {preferred + _SEARCH - 1}", hint="free one")


def _held(cache: Path, port: int) -> Path:
    return cache / "ports" / f"{port}.held"


def _is_held(cache: Path, port: int) -> bool:
    descriptor = try_lock(_held(cache, port))
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _lease(cache: Path, port: int, leases: list[int]) -> bool:
    descriptor = try_lock(cache / "ports" / f"{port}.lock")
    if descriptor is not None:
        leases.append(descriptor)
    return descriptor is not None

"""Start and stop the embedded stack of a home. Data stays; processes do not."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tradetape.infra import settings
from tradetape.infra.embedded import artifacts, components, ports, processes, status, stores
from tradetape.infra.embedded.progress import Progress
from tradetape.infra.files import locked
from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.topics import DEFAULT_PARTITIONS

START_TIMEOUT = 120.0
"""Seconds from the start of the supervisor until everything has to be healthy."""
STOP_TIMEOUT = 90.0
"""Seconds a supervisor gets to stop its components, the sum of their own timeouts in reverse order."""
MIN_FREE_BYTES = 256 * 1024 * 1024
"""Below it nothing is started: Kafka stops for good when it cannot write."""
_FAILED_STARTS = 3
_LOCK_TIMEOUT = START_TIMEOUT + 60.0

Watch = Callable[[tuple[status.ComponentStatus, ...]], None]


@dataclass(frozen=True, slots=True)
class Started:
    """What ``up`` did. ``was_running``: it was all healthy before."""

    stack: StackFile
    was_running: bool


def up(
    home: Path,
    *,
    given_ports: Mapping[str, int] | None = None,
    only: str | None = None,
    partitions: int | None = None,
    progress: Progress | None = None,
    watch: Watch = lambda _: None,
) -> Started:
    """Start the stack of ``home`` and return when every component in ``only`` (all) is healthy.

    ``given_ports`` maps ``kafka``, ``registry``, ``clickhouse`` to explicit ports; ``partitions`` counts for a
    home without topics only. ``watch`` is called with the states while they change. A start that fails leaves
    nothing running. Raises TradetapeError: port taken, disk full, download or component failed.
    """
    wanted = components.select(only)
    progress = progress or Progress()
    _make_home(home)
    with locked(
        processes.run_dir(home) / "up.lock",
        timeout=_LOCK_TIMEOUT,
        what=f"another `tradetape up` or `down` in {home}",
        waiting=lambda: progress.note("another tradetape is at work in this home; waiting for it"),
    ):
        recorded = StackFile.read(home)
        given = given_ports or {}
        if recorded is not None and processes.find(home, processes.SUPERVISOR) is not None:
            return _already_running(home, recorded, given, wanted, watch)
        processes.stop_all(home)  # what a killed supervisor left behind
        _refuse_other_partitions(home, recorded, partitions)
        _check_disk(home)
        cache = settings.resolve_cache()
        artifacts.ensure(cache, progress)
        before = recorded.ports if recorded else {}
        with ports.chosen(cache, given, before, wanted) as chosen:
            count = recorded.partitions if recorded else partitions or DEFAULT_PARTITIONS
            services = tuple(name for name in wanted if name in components.SERVERS)
            stack = StackFile({**before, **chosen}, count, services)
            stack.write(home)
            _start(home, wanted, watch)
        return Started(stack, was_running=False)


def down(home: Path) -> int:
    """Stop every process of ``home``; returns how many there were (0: nothing was running).

    Works whatever was killed before: first the supervisor is asked, then what is left is searched and stopped.
    """
    native_stores = stores.stop(home)
    if not processes.run_dir(home).is_dir():
        return native_stores
    found = native_stores + len(processes.leftovers(home))
    supervisor = processes.find(home, processes.SUPERVISOR)
    if supervisor is not None:
        processes.stop([supervisor], timeout=STOP_TIMEOUT)  # an `up` that waits for it notices and gives up
    with locked(processes.run_dir(home) / "up.lock", timeout=_LOCK_TIMEOUT, what=f"a `tradetape up` in {home}"):
        return max(found, native_stores + processes.stop_all(home))


def _already_running(
    home: Path, stack: StackFile, given: Mapping[str, int], wanted: tuple[str, ...], watch: Watch
) -> Started:
    down_first = "run `tradetape down` first"
    for service, port in given.items():
        if port != (running := stack.ports.get(service)):
            raise TradetapeError(f"the stack runs with {service} on port {running or '-'}, not {port}", hint=down_first)
    before = status.read(home)
    missing = set(wanted) - {component.name for component in before}
    if before and missing:
        raise TradetapeError(f"the stack runs without {', '.join(sorted(missing))}", hint=down_first)
    was_running = bool(before) and all(component.state == status.HEALTHY for component in before)
    if not was_running:
        _wait_healthy(home, watch)
    return Started(stack, was_running)


def _start(home: Path, wanted: tuple[str, ...], watch: Watch) -> None:
    status.path(home).unlink(missing_ok=True)
    command = [sys.executable, "-m", "tradetape.infra.embedded.supervisor", "--home", str(home)]
    process = processes.spawn(
        processes.SUPERVISOR, [*command, "--only", ",".join(wanted)], home=home, die_with_parent=False
    )
    healthy = False
    try:
        _wait_healthy(home, watch, lambda: process.poll() is not None)
        healthy = True
    finally:
        if not healthy:  # failed or interrupted: take down what was started
            supervisor = processes.find(home, processes.SUPERVISOR)
            processes.stop([supervisor] if supervisor else [], timeout=STOP_TIMEOUT)
            processes.stop_all(home)


def _wait_healthy(home: Path, watch: Watch, is_gone: Callable[[], bool] | None = None) -> None:
    deadline = time.monotonic() + START_TIMEOUT

    def check() -> str | None:
        if is_gone() if is_gone else processes.find(home, processes.SUPERVISOR) is None:
            raise _failure(home, processes.SUPERVISOR, "ended while the stack was starting")
        seen = status.read(home)
        watch(seen)
        for component in seen:
            if component.failed_starts >= _FAILED_STARTS:
                raise _failure(home, component.name, f"does not start ({component.detail})")
        waiting = [component for component in seen if component.state != status.HEALTHY]
        if seen and not waiting:
            return None
        if waiting and time.monotonic() >= deadline:
            first = waiting[0]
            reason = first.detail or first.state
            raise _failure(home, first.name, f"is not healthy after {START_TIMEOUT:.0f} s ({reason})")
        return "starting"

    log = processes.log_path(home, processes.SUPERVISOR)
    processes.wait_until(check, timeout=START_TIMEOUT + 5.0, what="the supervisor", log=log)


def _failure(home: Path, name: str, what: str) -> StartError:
    log = processes.log_path(home, name)
    return StartError(f"{name} {what}", log=log, tail=processes.log_tail(log))


class StartError(TradetapeError):
    """A component did not start; ``tail`` is the end of its log."""

    def __init__(self, message: str, *, log: Path, tail: str) -> None:
        super().__init__(message, hint=f"see {log}")
        self.log = log
        self.tail = tail


def _make_home(home: Path) -> None:
    try:
        processes.run_dir(home).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TradetapeError(
            f"cannot use {home} as home: {error.strerror}", hint="choose another with --home or TRADETAPE_HOME"
        ) from error


def _check_disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < MIN_FREE_BYTES:
        raise TradetapeError(
            f"the disk of {home} is full: {free // 2**20} MB free, {MIN_FREE_BYTES // 2**20} MB needed",
            hint="free space there, or choose another home with --home",
        )


def _refuse_other_partitions(home: Path, recorded: StackFile | None, partitions: int | None) -> None:
    if recorded is not None and partitions is not None and partitions != recorded.partitions:
        raise TradetapeError(
            f"the topics of {home} have {recorded.partitions} partitions, and that is fixed at creation",
            hint="leave --partitions out, or use another home",
        )

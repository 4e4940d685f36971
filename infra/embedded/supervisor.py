"""The one process that ``tradetape up`` leaves behind: it starts the components and keeps them running.

``python -m tradetape.infra.embedded.supervisor --home H [--only a,b]``. It restarts what exits, with growing
pauses, writes ``<home>/run/status.json`` at every change, and stops everything in reverse order on SIGTERM.
If it is killed itself, the kernel kills its children (Linux), and the next ``up`` or ``down`` looks for the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tradetape.infra.embedded import processes, status
from tradetape.infra.embedded.component import Component
from tradetape.infra.files import try_lock, write_json

log = logging.getLogger("tradetape.supervisor")

MAX_BACKOFF = 10.0
"""Seconds. Longest pause before a restart."""
RESET_AFTER = 30.0
"""Seconds of health after which a component's earlier failures are forgotten."""
SETTLED_AFTER = 2.0
"""Seconds that a component without a health check must run to count as healthy: an import error shows by then."""
_FIRST_BACKOFF = 0.25
_TICK = 0.05
_PROBE_STARTING = 0.1
_PROBE_HEALTHY = 2.0


def backoff(failures: int) -> float:
    """Seconds to wait before the restart after the ``failures``-th failure in a row: 0.25, 0.5, 1, … 10."""
    return min(MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))


class Supervised:
    """One component and what became of it. Only the thread that runs the supervisor calls it."""

    def __init__(self, component: Component, home: Path, pool: ThreadPoolExecutor) -> None:
        self.component = component
        self.process: subprocess.Popen[bytes] | None = None
        self.state = status.STARTING
        self.since = status.now_utc()
        self.detail = ""
        self.restarts = 0
        self.failed_starts = 0
        self._home = home
        self._pool = pool
        self._failures = 0
        self._start_at = 0.0
        self._started_at = 0.0
        self._healthy_at: float | None = None
        self._preparing: Future[None] | None = None
        self._probe: tuple[subprocess.Popen[bytes], Future[str | None]] | None = None
        self._probe_at = 0.0

    def advance(self, now: float, may_start: bool) -> None:
        """Take the next step, without blocking. ``now`` is monotonic seconds."""
        if self.process is None:
            self._start(now, may_start)
        elif (code := self.process.poll()) is not None:
            self._fail(now, f"exited with {_exit_text(code)}")
        elif self.component.health is None:
            if now - self._started_at >= SETTLED_AFTER:
                self._healthy(now)
        else:
            self._check(now, self.process, self.component.health)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after the component's ``stop_timeout``; returns when it is gone."""
        if self.process is not None and self.process.poll() is None:
            log.info("stopping %s (pid %d)", self.component.name, self.process.pid)
            self.process.terminate()
            try:
                self.process.wait(self.component.stop_timeout)
            except subprocess.TimeoutExpired:
                log.warning("%s did not end within %.0f s: SIGKILL", self.component.name, self.component.stop_timeout)
                self.process.kill()
                self.process.wait()
        self.process = None
        self._become(status.STOPPED, "")
        processes.forget(self._home, self.component.name)

    def report(self) -> dict[str, Any]:
        """Its entry in ``status.json``."""
        return {
            "name": self.component.name,
            "pid": self.process.pid if self.process is not None else None,
            "state": self.state,
            "restarts": self.restarts,
            "failed_starts": self.failed_starts,
            "since": self.since,
            "detail": self.detail,
        }

    def _start(self, now: float, may_start: bool) -> None:
        if self._preparing is None:
            if now < self._start_at or not may_start:
                return
            if self.component.prepare is not None:
                self._preparing = self._pool.submit(self.component.prepare)
                return
        elif not self._preparing.done():
            return
        elif (error := self._preparing.exception()) is not None:
            self._preparing = None
            self._fail(now, str(error))
            return
        self._preparing = None
        name, component = self.component.name, self.component
        self.process = processes.spawn(name, component.command, home=self._home, env=component.env, cwd=component.cwd)
        log.info("started %s (pid %d)", name, self.process.pid)
        self._become(status.STARTING, "")
        self._healthy_at = None
        self._started_at = self._probe_at = now

    def _check(self, now: float, process: subprocess.Popen[bytes], health: Callable[[], str | None]) -> None:
        if self._probe is None:
            if now >= self._probe_at:
                self._probe = (process, self._pool.submit(health))
            return
        probed, future = self._probe
        if not future.done():
            return
        self._probe = None
        error = future.exception()
        reason = repr(error) if error is not None else future.result()
        if probed is not process:  # it asked the one before
            return
        if reason is None:
            self._healthy(now)
            self._probe_at = now + _PROBE_HEALTHY
            return
        self._probe_at = now + _PROBE_STARTING
        # A component that runs and does not answer is reported, not killed: under load that would make it worse.
        self._become(status.STARTING if self._healthy_at is None else status.UNHEALTHY, reason)

    def _healthy(self, now: float) -> None:
        if self._healthy_at is None:
            self._healthy_at = now
            self.failed_starts = 0
        self._become(status.HEALTHY, "")

    def _fail(self, now: float, reason: str) -> None:
        if self._healthy_at is None:
            self.failed_starts += 1
        elif now - self._healthy_at >= RESET_AFTER:
            self._failures = 0
        self._failures += 1
        self._healthy_at = None
        self.process = None
        self.restarts += 1
        pause = backoff(self._failures)
        self._start_at = now + pause
        log.warning("%s %s; starting it again in %.2f s", self.component.name, reason, pause)
        self._become(status.RESTARTING, reason)

    def _become(self, state: str, detail: str) -> None:
        if state != self.state:
            self.state, self.since = state, status.now_utc()
            log.info("%s is %s%s", self.component.name, state, f": {detail}" if detail else "")
        self.detail = detail


class Supervisor:
    """Runs ``components`` for ``home`` until ``request_stop``; ``clock`` is monotonic seconds."""

    def __init__(
        self, components: Sequence[Component], home: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._home = home
        self._clock = clock
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max(1, len(components)), thread_name_prefix="probe")
        self.children = [Supervised(component, home, self._pool) for component in components]
        self._me = {"pid": os.getpid(), "create_time": psutil.Process().create_time()}
        self._written: list[dict[str, Any]] | None = None
        self._write_at = 0.0

    def request_stop(self) -> None:
        """Make ``run`` stop everything and return. Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Start, watch and restart the components until ``request_stop``; then stop them, last one first."""
        try:
            while not self._stop.is_set():
                self.tick()
                self._stop.wait(_TICK)
        finally:
            for child in reversed(self.children):
                child.stop()
                self._publish()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """One look at every component."""
        healthy = {child.component.name for child in self.children if child.state == status.HEALTHY}
        for child in self.children:
            child.advance(self._clock(), may_start=healthy.issuperset(child.component.after))
        self._publish()

    def _publish(self) -> None:
        report = [child.report() for child in self.children]
        if report == self._written or self._clock() < self._write_at:
            return
        try:
            write_json(status.path(self._home), {"supervisor": self._me, "components": report})
            self._written = report
        except OSError as error:  # a full disk must not take the running components down
            self._write_at = self._clock() + 1.0
            log.error("cannot write the status: %s", error)


def _exit_text(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise the stack of a home as recorded in its ``stack.json``. Exit code 1: another one does already."""
    from tradetape.infra import settings
    from tradetape.infra.embedded import artifacts, components, ports
    from tradetape.infra.stackfile import StackFile

    parser = argparse.ArgumentParser(prog="tradetape-supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    home: Path = settings.resolve_home(options.home)
    lock = try_lock(processes.run_dir(home) / "supervisor.lock")
    stack = StackFile.read(home)
    if lock is None or stack is None:
        log.error("another supervisor works in %s" if lock is None else "there is no stack.json in %s", home)
        return 1
    cache = settings.resolve_cache()
    wanted = components.build(home, stack, artifacts.ensure(cache), components.select(options.only))
    held = ports.hold(cache, stack.ports.values())
    supervisor = Supervisor(wanted, home)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.request_stop())
    try:
        supervisor.run()
    finally:
        for descriptor in (*held, lock):
            os.close(descriptor)
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Processes of the embedded stack: start them detached, know them again safely, stop them for certain.

A process is known by pid *and* creation time (``<home>/run/<name>.pid``), so a pid that the system has given
to somebody else is never signalled. As a second net every process of a home carries the home's path in the
environment variable ``TRADETAPE_STACK``; children of children inherit it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from tradetape.infra.files import read_json, write_json
from tradetape.schemas.errors import TradetapeError

SUPERVISOR = "supervisor"
MARKER = "TRADETAPE_STACK"

_CREATE_TIME_TOLERANCE = 2.0
"""Seconds. The system derives creation times from the boot time, which clock corrections move a little; a pid
cannot come round again within it."""
_LOG_ROTATE_BYTES = 16 * 1024 * 1024
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


def run_dir(home: Path) -> Path:
    """Pid files, lock and status of a home."""
    return home / "run"


def log_path(home: Path, name: str) -> Path:
    """Where process ``name`` of ``home`` writes its output."""
    return home / "logs" / f"{name}.log"


def log_tail(path: Path, lines: int = 15) -> str:
    """The last ``lines`` non-empty lines of a log, or a note that there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64 * 1024))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return f"({path} was not written)"
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:]) or f"({path} is empty)"


def spawn(
    name: str,
    command: Sequence[str],
    *,
    home: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    die_with_parent: bool = True,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, output appended to its log, and record its pid.

    No descriptor of the caller is inherited, so nobody who reads the caller's output waits for the child.
    With ``die_with_parent`` the kernel kills the child when the *thread* that called this ends (Linux; call
    it from the main thread). Raises TradetapeError when the program cannot be started.
    """
    log = log_path(home, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), MARKER: str(home)},
                cwd=cwd or home,
                start_new_session=True,
                close_fds=True,
                preexec_fn=_die_with(os.getpid()) if die_with_parent else None,  # noqa: PLW1509
            )
        except OSError as error:
            raise TradetapeError(
                f"cannot start {name}: {error}", hint="check the installation of tradetape[embedded]"
            ) from error
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended already: there is nothing to find again
        write_json(
            _pid_path(home, name),
            {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time()},
        )
    return process


def find(home: Path, name: str) -> psutil.Process | None:
    """The live process that was recorded as ``name``; None when it ended or its pid is somebody else's."""
    record = read_json(_pid_path(home, name))
    if record is None:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - float(record["create_time"])) <= _CREATE_TIME_TOLERANCE
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return None


def forget(home: Path, name: str) -> None:
    """Remove the pid file of ``name``."""
    _pid_path(home, name).unlink(missing_ok=True)


def leftovers(home: Path) -> list[psutil.Process]:
    """Every live process of ``home``: recorded in a pid file, or marked in its environment."""
    found: dict[int, psutil.Process] = {}
    for pid_file in sorted(run_dir(home).glob("*.pid")):
        process = find(home, pid_file.stem)
        if process is not None:
            found[process.pid] = process
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in found or process.pid in mine:
            continue
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or gone: not ours
            if process.environ().get(MARKER) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    return list(found.values())


def stop(processes: Iterable[psutil.Process], *, timeout: float) -> None:
    """SIGTERM, then SIGKILL to what is still there after ``timeout`` seconds, then wait until all are gone.

    Raises TradetapeError for one that survives even that, or that belongs to another user.
    """
    alive = list(processes)
    for process in alive:
        _signal(process, signal.SIGTERM)
    alive = _wait_gone(alive, timeout)
    for process in alive:
        _signal(process, signal.SIGKILL)
    stuck = _wait_gone(alive, 10.0)
    if stuck:
        pids = ", ".join(str(process.pid) for process in stuck)
        raise TradetapeError(f"process {pids} does not end, even after SIGKILL", hint="check `ps` and its disk")


def stop_all(home: Path, *, timeout: float = 10.0) -> int:
    """Stop whatever is left of ``home`` and remove its pid files: the number of processes stopped."""
    remaining = leftovers(home)
    stop(remaining, timeout=timeout)
    for pid_file in run_dir(home).glob("*.pid"):
        pid_file.unlink(missing_ok=True)
    return len(remaining)


def wait_until(check: Callable[[], str | None], *, timeout: float, what: str, log: Path | None = None) -> None:
    """Poll until ``check`` returns None (it returns the reason while it has to wait).

    Raises TradetapeError after ``timeout`` seconds, with the last reason and the last line of ``log``.
    """
    deadline = time.monotonic() + timeout
    while (reason := check()) is not None:
        if time.monotonic() >= deadline:
            last = f"; last log line: {log_tail(log, 1)}" if log is not None else ""
            raise TradetapeError(
                f"{what} did not get ready within {timeout:.0f} s ({reason}{last})",
                hint=f"see {log}" if log is not None else "",
            )
        threading.Event().wait(_POLL_SECONDS)


def _pid_path(home: Path, name: str) -> Path:
    return run_dir(home) / f"{name}.pid"


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)  # psutil refuses by itself when the pid was reused
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise TradetapeError(
            f"process {process.pid} belongs to another user", hint="stop it as the user who started it"
        ) from error


def _wait_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout
    while True:
        processes = [process for process in processes if _is_alive(process)]
        if not processes or time.monotonic() >= deadline:
            return processes
        threading.Event().wait(_POLL_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    # A zombie has ended; nobody may ever reap it (a container without an init).
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _die_with(parent: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None  # elsewhere `tradetape down` finds what a killed supervisor left
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return arm

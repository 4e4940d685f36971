"""The supervisor and the process helpers, on small Python processes instead of servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support import eventually

from tradetape.infra.embedded import lifecycle, ports, processes, status
from tradetape.infra.embedded.component import Component, http_health
from tradetape.infra.embedded.components import NAMES, select
from tradetape.infra.embedded.supervisor import MAX_BACKOFF, RESET_AFTER, Supervisor, backoff
from tradetape.infra.files import write_json
from tradetape.schemas.errors import TradetapeError

FOREVER = "import signal\nwhile True: signal.pause()"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n" + FOREVER


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.stop_all(tmp_path, timeout=0.5)


class Running:
    """A supervisor that runs in this process, ticked by hand."""

    def __init__(self, home: Path, *components: Component) -> None:
        self.now = 0.0
        self.home = home
        self.supervisor = Supervisor(components, home, clock=lambda: self.now)
        me = psutil.Process()
        write_json(processes.run_dir(home) / "supervisor.pid", {"pid": me.pid, "create_time": me.create_time()})

    def reach(self, state: str, name: str | None = None) -> None:
        def reached() -> bool:
            self.now += 0.5
            self.supervisor.tick()
            return all(
                child.state == state
                for child in self.supervisor.children
                if name is None or child.component.name == name
            )

        eventually(reached, 20, f"{name or 'all'} {state}")

    def tick(self) -> bool:
        self.supervisor.tick()
        return True

    def pid(self, name: str) -> int:
        child = next(child for child in self.supervisor.children if child.component.name == name)
        assert child.process is not None
        return child.process.pid

    def stop(self) -> None:
        (processes.run_dir(self.home) / "supervisor.pid").unlink(missing_ok=True)
        self.supervisor.request_stop()
        self.supervisor.run()


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_the_pauses_grow_to_a_limit() -> None:
    pauses = [backoff(failures) for failures in range(1, 200)]
    assert pauses[:4] == [0.25, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert max(pauses) == MAX_BACKOFF == 10.0


@pytest.mark.req("P-06")
def test_a_killed_component_is_restarted(home: Path) -> None:
    running = Running(home, Component("a", python(FOREVER)), Component("b", python(FOREVER)))
    running.reach(status.HEALTHY)
    first, other = running.pid("a"), running.pid("b")
    os.kill(first, signal.SIGKILL)
    running.reach(status.RESTARTING, "a")
    assert status.read(home)[0].detail == "exited with signal SIGKILL"
    running.reach(status.HEALTHY)
    seen = {entry.name: entry for entry in status.read(home)}
    assert running.pid("a") != first
    assert (seen["a"].restarts, seen["b"].restarts, running.pid("b")) == (1, 0, other)
    running.stop()
    assert [entry.state for entry in status.read(home)] == [status.STOPPED, status.STOPPED]
    assert is_gone(other)


def test_a_failing_component_is_started_less_and_less_often(home: Path) -> None:
    running = Running(home, Component("bad", python("raise SystemExit(7)"), health=lambda: "no"))
    child = running.supervisor.children[0]
    waits: list[float] = []
    for _ in range(4):
        eventually(lambda: running.tick() and child.failed_starts == len(waits) + 1, 20)
        start = running.now
        while child.process is None:
            running.now += 0.25
            running.supervisor.tick()
        waits.append(running.now - start)
    assert waits == [0.25, 0.5, 1.0, 2.0]
    assert child.detail == ""  # it runs again; while it waits, the detail names the exit code
    eventually(lambda: running.tick() and child.detail == "exited with code 7", 20)
    running.stop()


def test_health_forgets_earlier_failures(home: Path) -> None:
    running = Running(home, Component("a", python(FOREVER)))
    child = running.supervisor.children[0]
    for healthy_for, expected in ((0.0, 0.25), (0.0, 0.5), (RESET_AFTER, 0.25)):
        running.reach(status.HEALTHY)
        running.now += healthy_for
        os.kill(running.pid("a"), signal.SIGKILL)
        eventually(lambda: running.tick() and child.process is None, 10)
        start = running.now
        while child.process is None:
            running.now += 0.25
            running.supervisor.tick()
        assert running.now - start == expected
    running.stop()


def test_a_component_waits_for_those_before_it(home: Path) -> None:
    ready = threading.Event()
    running = Running(
        home,
        Component("server", python(FOREVER), health=lambda: None if ready.is_set() else "warming up"),
        Component("client", python(FOREVER), after=("server",)),
    )
    eventually(lambda: running.tick() and running.supervisor.children[0].detail == "warming up", 10)
    assert running.supervisor.children[1].process is None
    ready.set()
    running.reach(status.HEALTHY)
    running.stop()


def test_a_failed_preparation_counts_as_a_failed_start(home: Path) -> None:
    def refuse() -> None:
        raise TradetapeError("cannot format", hint="free space")

    running = Running(home, Component("a", python(FOREVER), prepare=refuse))
    running.reach(status.RESTARTING)
    assert status.read(home)[0].detail == "cannot format; free space"
    running.stop()


def test_one_that_stops_answering_is_reported_and_left_alone(home: Path) -> None:
    answers = [None, "no answer"]
    running = Running(home, Component("a", python(FOREVER), health=lambda: answers[0]))
    running.reach(status.HEALTHY)
    pid = running.pid("a")
    answers.reverse()
    running.reach(status.UNHEALTHY)
    answers.reverse()
    running.reach(status.HEALTHY)
    assert running.pid("a") == pid
    running.stop()


def test_a_deaf_component_is_killed_after_its_timeout(home: Path) -> None:
    running = Running(home, Component("deaf", python(STUBBORN), stop_timeout=0.3))
    running.reach(status.HEALTHY)
    eventually(lambda: "deaf" in processes.log_tail(processes.log_path(home, "deaf")), 10)
    pid = running.pid("deaf")
    running.stop()
    assert is_gone(pid)


def test_they_stop_in_reverse_order(home: Path) -> None:
    order = home / "order"
    note = "import signal\ndef end(*_):\n  open({path!r}, 'a').write({name!r})\n  raise SystemExit\n"
    arm = "signal.signal(signal.SIGTERM, end)\nprint('armed', flush=True)\n"
    commands = {name: python(note.format(path=str(order), name=name) + arm + FOREVER) for name in ("a", "b", "c")}
    running = Running(home, *(Component(name, command) for name, command in commands.items()))
    running.reach(status.HEALTHY)
    for name in commands:
        log = processes.log_path(home, name)
        eventually(lambda log=log: "armed" in processes.log_tail(log), 10)  # type: ignore[misc]
    running.stop()
    assert order.read_text() == "cba"


def test_children_die_with_their_parent(home: Path) -> None:
    code = (
        "import sys, signal; from pathlib import Path; from tradetape.infra.embedded import processes\n"
        f"p = processes.spawn('child', [sys.executable, '-c', {FOREVER!r}], home=Path({str(home)!r}))\n"
        "print(p.pid, flush=True)\n" + FOREVER
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
    if sys.platform.startswith("linux"):
        eventually(lambda: is_gone(child), 5, "the kernel killed the child")
    assert lifecycle.down(home) in (0, 1)
    assert is_gone(child)


def test_down_finds_what_is_recorded_nowhere(home: Path) -> None:
    processes.run_dir(home).mkdir(parents=True)
    environment = {**os.environ, processes.MARKER: str(home)}
    with subprocess.Popen(python(FOREVER), env=environment, start_new_session=True) as stray:
        eventually(lambda: [process.pid for process in processes.leftovers(home)] == [stray.pid], 5)
        assert lifecycle.down(home) == 1
        assert stray.wait(5) == -signal.SIGTERM
    assert lifecycle.down(home) == 0


def test_a_pid_that_went_to_somebody_else_is_never_signalled(home: Path) -> None:
    with subprocess.Popen(python(FOREVER), start_new_session=True) as bystander:
        born = psutil.Process(bystander.pid).create_time()
        record = {"pid": bystander.pid, "create_time": born - 60}
        for name in (processes.SUPERVISOR, "kafka"):
            write_json(processes.run_dir(home) / f"{name}.pid", record)
        assert processes.find(home, "kafka") is None
        assert lifecycle.down(home) == 0
        assert bystander.poll() is None
        assert not list(processes.run_dir(home).glob("*.pid"))
        bystander.kill()


@pytest.mark.parametrize("record", ["{}", '{"pid": "x", "create_time": 1}', '{"pid": 999999999, "create_time": 1}'])
def test_a_senseless_pid_file_is_nobody(home: Path, record: str) -> None:
    processes.run_dir(home).mkdir(parents=True)
    (processes.run_dir(home) / "kafka.pid").write_text(record)
    assert processes.find(home, "kafka") is None


def test_a_spawned_process_holds_no_pipe_of_its_caller(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tradetape.infra.embedded import processes\n"
        f"processes.spawn('s', [sys.executable, '-c', {FOREVER!r}], home=Path({str(home)!r}), die_with_parent=False)"
    )
    done = subprocess.run(python(code), capture_output=True, timeout=20, check=True)  # hangs if a pipe is held
    assert done.stdout == b""
    assert processes.find(home, "s") is not None
    assert processes.stop_all(home) == 1


def test_waiting_names_reason_and_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("one\nport in use\n\n")
    with pytest.raises(
        TradetapeError, match=r"kafka did not get ready within 0 s \(closed; last log line: port in use"
    ):
        processes.wait_until(lambda: "closed", timeout=0.1, what="kafka", log=log)


def test_selecting_components() -> None:
    assert select(None) == NAMES
    assert select("clickhouse, kafka") == ("kafka", "clickhouse")
    with pytest.raises(TradetapeError, match="no such component: zookeeper"):
        select("kafka,zookeeper")


def test_a_closed_port_is_not_healthy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reason = http_health(unused.getsockname()[1], "/ping")()
    assert reason is not None
    assert "refused" in reason


def test_ports_of_a_running_stack_are_kept_while_its_services_are_down(tmp_path: Path) -> None:
    with ports.chosen(tmp_path, {}, {}, NAMES) as one:
        numbers = one.values()
    held = ports.hold(tmp_path, numbers)
    try:
        with ports.chosen(tmp_path, {}, {}, NAMES) as two:
            assert not set(numbers) & set(two.values())
    finally:
        for descriptor in held:
            os.close(descriptor)
    with ports.chosen(tmp_path, {}, {}, NAMES) as three:
        assert three == one


def test_a_taken_port_names_port_program_and_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for given, recorded in (({"kafka": port}, {}), ({}, {"kafka": port})):
            with (
                pytest.raises(TradetapeError) as caught,
                ports.chosen(tmp_path, given, recorded, ["kafka"]),
            ):
                pytest.fail("a taken port was chosen")
            assert f"port {port} for kafka is taken by" in caught.value.message
            assert f"(pid {os.getpid()})" in caught.value.message
            assert "--kafka-port" in caught.value.hint
        with ports.chosen(tmp_path, {}, {"kafka": port}, ["registry"]) as chosen:
            assert chosen["kafka"] == port  # Kafka does not start now, so it may be taken


def test_two_homes_that_start_together_get_different_ports(tmp_path: Path) -> None:
    with ports.chosen(tmp_path, {}, {}, NAMES) as one, ports.chosen(tmp_path, {}, {}, NAMES) as two:
        assert len({*one.values(), *two.values()}) == 8


def test_one_port_cannot_serve_two(tmp_path: Path) -> None:
    with (
        pytest.raises(TradetapeError, match="port 4001 is given to kafka and registry"),
        ports.chosen(tmp_path, {"kafka": 4001, "registry": 4001}, {}, NAMES),
    ):
        pytest.fail("one port for two")


def test_a_full_disk_is_refused_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MIN_FREE_BYTES", 2**62)
    with pytest.raises(TradetapeError, match=f"the disk of {home} is full"):
        lifecycle.up(home, only="kafka")
    assert processes.leftovers(home) == []

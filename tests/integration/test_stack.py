"""`tradetape up`, `status`, `down` on the real servers, through the command line only."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support import eventually, ports_apart

from tradetape.infra import settings
from tradetape.infra.embedded import processes
from tradetape.schemas.topics import AUDITED, CATALOGUE, EVENTS

pytestmark = [pytest.mark.integration, pytest.mark.req("P-09")]

SERVERS = "kafka,registry,clickhouse"


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Path]:
    """A folder for homes. Whatever runs in one of them is stopped at the end."""
    yield tmp_path
    for home in tmp_path.iterdir():
        if (home / "run").is_dir():
            tradetape("down", home=home)
            assert processes.leftovers(home) == []
            shutil.rmtree(home)


def tradetape(*arguments: str, home: Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a harness would: output captured through pipes, which a left process must not hold."""
    clean = {key: value for key, value in os.environ.items() if key not in {*settings.ADDRESSES.values()}}
    done = subprocess.run(
        [sys.executable, "-m", "tradetape.infra.cli.main", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**clean, **env},
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def status_of(home: Path, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tradetape("status", "--output", "json", home=home, code=code).stdout)
    return document


def pids_of(home: Path) -> dict[str, int]:
    document = status_of(home)
    pids = {component["name"]: component["pid"] for component in document["components"]}
    return {**pids, "supervisor": document["supervisor_pid"]}


def call(url: str, path: str, method: str = "GET", body: str | None = None) -> str:
    host, _, prefix = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, f"/{prefix}{path}" if prefix else path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return text


def all_gone(pids: dict[str, int]) -> bool:
    def gone(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return all(gone(pid) for pid in pids.values())


def produce(home: Path, text: str) -> None:
    from confluent_kafka import Producer

    failures: list[object] = []
    producer = Producer(
        {"bootstrap.servers": settings.load(home, require=["bootstrap_servers"]).bootstrap_servers, "acks": "all"}
    )
    producer.produce(EVENTS, text, key="k", partition=0, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None]


def consume(home: Path) -> list[str]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": settings.load(home, require=["bootstrap_servers"]).bootstrap_servers, "group.id": "test"}
    )
    end = consumer.get_watermark_offsets(TopicPartition(EVENTS, 0), timeout=20)[1]
    consumer.assign([TopicPartition(EVENTS, 0, 0)])
    messages = consumer.consume(end, timeout=30)
    consumer.close()
    return [message.value().decode() for message in messages]


def write_everywhere(home: Path, mark: str) -> None:
    where = settings.load(home)
    produce(home, mark)
    schema = json.dumps({"schema": json.dumps({"type": "enum", "name": mark, "symbols": ["A"]})})
    call(where.registry_url, f"/subjects/{mark}/versions", "POST", schema)
    call(where.clickhouse_url, "/", "POST", "CREATE DATABASE IF NOT EXISTS marks")
    table = "CREATE TABLE IF NOT EXISTS marks.marks (mark String) ENGINE = MergeTree ORDER BY mark"
    call(where.clickhouse_url, "/", "POST", table)
    call(where.clickhouse_url, "/", "POST", f"INSERT INTO marks.marks VALUES ('{mark}')")


def read_everywhere(home: Path) -> tuple[list[str], list[str], list[str]]:
    where = settings.load(home)
    subjects = sorted(json.loads(call(where.registry_url, "/subjects")))
    rows = call(where.clickhouse_url, "/", "POST", "SELECT mark FROM marks.marks ORDER BY mark FORMAT TSV").split()
    return consume(home), subjects, rows


@pytest.mark.crash
@pytest.mark.req("P-06")
def test_data_survives_down_and_kill_9_and_nothing_is_left_behind(homes: Path) -> None:
    home = homes / "a home, with spaces; and ünicode"
    own_ports = ports_apart("kafka", "registry", "clickhouse")
    up = tradetape("up", "--only", SERVERS, "--partitions", "3", *own_ports, home=home)
    assert f"the stack is up in {home}" in up.stdout
    write_everywhere(home, "first")
    first = pids_of(home)

    again = tradetape("up", "--only", SERVERS, home=home)
    assert "already running" in again.stdout
    assert pids_of(home) == first

    tradetape("down", home=home)
    assert all_gone(first)
    assert "nothing was running" in tradetape("down", home=home).stdout
    assert {entry["state"] for entry in status_of(home, code=3)["components"]} == {"stopped"}
    tradetape("up", "--only", SERVERS, home=home)
    write_everywhere(home, "second")

    # The supervisor is killed: its children die with it, and `up` starts anew.
    second = pids_of(home)
    os.kill(second["supervisor"], signal.SIGKILL)
    eventually(lambda: all_gone(second), 10, "children die with the supervisor")
    assert status_of(home, code=3)["healthy"] is False
    tradetape("up", "--only", SERVERS, home=home)
    assert read_everywhere(home) == (["first", "second"],) + (["first", "second"],) * 2

    # Every server is killed in the middle of its work: the supervisor brings each back, with what it held.
    third = pids_of(home)
    write_everywhere(home, "third")
    for name in SERVERS.split(","):
        os.kill(third[name], signal.SIGKILL)

    def is_back() -> bool:
        seen = json.loads(tradetape_status(home))
        return seen["healthy"] and all(component["restarts"] for component in seen["components"])

    eventually(is_back, 90, "the supervisor saw it, and all servers are back")
    assert set(pids_of(home).values()).isdisjoint({third[name] for name in SERVERS.split(",")})
    marks = ["first", "second", "third"]
    assert read_everywhere(home) == (marks, sorted(marks), marks)

    # A supervisor that is killed together with `down` running next leaves nothing.
    last = pids_of(home)
    os.kill(last["supervisor"], signal.SIGKILL)
    tradetape("down", home=home)
    assert all_gone(last)
    assert processes.leftovers(home) == []


def tradetape_status(home: Path) -> str:
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "status", "--home", str(home), "--output", "json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def test_two_homes_side_by_side_with_the_topics_of_the_catalogue(homes: Path) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    for name, partitions in (("one", "2"), ("two", "5")):
        tradetape("up", "--only", "kafka", "--partitions", partitions, home=homes / name)
    one, two = (status_of(homes / name)["addresses"] for name in ("one", "two"))
    assert one.keys() == two.keys() == {"bootstrap_servers"}
    assert one != two
    produce(homes / "one", "only in one")
    assert consume(homes / "one") == ["only in one"]
    assert consume(homes / "two") == []
    for addresses, count in ((one, 2), (two, 5)):
        admin = AdminClient({"bootstrap.servers": addresses["bootstrap_servers"]})
        topics = admin.list_topics(timeout=20).topics
        assert {topic.name for topic in CATALOGUE} <= topics.keys()
        assert {len(topics[topic.name].partitions) for topic in CATALOGUE} == {count}
        for topic in CATALOGUE:
            resource = ConfigResource(ResourceType.TOPIC, topic.name)
            config = admin.describe_configs([resource])[resource].result(20)
            assert {key: config[key].value for key in topic.config} == dict(topic.config)
        assert AUDITED in topics
    tradetape("down", home=homes / "one")
    assert status_of(homes / "two")["healthy"]


def test_a_port_that_is_taken_is_named_until_another_is_given(homes: Path) -> None:
    home = homes / "home"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, env in ((("--clickhouse-port", str(port)), {}), ((), {"TRADETAPE_CLICKHOUSE_PORT": str(port)})):
            failed = tradetape("up", "--only", "clickhouse", *arguments, home=home, code=1, **env)
            assert failed.stderr.startswith(f"tradetape: port {port} for clickhouse is taken by ")
            assert f"(pid {os.getpid()})" in failed.stderr
            assert "--clickhouse-port" in failed.stderr
            assert failed.stderr.count("\n") == 1
        assert processes.leftovers(home) == []
    tradetape("up", "--only", "clickhouse", "--clickhouse-port", str(port), home=home)
    tradetape("down", home=home)
    tradetape("up", "--only", "clickhouse", home=home)  # the port was recorded
    assert status_of(home)["addresses"]["clickhouse_url"].endswith(f":{port}")
    other = tradetape("up", "--only", "clickhouse", "--clickhouse-port", str(port + 1), home=home, code=1)
    assert f"runs with clickhouse on port {port}" in other.stderr


def test_a_start_that_fails_leaves_nothing_and_shows_the_log(homes: Path) -> None:
    home = homes / "home"
    (home / "clickhouse").parent.mkdir()
    (home / "clickhouse").write_text("a file where the engine wants its folder")
    failed = tradetape("up", "--only", "clickhouse", home=home, code=1)
    assert "--- end of" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("tradetape: clickhouse does not start")
    assert processes.leftovers(home) == []


def test_without_a_stack_status_says_so(homes: Path) -> None:
    shown = tradetape("status", home=homes / "none", code=3)
    assert "no stack is running" in shown.stdout
    assert not (homes / "none").exists()

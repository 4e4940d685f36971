"""Events over HTTP through the whole pipeline, as a newcomer and as a bot would send them."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import guides
from tests.integration.conftest import Tradetape
from tests.integration.gateway import Gateway
from tests.producers.gateways import event
from tests.support import eventually

from tradetape.infra import completeness, settings
from tradetape.sinks.store import Store

pytestmark = pytest.mark.integration

GUIDE = guides.ROOT / "docs" / "guides" / "post-events-over-http.md"
RESTRICTED = "restricted-token-of-the-tests"


@pytest.fixture(scope="module")
def gateway(stack: Tradetape, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(stack.home, tmp_path_factory.mktemp("gateway"), os.environ, stack.forks) as found:
        eventually(lambda: found.health()["status"] == "ok", 30, "it reaches Kafka")
        yield found


def fresh(instance: str, **changes: Any) -> dict[str, Any]:
    """A good event with an id of its own."""
    event_id = str(uuid.uuid4())
    return event(event_id=event_id, correlation_id=event_id, instance_name=instance, **changes)


def stored(stack: Tradetape, table: str, columns: str, instance: str) -> list[tuple[Any, ...]]:
    """Rows of ``instance`` once everything sent so far is stored, in the order of Kafka."""
    found = settings.load(stack.home)
    store = Store(found.clickhouse_url)
    assert completeness.wait_until_stored(store, found.bootstrap_servers, timeout=60) == 0
    rows = store.query(
        f"SELECT {columns} FROM tradetape.{table} WHERE instance_name = {{instance:String}} "
        "ORDER BY raw_partition, raw_offset",
        {"instance": instance},
    )
    return [tuple(row) for row in rows]


@pytest.mark.req("S3-01", "S3-05")
def test_events_are_stored_as_they_were_answered(stack: Tradetape, gateway: Gateway) -> None:
    good = [fresh("http-1", payload={"fill_price": f"2000{i}.10"}) for i in range(3)]
    bad = [fresh("http-1", ts_utc="yesterday"), fresh("http-1", payload={"liquidity_side": "both"})]
    with gateway.client() as http:
        answer = http.post("/v1/events", json=[good[0], bad[0], good[1], bad[1], good[2]])
        assert answer.status_code == 202, answer.text
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["accepted", "evidence", "accepted", "evidence", "accepted"]
    rows = stored(stack, "events", "toString(event_id), hex(raw), source_id, ingest_source", "http-1")
    assert [(row[0], *row[2:]) for row in rows] == [(one["event_id"], "http:default", "http") for one in good]
    assert all(as_sent(one) in bytes.fromhex(row[1]) for one, row in zip(good, rows, strict=True))
    rejected = stored(stack, "quarantine", "toString(event_id), reasons, hex(native)", "http-1")
    answered = [(result["event_id"], [reason["code"] for reason in result["reasons"]]) for result in results]
    assert [(row[0], list(row[1])) for row in rejected] == [answered[1], answered[3]]
    assert [bytes.fromhex(row[2]) for row in rejected] == [as_sent(one) for one in bad]


def as_sent(one: dict[str, Any]) -> bytes:
    """How httpx writes JSON."""
    return json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.req("S3-01")
def test_repeated_posts_count_once(stack: Tradetape, gateway: Gateway) -> None:
    batch = [fresh("http-2") for _ in range(50)]
    lines = gzip.compress("\n".join(map(json.dumps, batch)).encode())
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    with gateway.client() as http:
        for _ in range(3):
            assert http.post("/v1/events", content=lines, headers=headers).json()["accepted"] == 50
    assert [row[0] for row in stored(stack, "events", "toString(event_id)", "http-2")] == [e["event_id"] for e in batch]
    repeats = stored(stack, "quarantine", "disposition, reasons", "http-2")
    assert {(row[0], *row[1]) for row in repeats} == {("duplicate", "repeated")}
    assert len(repeats) == 100


@pytest.mark.req("P-08", "S3-05")
def test_poison_is_evidence_and_stops_nothing(stack: Tradetape, gateway: Gateway) -> None:
    source = "http:default"
    poison = [os.urandom(2000), b"\x00" * 100, b"[" * 100_000, b'{"a": "\xed\xa0\x80"', b"'; DROP TABLE events; --"]
    odd = [
        f'{{"n": {"9" * 6000}}}',
        "NaN",
        "[[]]",
        '"\\ud800"',
        json.dumps(fresh("http-3\n\x00', ts")),
        '{"a": 1e999999}',
    ]
    large = fresh("http-3", payload={"note": "x" * 10_000_000})
    with gateway.client() as http:
        for sent in poison:
            assert http.post("/v1/events", content=sent).status_code == 400
        answer = http.post("/v1/events", content=f"[{','.join(odd)}]")
        assert answer.status_code == 202, answer.text
        assert http.post("/v1/events", json=large).json()["accepted"] == 1
        last = fresh("http-3")
        assert http.post("/v1/events", json=last).status_code == 202
    rows = stored(stack, "events", "toString(event_id)", "http-3")
    assert [row[0] for row in rows] == [large["event_id"], last["event_id"]]
    natives = Store(settings.load(stack.home).clickhouse_url).query(
        "SELECT reasons FROM tradetape.quarantine WHERE source_id = {source:String} AND instance_name = ''",
        {"source": source},
    )
    assert len(natives) >= len(poison) + len(odd) - 1


def test_many_clients_at_a_time_keep_their_own_order(stack: Tradetape, gateway: Gateway) -> None:
    sent: dict[str, list[str]] = {f"http-4-{i}": [] for i in range(6)}

    def post(instance: str) -> None:
        with gateway.client() as http:
            for size in (1, 40, 3, 200, 1):
                batch = [fresh(instance) for _ in range(size)]
                assert http.post("/v1/events", json=batch).json()["accepted"] == size
                sent[instance] += [one["event_id"] for one in batch]

    threads = [threading.Thread(target=post, args=(instance,)) for instance in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for instance, ids in sent.items():
        assert len(ids) == 245
        assert [row[0] for row in stored(stack, "events", "toString(event_id)", instance)] == ids


def test_a_stop_answers_the_requests_in_work(stack: Tradetape, tmp_path: Path) -> None:
    tokens = tmp_path / "given.toml"
    tokens.write_text(f'[default]\ntoken = "{RESTRICTED}"\ninstances = ["http-5"]\n')
    with Gateway(stack.home, tmp_path, os.environ, stack.forks, tokens) as gateway:
        eventually(lambda: gateway.health()["status"] == "ok", 30, "it reaches Kafka")
        began, go_on = threading.Event(), threading.Event()
        body = json.dumps([fresh("http-5") for _ in range(20)]).encode()

        def slowly() -> Iterator[bytes]:
            yield body[:1000]
            began.set()
            go_on.wait(20)
            yield body[1000:]

        answers: list[httpx.Response] = []
        with gateway.client() as http:
            assert http.post("/v1/events", json=fresh("http-1")).status_code == 403
            post = threading.Thread(target=lambda: answers.append(http.post("/v1/events", content=slowly())))
            post.start()
            assert began.wait(20)
            gateway.process.terminate()
            eventually(lambda: _refused(gateway.port()), 20, "it takes no new connection")
            go_on.set()
            post.join(30)
        assert [answer.status_code for answer in answers] == [202]
        assert gateway.process.wait(40) == 0, gateway.log()
        assert "stopped" in gateway.log()
    assert len(stored(stack, "events", "event_id", "http-5")) == 20


def test_a_port_or_a_spool_in_use_is_told_in_a_line(stack: Tradetape, gateway: Gateway, tmp_path: Path) -> None:
    options = ("--tokens", str(tmp_path / "tokens.toml"), "--spool")
    taken = stack.run("gateway", *options, str(tmp_path / "s"), "--port", str(gateway.port()), check=False)
    assert taken.returncode == 1
    assert b"--port" in taken.stderr
    assert taken.stderr.count(b"\n") == 1
    locked = stack.run("gateway", *options, str(gateway.folder / "spool"), "--port", "0", check=False)
    assert locked.returncode == 1
    assert locked.stderr.count(b"\n") == 1


def test_the_guide_can_be_followed(stack: Tradetape, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = guides.Copy(tmp_path)
    place.environment["TRADETAPE_HOME"] = str(stack.home)
    printed: list[str] = []
    try:
        for block in guides.blocks(GUIDE):
            if block.language in ("text", "toml"):
                continue
            here = guides.Block(block.language, block.verb, block.path, block.text.replace("8620", str(port)))
            if here.text.startswith("tradetape query tail"):
                # A gateway that has just started spools until it has reached Kafka.
                eventually(lambda: len(stored(stack, "events", "event_id", "http-bot")) == 1, 60, "it is stored")
            printed.append(place.follow(here))
    finally:
        pid = tmp_path / "gateway.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False, capture_output=True)
    (promised,) = (block.text for block in guides.blocks(GUIDE) if block.language == "text")
    assert promised.strip() in printed
    assert any("order_created" in text for text in printed)
    (batch,) = (json.loads(text) for text in printed if '"evidence":1' in text)
    assert [result["status"] for result in batch["results"]] == ["accepted", "evidence"]
    eventually(lambda: _refused(port), 30, "the gateway ends")


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False

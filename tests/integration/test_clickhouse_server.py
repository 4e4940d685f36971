"""The engine behind ClickHouse's HTTP protocol, as unmodified clients use it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import clickhouse_connect
import lz4.frame
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from tests.integration.clickhouse import Server, command, free_port, serve

pytestmark = pytest.mark.integration

READONLY_CODE = 164


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("clickhouse")) as running:
        running.http(b"CREATE DATABASE lab ENGINE = Atomic")
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port, database="lab") as connected:
        connected.command("CREATE OR REPLACE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        yield connected


def test_clickhouse_connect_inserts_and_reads(client: Client) -> None:
    client.insert("t", [[1, "one"], [2, "it's\n2"]], column_names=["a", "b"])
    assert client.query("SELECT * FROM t ORDER BY a").result_rows == [(1, "one"), (2, "it's\n2")]
    by_text = client.query("SELECT a FROM t WHERE b = {b:String}", parameters={"b": "it's\n2"})
    assert by_text.result_rows == [(2,)]
    assert client.query("SELECT * FROM t WHERE a > 9").result_rows == []
    assert client.query("SELECT toDecimal128('0.000000000000000001', 18)").first_row == (Decimal("1E-18"),)


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_compressed_bodies_arrive_whole(server: Server, client: Client, compress: str | bool) -> None:
    rows = 100_000
    with clickhouse_connect.get_client(host="127.0.0.1", port=server.port, compress=compress) as packing:
        packing.insert("lab.t", [[n, "x" * 20] for n in range(rows)], column_names=["a", "b"])
    assert client.query("SELECT count(), sum(a), sum(length(b)) FROM t").first_row == (
        rows,
        rows * (rows - 1) // 2,
        rows * 20,
    )


def test_a_cut_lz4_body_is_refused(server: Server, client: Client) -> None:
    packed = lz4.frame.compress(b"1\tx\n" * 1000)[:-20]
    answer = server.http(packed, {"Content-Encoding": "lz4"}, query="INSERT INTO lab.t FORMAT TSV")
    assert answer.status == 400
    assert client.command("SELECT count() FROM t") == 0


def test_like_curl(server: Server, client: Client) -> None:
    assert server.http(query="SELECT 1 + 1").body == b"2\n"
    assert server.http(b"SELECT {n:Int32} * 2 AS x FORMAT JSONEachRow", param_n="21").body == b'{"x":42}\n'
    assert server.http(b"SELECT 'text'", database="lab", default_format="JSONCompactEachRow").body == b'["text"]\n'
    assert server.http(b'INSERT INTO lab.t FORMAT JSONEachRow {"a": 5, "b": "x"}\n{"a": 6}').status == 200
    assert server.http(b"7\tseven\n", query="INSERT INTO lab.t FORMAT TSV").status == 200
    assert server.http(b"INSERT INTO lab.t VALUES (8, 'FORMAT TSV')").status == 200
    assert server.http(b"SELECT a, b FROM t ORDER BY a", database="lab").body == b"5\tx\n6\t\n7\tseven\n8\tFORMAT TSV\n"


def test_a_select_from_the_body(server: Server, client: Client) -> None:
    statement = "INSERT INTO lab.t (a, b) SELECT n * 10, 'input(x)' FROM input('n UInt64') WHERE n > 1 FORMAT CSV"
    assert server.http(b"1\n2\n3\n", query=statement).status == 200
    assert client.query("SELECT a, b FROM t ORDER BY a").result_rows == [(20, "input(x)"), (30, "input(x)")]


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        (b"SELECT nope", 400, "47"),
        (b"SELEC 1", 400, "62"),
        (b"SELECT * FROM lab.nope", 404, "60"),
        (b"SELECT 1 SETTINGS no_such_setting = 1", 400, "115"),
        (b"", 400, "62"),
    ],
)
def test_errors_are_clickhouses_own(server: Server, statement: bytes, status: int, code: str) -> None:
    answer = server.http(statement)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert answer.body.startswith(f"Code: {code}. DB::Exception".encode())


@pytest.mark.req("S1-09")
@pytest.mark.parametrize(
    "statement", ["INSERT INTO t VALUES (1, 'x')", "DROP TABLE t", "ALTER TABLE t DELETE WHERE 1", "SET readonly = 0"]
)
def test_readonly_refuses_writes(client: Client, statement: str) -> None:
    for readonly in (1, 2):
        with pytest.raises(DatabaseError) as caught:
            client.command(statement, settings={"readonly": readonly})
        assert caught.value.code == READONLY_CODE
    # Nothing of it is left in the engine for the next request.
    client.command("INSERT INTO t VALUES (2, 'y')")
    assert client.command("SELECT count() FROM t", settings={"readonly": 2, "max_threads": 1}) == 1


def test_get_changes_nothing(server: Server, client: Client) -> None:
    assert server.http(query="INSERT INTO lab.t VALUES (1, 'x')").status == 403
    assert client.command("SELECT count() FROM t") == 0


def test_settings_do_not_leak(server: Server) -> None:
    ask = b"SELECT getSetting('max_threads')"
    assert server.http(ask, max_threads="3").body == b"3\n"
    assert server.http(ask).body != b"3\n"


def test_large_results_stream_and_break_off_loudly(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(2000000)") as blocks:
        assert sum(len(block) for block in blocks) == 2_000_000
    with pytest.raises((StreamFailureError, DatabaseError)):
        _ = client.query("SELECT throwIf(number = 1900000), number FROM numbers(2000000)").result_rows


def test_reads_do_not_wait_for_writes(client: Client, server: Server) -> None:
    slow = threading.Thread(
        target=server.http, args=(b"INSERT INTO lab.t SELECT number, sleepEachRow(0.01) FROM numbers(300)",)
    )
    slow.start()
    assert server.http(b"SELECT 1").body == b"1\n"
    assert slow.is_alive()
    slow.join()


@pytest.mark.req("P-06")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = 0
    with serve(tmp_path / "db") as server:
        server.http(b"CREATE DATABASE lab ENGINE = Atomic")
        server.http(b"CREATE TABLE lab.t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS fsync_after_insert = 1")
        for number in range(20):
            assert server.http(f"INSERT INTO lab.t VALUES ({number})".encode()).status == 200
            acknowledged += 1
        server.kill()
    with serve(tmp_path / "db") as server:
        assert server.http(b"SELECT count(), sum(a) FROM lab.t").body == f"{acknowledged}\t190\n".encode()


def test_a_second_owner_and_a_taken_port_get_one_line(server: Server, tmp_path: Path) -> None:
    for path, port, message in (
        (server.path, free_port(), "is in use by another ClickHouse engine; stop that process"),
        (tmp_path / "other", server.port, f"cannot listen on 127.0.0.1:{server.port}: Address already in use"),
    ):
        ended = subprocess.run(command(path, port), capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_it_stays_on_the_loopback_interface(tmp_path: Path) -> None:
    words = command(tmp_path, free_port())
    words[words.index("127.0.0.1")] = "0.0.0.0"
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "not the loopback interface" in ended.stderr

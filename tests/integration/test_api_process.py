"""`tradetape api` on a whole stack, as its guide shows it."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
from pathlib import Path

import pytest
from tests import guides
from tests.integration.conftest import Tradetape
from tests.support import eventually

pytestmark = pytest.mark.integration

GUIDE = guides.ROOT / "docs" / "guides" / "query-over-http.md"


@pytest.mark.req("S2-05", "S1-08", "S3-09", "N-05")
def test_the_guide_can_be_followed(stack: Tradetape, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = guides.Copy(tmp_path)
    place.environment["TRADETAPE_HOME"] = str(stack.home)
    printed: list[str] = []
    try:
        for block in guides.blocks(GUIDE):
            if block.language != "toml":
                text = block.text.replace("8630", str(port))
                printed.append(place.follow(guides.Block(block.language, block.verb, block.path, text)))
    finally:
        pid = tmp_path / "api.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False, capture_output=True)
    assert (stack.home / "api" / "tokens.toml").stat().st_mode & 0o777 == 0o600
    assert '{"status": "ok"}' in printed[1]
    page = json.loads(printed[4])
    # The ingest itself is on record too, as the newest.
    assert [event["event_type"] for event in page["events"]] == ["source_ended", "order_filled", "order_created"]
    assert (page["events"][1]["payload"]["fill_price"], page["next"]) == ("27000.5", None)
    assert [json.loads(line)["event_type"] for line in printed[5].splitlines()] == ["order_filled"]
    told, rest = printed[6], json.JSONDecoder()
    documents = []
    for _ in range(3):
        document, end = rest.raw_decode(told)
        documents.append(document)
        told = told[end:]
    chain, position, risk = documents
    assert [event["event_type"] for event in chain["events"]] == ["order_created", "order_filled"]
    assert [found["net_base"] for found in position["found"]] == ["0.01"]
    assert [found["fills"] for found in risk["positions"]] == [1]
    table, brace, health = told.rpartition('{"status"')
    counted = {row["event_type"]: row["n"] for row in csv.DictReader(table.splitlines())}
    assert counted == {"order_created": "1", "order_filled": "1", "source_ended": "1"}
    found = json.loads(brace + health)
    assert found["status"] == "ok"
    assert found["rows"]["events"] >= 2
    assert [partition["raw_partition"] for partition in found["partitions"]] == [0, 1, 2, 3]
    assert found["lag"] == sum(partition["behind"] for partition in found["partitions"])
    eventually(lambda: "stopped" in (tmp_path / "api.log").read_text(), 30, "it ends")


def test_a_port_in_use_is_told_in_a_line(stack: Tradetape, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = stack.run("api", "--tokens", str(tmp_path / "tokens.toml"), "--port", port, check=False)
    assert refused.returncode == 1
    assert b"--port" in refused.stderr
    assert refused.stderr.count(b"\n") == 1

"""The guides hold: each is followed step by step on a stack of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests import guides
from tests.support import eventually

pytestmark = pytest.mark.integration

GUIDES = guides.ROOT / "docs" / "guides"
COUNTED = guides.Block("bash", "", "", "tradetape query counts --param instance_name=my_turtle")


@pytest.mark.req("S2-06", "P-05")
@pytest.mark.timeout(420)
def test_add_an_event_type(tmp_path: Path) -> None:
    copy = guides.Copy(tmp_path)
    printed: list[str] = []
    try:
        for block in guides.blocks(GUIDES / "add-an-event-type.md"):
            if block.text.startswith("tradetape query tail"):
                stored = eventually(lambda: _payloads(copy), timeout=60)
                assert stored == [{"hedge_pair": "ETH-USDT", "ratio": "0.5", "desk": "alpha"}]
            printed.append(copy.follow(block))
    finally:
        copy.follow(guides.Block("bash", "", "", "tradetape down"))
    assert any("passed" in text for text in printed)
    assert any("PositionHedged" in text for text in printed)
    assert any("| `POSITION_HEDGED` | `position_hedged` |" in text for text in printed)


def _payloads(copy: guides.Copy) -> list[dict[str, str]]:
    """Payloads of the accepted events of the new type."""
    statement = "SELECT payload FROM tradetape.events WHERE event_type = 'position_hedged'"
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "sql", statement, "--output", "json"]
    done = subprocess.run(command, env=copy.environment, cwd=copy.folder, capture_output=True, check=True, timeout=60)
    return [json.loads(json.loads(line)["payload"]) for line in done.stdout.splitlines()]


@pytest.mark.req("S0-09", "P-07", "S2-02")
@pytest.mark.timeout(420)
def test_connect_a_bot(tmp_path: Path) -> None:
    copy = guides.Copy(tmp_path)
    printed: list[str] = []
    try:
        for block in guides.blocks(GUIDES / "connect-a-bot.md"):
            if block.text.startswith("tradetape query counts --param instance_name=my_bot"):
                eventually(lambda: "order_created" in copy.follow(COUNTED), timeout=60)
            printed.append(copy.follow(block))
    finally:
        copy.follow(guides.Block("bash", "", "", "tradetape down"))
    said = "\n".join(printed)
    assert "my_trend_bot" in said
    assert "signal_generated" in said
    assert "nothing new" in said, "the second connect found the place of the first"


@pytest.mark.req("S4-06")
@pytest.mark.timeout(420)
def test_limits_and_kill_switch(tmp_path: Path) -> None:
    copy = guides.Copy(tmp_path)
    printed: list[str] = []
    kills = guides.Block("bash", "", "", "tradetape query kills --output json")
    first = {"tradetape query findings": '"trigger":"limit"', "kill_id=$(tradetape query kills": '"acknowledged":1'}
    try:
        for block in guides.blocks(GUIDES / "limits-and-kill-switch.md"):
            for begin, wanted in first.items():
                if block.text.startswith(begin):
                    eventually(lambda wanted=wanted: wanted in copy.follow(kills), timeout=60)
            printed.append(copy.follow(block))
    finally:
        copy.follow(guides.Block("bash", "", "", "tradetape down"))
    said = "\n".join(printed)
    assert "2 limits hold in 4 partitions" in said
    assert "limit_breached" in said
    assert "stopped by open-orders" in said
    assert said.count("is reset") == 2

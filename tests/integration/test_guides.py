"""The guides hold: they are followed step by step, one after the other, on a stack that the first one starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests import guides
from tests.support import eventually

pytestmark = pytest.mark.integration

GUIDES = guides.ROOT / "docs" / "guides"
COUNTED = guides.Block("bash", "", "", "tradetape query counts --param instance_name=my_turtle")
DOWN = "tradetape down\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[guides.Copy]:
    """What the guides change and start; their last step is done once, after all of them."""
    found = guides.Copy(tmp_path_factory.mktemp("guides"))
    yield found
    found.follow(guides.Block("bash", "", "", DOWN))


def steps(guide: str) -> Iterator[guides.Block]:
    """The blocks of ``guide``, which ends with the stack."""
    *blocks, last = guides.blocks(GUIDES / guide)
    assert last.text.endswith(DOWN)
    yield from blocks
    yield replace(last, text=last.text.removesuffix(DOWN))


@pytest.mark.req("S2-06", "P-05")
@pytest.mark.timeout(420)
def test_add_an_event_type(copy: guides.Copy) -> None:
    printed: list[str] = []
    for block in steps("add-an-event-type.md"):
        if block.text.startswith("tradetape query tail"):
            stored = eventually(lambda: _payloads(copy), timeout=60)
            assert stored == [{"hedge_pair": "ETH-USDT", "ratio": "0.5", "desk": "alpha"}]
        printed.append(copy.follow(block))
    assert any("passed" in text for text in printed)
    assert any("PositionHedged" in text for text in printed)
    assert any("| `POSITION_HEDGED` | `position_hedged` |" in text for text in printed)


def _payloads(copy: guides.Copy) -> list[dict[str, str]]:
    """Payloads of the accepted events of the new type."""
    statement = "SELECT payload FROM tradetape.events WHERE event_type = 'position_hedged'"
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "sql", statement, "--output", "json"]
    done = subprocess.run(command, env=copy.environment, cwd=copy.folder, capture_output=True, check=True, timeout=60)
    return [json.loads(json.loads(line)["payload"]) for line in done.stdout.splitlines()]


@pytest.mark.req("S4-06")
@pytest.mark.timeout(420)
def test_limits_and_kill_switch(copy: guides.Copy) -> None:
    printed: list[str] = []
    kills = guides.Block("bash", "", "", "tradetape query kills --output json")
    first = {"tradetape query findings": '"trigger":"limit"', "kill_id=$(tradetape query kills": '"acknowledged":1'}
    for block in steps("limits-and-kill-switch.md"):
        for begin, wanted in first.items():
            if block.text.startswith(begin):
                eventually(lambda wanted=wanted: wanted in copy.follow(kills), timeout=60)
        printed.append(copy.follow(block))
    said = "\n".join(printed)
    assert "2 limits hold in 4 partitions" in said
    assert "limit_breached" in said
    assert "stopped by open-orders" in said
    assert said.count("is reset") == 2


@pytest.mark.req("S0-09", "P-07", "S2-02")
@pytest.mark.timeout(420)
def test_connect_a_bot(copy: guides.Copy) -> None:
    printed: list[str] = []
    for block in steps("connect-a-bot.md"):
        if block.text.startswith("tradetape query counts --param instance_name=my_bot"):
            eventually(lambda: "order_created" in copy.follow(COUNTED), timeout=60)
        printed.append(copy.follow(block))
    said = "\n".join(printed)
    assert "my_trend_bot" in said
    assert "signal_generated" in said
    assert "nothing new" in said, "the second connect found the place of the first"

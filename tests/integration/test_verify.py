"""What an auditor asks of a stack that is running: is all of it there, and does all of it follow?"""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner
from tests.crash.load import Load
from tests.crash.pipeline import Sender
from tests.integration.conftest import Tradetape

from tradetape.infra import completeness, settings
from tradetape.infra.cli import main as cli
from tradetape.schemas.registry import Registry
from tradetape.sinks.store import Store

pytestmark = pytest.mark.integration


@pytest.mark.req("P-06", "P-02")
def test_a_running_stack_verifies(stack: Tradetape) -> None:
    found = settings.load(stack.home)
    sender = Sender(found.bootstrap_servers)
    sender.send(Load(Registry(found.registry_url)).records(uuid.uuid4().int % 10**6, 100))
    sender.flush()
    assert completeness.wait_until_stored(Store(found.clickhouse_url), found.bootstrap_servers, 60) == 0
    done = CliRunner().invoke(cli.tradetape, ["--home", str(stack.home), "verify", "--output", "json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 0, answer
    assert answer["ok"] is True
    assert answer["portfolios"]["equal"] > 0
    assert answer["portfolios"]["not_compared"] == 0


@pytest.mark.req("P-11")
def test_nothing_is_missing(stack: Tradetape) -> None:
    assert "no verdict is missing" in stack.run("repair", "--check").stdout.decode()
    answer = json.loads(stack.run("repair", "--output", "json").stdout)
    assert answer == {"holes": {}, "repaired": []}

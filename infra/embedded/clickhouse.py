"""The ClickHouse engine (chDB) behind ClickHouse's HTTP protocol, on the loopback interface."""

from __future__ import annotations

import sys
from pathlib import Path

from tradetape.infra.embedded.component import Component, http_health
from tradetape.infra.stackfile import CLICKHOUSE, HOST, StackFile

_MODULE = "tradetape.infra.embedded.clickhouse_server"


def component(home: Path, stack: StackFile) -> Component:
    """The engine of ``home``, data in ``<home>/clickhouse``, on its port of ``stack``."""
    port = stack.ports[CLICKHOUSE]
    folder = home / "clickhouse"
    return Component(
        name=CLICKHOUSE,
        command=(sys.executable, "-m", _MODULE, "--path", str(folder), "--host", HOST, "--port", str(port)),
        # Views over archived files name them from here, so that a home may be moved.
        cwd=home,
        health=http_health(port, "/ping"),
        stop_timeout=20.0,
    )

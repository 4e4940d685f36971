"""Fixtures for all folders, how properties are looked for, and which tests share a process of ``pytest -n``."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.stores import postgres, valkey
from xdist.scheduler import LoadScopeScheduling

__all__ = ["postgres", "valkey"]

# Kafka lives for minutes here: optimizing it for longer costs more than it brings.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# A hundred processes are started here: none of them compiles again what another has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No example fails for the time it took.
settings.register_profile("tradetape", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tradetape")


SHARING = ("tests/crash/", "tests/integration/")
"""Folders whose tests share a stack; the longer one first."""

APART = frozenset(
    {
        "tests/crash/test_sink.py",
        *(
            f"tests/integration/test_{name}.py"
            for name in ("api", "api_fuzz", "archive", "clickhouse_server", "guides", "links")
        ),
        *(f"tests/integration/test_{name}.py" for name in ("named_queries", "queries", "recorder_outage", "repair")),
        *(f"tests/integration/test_{name}.py" for name in ("stack", "store", "travel")),
    }
)
"""Their files that start servers of their own."""


def scope_of(nodeid: str) -> str:
    """The folder or file whose tests stay in one process: a stack takes longer to start than most of them to run."""
    path = nodeid.partition("::")[0]
    return path if path in APART else next((folder for folder in SHARING if path.startswith(folder)), path)


ENDING = "tests/processors/"
"""Tests without a server that come after a stack: it ends when a test follows that is not of its folder."""


def place_of(scope: str) -> int:
    """Each process begins with a stack and ends it; what starts servers of its own comes next, and the rest fills up.

    A stack where nothing happens takes a tenth of a processor.
    """
    if scope in SHARING:
        return SHARING.index(scope)
    return len(SHARING) + (0 if scope.startswith(ENDING) else 1 if scope in APART else 2)


class ByServers(LoadScopeScheduling):
    """Shares tests out as ``scope_of`` says."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    """How ``pytest -n`` shares the tests out: in their order, not by how many a scope has."""
    config.option.loadscopereorder = False
    return ByServers(config, log)


FIRST = tuple(f"test_{name}.py" for name in ("consumer", "rebuild", "replay", "verify", "evolution", "hummingbot"))
"""Files that read topics or the store from their beginning: before those that fill them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which ``ByServers`` hands tests out."""
    items.sort(key=lambda item: (place_of(scope_of(item.nodeid)), _turn(item.path.name)))


def _turn(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)

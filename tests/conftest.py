"""Fixtures for all folders, how properties are looked for, and which tests share a process of ``pytest -n``."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.stores import postgres, valkey
from xdist.scheduler import LoadScopeScheduling

__all__ = ["postgres", "valkey"]

# Kafka lives for minutes here: optimizing it for longer costs more than it brings.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# No example fails for the time it took.
settings.register_profile("tradetape", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tradetape")


class ByServers(LoadScopeScheduling):
    """Tests that share a stack stay in one process: it takes longer to start than most of them to run."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in ("tests/integration/", "tests/crash/") if path.startswith(folder)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    """How ``pytest -n`` shares the tests out."""
    return ByServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Consumers read their topic from its beginning: their tests come before those that fill it."""
    items.sort(key=lambda item: item.path.name != "test_consumer.py")

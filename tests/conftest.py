"""Fixtures for all folders, how properties are looked for, and which tests share a process of ``pytest -n``."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from tests.stores import postgres, valkey

__all__ = ["postgres", "valkey"]

# No example fails for the time it took.
settings.register_profile("tradetape", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tradetape")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share servers stay together: a stack takes longer to start than most of them to run."""
    for item in items:
        folder = item.path.parent.name
        if folder in ("integration", "crash"):
            item.add_marker(pytest.mark.xdist_group(folder))
        elif {"postgres", "valkey"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("stores"))

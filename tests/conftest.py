"""Fixtures for all folders, and how properties are looked for: no example fails for the time it took."""

from hypothesis import HealthCheck, settings
from tests.stores import postgres, valkey

__all__ = ["postgres", "valkey"]

settings.register_profile("tradetape", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tradetape")

"""Fixtures for all folders."""

from tests.stores import postgres, valkey

__all__ = ["postgres", "valkey"]

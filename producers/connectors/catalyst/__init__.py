"""Catalyst's SQLite event store, followed while its bot writes."""

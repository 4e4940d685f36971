"""Hummingbot's trade database and its log."""

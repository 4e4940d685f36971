"""Versions that stored rows and state carry."""

CORE_VERSION = "5"
"""Version of the code that judges and folds; on every audited row and risk figure."""

STATE_VERSION = 4
"""Version of the layout of records of state; state of another version is rebuilt from the log."""

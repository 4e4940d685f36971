"""Versions that stored rows and state carry."""

CORE_VERSION = "3"
"""Version of the code that judges and folds; on every audited row and risk figure."""

STATE_VERSION = 2
"""Version of the layout in ``state.py``; state of another version is rebuilt from the log."""

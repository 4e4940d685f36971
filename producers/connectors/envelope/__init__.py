"""JSON lines of the canonical contract."""

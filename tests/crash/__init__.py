"""Processes killed with -9 on the embedded stack."""

"""Validation, correlation, lineage and running risk.

The core (``core.py`` and what it imports) is made of functions of (state, event): no I/O, no clock, no Faust. The
shell in ``stream/`` moves bytes and calls it.
"""

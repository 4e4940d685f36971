"""Simulated Quantum bots, in real Redis streams."""

"""Quantum's Redis streams, read by a consumer group."""

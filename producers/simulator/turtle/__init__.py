"""Simulated turtles, in real Postgres tables."""

"""Simulated Catalyst bots, in real SQLite event stores."""

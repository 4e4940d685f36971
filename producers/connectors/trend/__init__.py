"""Trend's ledger of JSON lines."""

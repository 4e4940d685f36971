"""A fleet that never was, in its native stores, with known defects: for demos and tests.

Everything follows from the seed: no clock, no other randomness. Prices walk in Decimal.
"""

from tradetape.producers.simulator.hummingbot import DDL, DEFECTS, simulate_hummingbot
from tradetape.producers.simulator.ledger import START_MS, Injected, Ledger
from tradetape.producers.simulator.lines import envelope_lines

__all__ = ["DDL", "DEFECTS", "START_MS", "Injected", "Ledger", "envelope_lines", "simulate_hummingbot"]

"""Builders of Turtle's contexts (S0-03): give the inputs, get inputs and results, computed exactly.

Every number that a rule derives is derived here, in Decimal, and rounded half-up to ``places`` decimals, together with
the calculation written out: what is recorded can be recomputed from what is recorded (S0-05). Prices and money are in
the quote asset, quantities in contracts; ``direction`` is LONG or SHORT; percents are in percent, ``risk_percent`` is
a fraction. Keys that a bot adds by name are kept. Numbers may be Decimal, int, float or text (``values.exact``); each
builder raises TradetapeError for what is none.
"""

from tradetape.producers.sdk.contexts.account import account_context, limits_context
from tradetape.producers.sdk.contexts.market import donchian_context, market_context, n_context
from tradetape.producers.sdk.contexts.orders import fast_market_context, gap_context, order_context
from tradetape.producers.sdk.contexts.positions import Unit, exit_context, position_context, pyramid_context
from tradetape.producers.sdk.contexts.signals import filter_context, signal_context, sizing_context

__all__ = [
    "Unit",
    "account_context",
    "donchian_context",
    "exit_context",
    "fast_market_context",
    "filter_context",
    "gap_context",
    "limits_context",
    "market_context",
    "n_context",
    "order_context",
    "position_context",
    "pyramid_context",
    "signal_context",
    "sizing_context",
]

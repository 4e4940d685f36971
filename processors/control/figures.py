"""The figures that a limit may hold: numbers of a risk figure, and what tells several of one bot apart."""

from __future__ import annotations

from collections.abc import Mapping

POSITION = ("connector_name", "trading_pair")
ACCOUNT = ("quote_asset",)
EQUITY = ("equity_asset",)
INSTANCE: tuple[str, ...] = ()

FIGURES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("net_base", "cost_quote", "realised_quote", "unrealised_quote"), POSITION),
    **dict.fromkeys(("exposure_gross", "exposure_net", "concentration"), ACCOUNT),
    **dict.fromkeys(("daily_pnl", "daily_pnl_pct", "consecutive_losses"), ACCOUNT),
    **dict.fromkeys(("equity", "drawdown_quote", "drawdown_pct"), EQUITY),
    **dict.fromkeys(("open_orders", "orders_1m", "orders_1h", "cancels_1m", "cancels_1h"), INSTANCE),
    **dict.fromkeys(("rejects_1m", "rejects_1h"), INSTANCE),
}
"""Field of tradetape.risk → the fields that name it, beside environment, account and instance."""

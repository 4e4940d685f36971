"""Live, paper, testnet and backtest never mix (P-02); where a source does not say, its connector's name does."""

from __future__ import annotations

LIVE = "live"


def of_connector(connector_name: str) -> str:
    """The environment that a connector's name stands for, e.g. ``bitget_paper_trade`` → ``paper``."""
    name = connector_name.lower()
    if "paper" in name:
        return "paper"
    if "testnet" in name or "sandbox" in name:
        return "testnet"
    if "backtest" in name:
        return "backtest"
    return LIVE

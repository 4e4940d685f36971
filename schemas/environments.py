"""Live, paper, testnet and backtest never mix (P-02); where a source does not say, its connector's name does."""

from __future__ import annotations

LIVE = "live"
PAPER = "paper"


def of_connector(connector_name: str) -> str:
    """The environment that a connector's name stands for, e.g. ``bitget_paper_trade`` → ``paper``."""
    name = connector_name.lower()
    if "paper" in name:
        return PAPER
    if "testnet" in name or "sandbox" in name:
        return "testnet"
    if "backtest" in name:
        return "backtest"
    return LIVE


def of_dry_run(environment: str, dry_run: object) -> str:
    """Where a decision of ``environment`` belongs: what was decided and not sent never counts as live (S0-02, P-02)."""
    return PAPER if dry_run is True and environment == LIVE else environment

"""One instrument table: what a bot calls a market becomes BASE-QUOTE (P-02)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

QUOTES = (
    "FDUSD",
    "USDT",
    "USDC",
    "BUSD",
    "TUSD",
    "USDD",
    "USD",
    "EUR",
    "GBP",
    "TRY",
    "BRL",
    "JPY",
    "DAI",
    "BTC",
    "ETH",
    "BNB",
)
"""Assets that symbols such as BTCUSDT end in, longest first: the first that fits is the quote."""

_SEPARATORS = re.compile(r"[-/_:]")
_SHORTEST_BASE = 2


@dataclass(frozen=True, slots=True)
class Instruments:
    """How the symbols of one source are read.

    ``named`` maps symbols to pairs and goes before every rule. ``quote`` is the asset that bare symbols (QQQ) are
    quoted in; empty where symbols carry their quote (BTCUSDT).
    """

    named: Mapping[str, str] = field(default_factory=dict)
    quote: str = ""

    def pair(self, symbol: str) -> str:
        """The pair of ``symbol``; the symbol itself where nothing tells its quote."""
        symbol = symbol.strip()
        if symbol in self.named:
            return self.named[symbol]
        upper = symbol.upper()
        parts = _SEPARATORS.split(upper, maxsplit=1)
        if len(parts) == 2 and all(parts):
            return f"{parts[0]}-{parts[1]}"
        if self.quote and upper:
            return f"{upper}-{self.quote}"
        for quote in QUOTES:
            if upper.endswith(quote) and len(upper) >= len(quote) + _SHORTEST_BASE:
                return f"{upper.removesuffix(quote)}-{quote}"
        return upper


def split(pair: str) -> tuple[str, str]:
    """Base and quote of a pair; the quote is empty where the pair names none."""
    base, _, quote = pair.partition("-")
    return base, quote

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

AMBIGUOUS = frozenset({"TUSD", "BUSD"})
"""Quotes that symbols in USD may end in by chance: BATUSD is BAT-USD, ADABUSD is ADA-BUSD."""

_BASES = """
AAVE ADA ALGO APE APT ARB ATOM AVAX BAT BCH BNB BTC CRV DAI DOGE DOT ETC ETH FIL FTM GRT HBAR ICP
INJ KSM LDO LINK LTC MATIC MKR NEAR OP PEPE SAND SHIB SNX SOL SUI TRX UNI USDC USDT WBTC XBT XLM XMR
XRP XTZ ZEC
"""

BASES = frozenset(_BASES.split())
"""Assets that decide such a case; where none of them fits, nothing tells the quote."""

_SEPARATORS = re.compile(r"[-/_:]")
_CONTRACT = re.compile(r"(?<=[A-Z0-9])(:[A-Z0-9]+(?:-[0-9]{6})?|[-_](?:PERP|SWAP|[0-9]{6}|[0-9]{8}))$")
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
        """The pair of ``symbol``; the symbol itself where nothing tells its quote.

        What names a contract stays with the base, so that it is not taken for the spot market: BTCUSD_PERP becomes
        BTC_PERP-USD.
        """
        symbol = symbol.strip()
        if symbol in self.named:
            return self.named[symbol]
        upper = symbol.upper()
        found = self._pair(upper)
        contract = _CONTRACT.search(upper)
        if contract is not None:
            base, quote = split(self._pair(upper[: contract.start()]))
            mark = contract[1].replace("-", "_")
            return f"{base}{mark}-{quote}" if quote and quote != self.quote else found
        return found

    def _pair(self, upper: str) -> str:
        parts = _SEPARATORS.split(upper, maxsplit=1)
        if len(parts) == 2 and all(parts) and (not self.quote or parts[1] in QUOTES or parts[1] == self.quote):
            return f"{parts[0]}-{parts[1]}"
        if self.quote and upper:
            return f"{_SEPARATORS.sub('.', upper)}-{self.quote}"
        endings = [quote for quote in QUOTES if upper.endswith(quote) and len(upper) >= len(quote) + _SHORTEST_BASE]
        if endings and endings[0] in AMBIGUOUS and len(endings) > 1:
            endings = [quote for quote in endings if upper.removesuffix(quote) in BASES]
        return f"{upper.removesuffix(endings[0])}-{endings[0]}" if endings else upper


def split(pair: str) -> tuple[str, str]:
    """Base and quote of a pair; the quote is empty where the pair names none."""
    base, _, quote = pair.partition("-")
    return base, quote

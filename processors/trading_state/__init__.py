"""Trend's TradingState: what a bot knows of itself, folded from its events alone (S2-03, S2-04, S1-11).

``observe`` folds one event, ``view`` shows the whole state under the document's names, ``as_json`` writes it.
"""

from tradetape.processors.trading_state.state import Changes, observe
from tradetape.processors.trading_state.view import as_json, view

__all__ = ["Changes", "as_json", "observe", "view"]

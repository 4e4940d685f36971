"""What every named query answers on the record of five bots, computed here, without ClickHouse."""

from tests.integration.expected import chains, decisions, figures, lookups, quality, turtle_rules
from tests.integration.expected.record import EXPECTED

__all__ = ["EXPECTED", "chains", "decisions", "figures", "lookups", "quality", "turtle_rules"]

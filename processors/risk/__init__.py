"""Running risk of the bots, folded event by event (P-02).

``figures.observe`` is the entry. Figures are kept per environment, account, instance and quote asset, and never mixed.
"""

from tradetape.processors.risk.figures import Figures, observe
from tradetape.processors.risk.keys import instance_key, order_key, position_key

__all__ = ["Figures", "instance_key", "observe", "order_key", "position_key"]

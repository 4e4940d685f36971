"""A bot that records through a spool, and writes a receipt of each event after ``record`` returned.

    python -m tests.crash.bot SPOOL RECEIPTS COUNT NAME

Records COUNT events, drains, and ends; 0 events only send what an earlier run left.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tradetape.producers.recorder import Recorder

DRAIN_SECONDS = 60.0


def main() -> None:
    """Record and drain. Raises TradetapeError where Kafka does not have all of it in the end."""
    spool, receipts, count, name = sys.argv[1:]
    recorder = Recorder(
        instance_name=name,
        producer="crash-bot",
        connector_name="kucoin",
        trading_pair="BTC-USDT",
        bootstrap_servers=os.environ["TRADETAPE_BOOTSTRAP_SERVERS"],
        registry_url=os.environ["TRADETAPE_REGISTRY_URL"],
        spool=Path(spool),
    )
    descriptor = os.open(receipts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in range(int(count)):
        recorded = recorder.order_created(
            client_order_id=f"{recorder.run_id}-{number}",
            side="buy",
            order_type="market",
            amount_base="0.1",
            is_live=True,
        )
        os.write(descriptor, f"{recorded.event_id}\n".encode())
    recorder.flush(DRAIN_SECONDS)
    recorder.close()


if __name__ == "__main__":
    main()

"""The bridge process: ``python -m tradetape.producers.bridge.main``.

Addresses come from the environment: TRADETAPE_BOOTSTRAP_SERVERS, TRADETAPE_REGISTRY_URL; TRADETAPE_KILL_REDIS is a
Redis (redis://host:port/db) whose consumers are to hear of kills. TRADETAPE_READY_FILE is created once it watches. One
bridge a cluster is enough; two write the same records.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event

from tradetape.producers.bridge.service import Bridge, Notify
from tradetape.schemas.errors import TradetapeError


def run() -> None:
    """Bridge until told to stop."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    bridge = Bridge(
        os.environ["TRADETAPE_BOOTSTRAP_SERVERS"],
        os.environ["TRADETAPE_REGISTRY_URL"],
        clock=time.time,
        notify=_listeners(os.environ.get("TRADETAPE_KILL_REDIS", "")),
    )
    ready_file = os.environ.get("TRADETAPE_READY_FILE")
    if ready_file:
        Path(ready_file).touch()
    try:
        while not stop.is_set():
            bridge.step()
    finally:
        bridge.close()


def _listeners(redis_url: str) -> tuple[Notify, ...]:
    if not redis_url:
        return ()
    from tradetape.producers.bridge.redis_stream import KillStream

    return (KillStream(redis_url),)


def main() -> None:
    """Entry point: a failure that a person can mend is one line and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        run()
    except TradetapeError as error:
        logging.getLogger(__name__).error("tradetape bridge: %s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

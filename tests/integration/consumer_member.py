"""A member in a process of its own, for tests that kill it: prints each event_id it is done with, then acknowledges.

Arguments: bootstrap servers, registry URL, group, prefix of the instance names.
"""

from __future__ import annotations

import sys
import threading

from tradetape.producers.consumer import Consumer, Message


def main(bootstrap_servers: str, registry_url: str, group: str, prefix: str) -> None:
    pause = threading.Event()

    def handle(message: Message) -> None:
        pause.wait(0.05)  # slow enough to be killed in the middle
        print(message.event_id, flush=True)

    with Consumer(
        group,
        bootstrap_servers=bootstrap_servers,
        registry_url=registry_url,
        session_timeout=6.0,
        prefetch=20,  # less than there is: fetching is paused when the second member comes
        filter=lambda message: message.instance_name.startswith(prefix),
    ) as consumer:
        consumer.run(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])

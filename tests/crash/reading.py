"""Takes one source in, as a program that is killed: it imports no more than it needs.

Arguments: Kafka, registry, the module of the connector, the id of the source, its location, the folder of its
checkpoints, its quote asset, records in a batch, and "follow" or nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from tradetape.producers.adapters.origin import Origin
from tradetape.producers.checkpoints import Checkpoints
from tradetape.producers.connectors import runner
from tradetape.producers.emitter import Emitter
from tradetape.schemas.instruments import Instruments

OPEN = "open\n"
"""What it prints when it is about to read."""


def origin(source_id: str, quote: str = "") -> Origin:
    """Whose the records of ``source_id`` are, for the reader and for an undisturbed reading."""
    return Origin(source_id, f"{source_id}-bot", "binance", source_id, instruments=Instruments(quote=quote))


def main() -> None:
    kafka, registry, module, source_id, location, folder, quote, batch, follow = sys.argv[1:]
    connector = import_module(f"tradetape.producers.connectors.{module}")
    checkpoints = Checkpoints(Path(folder))
    with Emitter(kafka, registry, ahead=False) as emitter:
        print(OPEN, end="", flush=True)
        source = connector.open_source(location, origin(source_id, quote), checkpoints.load(source_id))
        runner.run(source, emitter, checkpoints, follow=bool(follow), batch=int(batch), interval=0.01)


if __name__ == "__main__":
    main()

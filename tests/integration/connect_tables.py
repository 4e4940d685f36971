"""``tradetape`` with one more kind of store, ``table``: the SQLite table of the runner's tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.producers.tables import Table

from tradetape.infra import connect
from tradetape.infra.cli.main import run
from tradetape.producers.adapters.origin import Origin


def open_source(location: str, origin: Origin, saved: dict[str, Any] | None) -> Table:
    """The table in the file at ``location``."""
    return Table(Path(location), saved)


def fingerprint(location: str) -> str:
    """The name of the file."""
    return Path(location).stem


if __name__ == "__main__":
    sys.modules["tradetape.producers.connectors.table"] = sys.modules[__name__]
    connect.KINDS = {**connect.KINDS, "table": connect.Kind("table", "table")}
    sys.exit(run(sys.argv[1:]))

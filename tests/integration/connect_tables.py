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


def main() -> int:
    """Run the command line; returns its exit code."""
    sys.modules["tradetape.producers.connectors.table"] = sys.modules[__name__]
    kinds = connect.KINDS
    assert isinstance(kinds, dict)
    kinds["table"] = connect.Kind("table", "table")
    return run(sys.argv[1:])

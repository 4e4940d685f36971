"""What commands need that ask the store, or fold its records again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradetape.processors.reading import SchemaById
    from tradetape.sinks.store import Store


def open_store(home: Path) -> Store:
    """The store of ``home``. Raises TradetapeError where none is known."""
    from tradetape.infra import settings
    from tradetape.sinks.store import Store as ClickHouse

    return ClickHouse(settings.load(home, require=("clickhouse_url",)).clickhouse_url)


def open_record(home: Path) -> tuple[Store, SchemaById]:
    """The store, and the writer schemas by which its original bytes are read. Raises TradetapeError."""
    from tradetape.infra import settings
    from tradetape.schemas.registry import Registry
    from tradetape.sinks import raw_log
    from tradetape.sinks.store import Store as ClickHouse

    found = settings.load(home, require=("clickhouse_url", "registry_url"))
    return ClickHouse(found.clickhouse_url), raw_log.writer_schemas(Registry(found.registry_url))


@contextmanager
def progress() -> Iterator[Callable[[int, int, int], object]]:
    """A bar a partition on standard error where a person is watching."""
    import sys

    if not sys.stderr.isatty():
        yield lambda _partition, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[int, Any] = {}

        def update(partition: int, done: int, total: int) -> None:
            if partition not in tasks:
                tasks[partition] = bar.add_task(f"partition {partition}", total=total)
            bar.update(tasks[partition], completed=done)

        yield update

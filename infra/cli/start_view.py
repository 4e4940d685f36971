"""What ``tradetape up`` shows while components start: a live list on a terminal, a line each elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click

from tradetape.infra.embedded.status import HEALTHY, ComponentStatus


class StartView:
    """A context manager; ``update`` takes the latest states. Writes to standard error."""

    def __init__(self, *, interactive: bool | None = None) -> None:
        self._interactive = sys.stderr.isatty() if interactive is None else interactive
        self._began: float | None = None
        self._done: dict[str, float] = {}
        self._live: Any = None

    def __enter__(self) -> StartView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, components: tuple[ComponentStatus, ...]) -> None:
        """Show what changed."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        for component in components:
            if component.state == HEALTHY and component.name not in self._done:
                self._done[component.name] = now - self._began
                if not self._interactive:
                    click.echo(f"{component.name:<12} healthy after {now - self._began:.1f} s", err=True)
        if self._interactive and components:
            self._show(components)

    def _show(self, components: tuple[ComponentStatus, ...]) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=Console(stderr=True), refresh_per_second=10)
            self._live.start()
        table = Table.grid(padding=(0, 2))
        for component in components:
            done = self._done.get(component.name)
            mark = Text("✓", style="green") if component.state == HEALTHY else Spinner("dots")
            said = f"healthy after {done:.1f} s" if done is not None else f"{component.state} {component.detail}"
            table.add_row(mark, component.name, Text(said.strip()[:80]))
        self._live.update(table)

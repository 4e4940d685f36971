"""What a person sees while files are fetched and components start: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


class Progress:
    """Reports to standard error. Nothing here is safe to parse."""

    def __init__(self, *, interactive: bool | None = None) -> None:
        self._interactive = sys.stderr.isatty() if interactive is None else interactive
        self._bars: Any = None
        self._total: Any = None

    def note(self, text: str) -> None:
        """One line."""
        click.echo(text, err=True)

    @contextmanager
    def downloads(self, files: int, size: int) -> Iterator[None]:
        """Around the download of ``files`` files of ``size`` bytes together; inside it ``file`` may be used."""
        self.note(f"downloading {files} files, {size / 1e6:.0f} MB (once; they stay in the cache)")
        if not self._interactive:
            yield
            self.note("downloaded and verified")
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            self._bars, self._total = bars, bars.add_task("all files", total=size)
            try:
                yield
            finally:
                self._bars = None

    @contextmanager
    def file(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """Around one file of ``size`` bytes: a function that takes the number of bytes that arrived."""
        bars = self._bars
        if bars is None:
            yield lambda count: None
            return
        task = bars.add_task(name, total=size)

        def advance(count: int) -> None:
            bars.update(task, advance=count)
            bars.update(self._total, advance=count)

        try:
            yield advance
        finally:
            bars.remove_task(task)

"""Where the archive of a home lies, and as what ClickHouse sees it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import views
from tradetape.sinks.archive import Archive
from tradetape.sinks.store import Store

FOLDER = "archive"
"""Below the home, which is the embedded engine's working directory; a server looks below its user_files."""


def locate(home: Path, recorded: str, folder: Path | None = None, seen_as: str | None = None) -> tuple[Path, str]:
    """The folder, and ClickHouse's name for it; ``recorded`` is that name as the store has it, empty if it has none.

    Raises TradetapeError where only ClickHouse knows the folder.
    """
    own = home / FOLDER
    if folder is None:
        if recorded in ("", FOLDER):
            folder = own
        elif Path(recorded).is_absolute() and seen_as is None:
            folder = Path(recorded)
        else:
            raise TradetapeError(
                f"ClickHouse sees the archive as {recorded!r}", hint="say with --to where it lies here"
            )
    folder = folder.absolute()
    if seen_as is None:
        same = Path(recorded).is_absolute() or not recorded
        seen_as = FOLDER if folder == own else str(folder) if same else recorded
    return folder, seen_as


def open_archive(
    store: Store, home: Path, folder: Path | None = None, seen_as: str | None = None
) -> tuple[Archive, Path]:
    """The archive of ``home`` and its folder. Raises TradetapeError."""
    root, seen = locate(home, views.archive_folder(store), folder, seen_as)
    return Archive(store, root, seen), root


def check_day(before: date, today: date) -> str:
    """``before`` as a day of SQL. Raises TradetapeError where that day has not begun."""
    if before > today:
        raise TradetapeError(f"{before} has not begun", hint=f"give a day up to {today}, today in UTC")
    return before.isoformat()

"""What every native SQLite database needs: it is opened read-only beside its bot, and failures say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from tradetape.schemas.errors import TradetapeError

MAGIC = b"SQLite format 3\x00"


def check_file(path: Path, hint: str) -> None:
    """Raise TradetapeError, with ``hint`` on what to give instead, where ``path`` is no SQLite database."""
    try:
        if path.is_dir():
            raise TradetapeError(f"{path} is a folder", hint=hint)
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except FileNotFoundError:
        raise TradetapeError(f"{path} does not exist", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        said = error.strerror if isinstance(error, OSError) else error
        raise TradetapeError(f"{path} cannot be read ({said})", hint="check its name and its permissions") from error
    if not start:
        raise TradetapeError(f"{path} is empty", hint=hint)
    if start != MAGIC:
        raise TradetapeError(f"{path} is not an SQLite database", hint=hint)


def connect(path: Path, timeout: float, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """A read-only connection that waits ``timeout`` seconds for a lock; text that is not UTF-8 keeps its bytes."""
    # Not immutable=1: that would read past a bot's locks and its WAL.
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=check_same_thread
    )
    connection.text_factory = text
    return connection


def text(value: bytes) -> str:
    """Text of the database; bytes that are not UTF-8 become lone surrogates."""
    return value.decode("utf-8", "surrogateescape")


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """The declared type of each column of ``table``; empty where there is no such table."""
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")}


def explained(path: Path, error: sqlite3.Error) -> TradetapeError:
    """``error`` as one that says what to do about ``path``."""
    said = str(error)
    if "locked" in said or "busy" in said:
        return TradetapeError(f"{path} is locked by another program", hint="try again when it has committed")
    if "not a database" in said or "malformed" in said:
        return TradetapeError(f"{path} is no readable SQLite database ({said})", hint="restore it from a copy")
    if "full" in said:
        return TradetapeError(f"no room for a copy of {path} ({said})", hint="free the disk, or set TMPDIR")
    return TradetapeError(
        f"{path} cannot be read ({said})",
        hint="check the permissions of the file and its folder; a file that a crashed program left needs its -wal or "
        "-journal beside it in a folder that may be written",
    )
